"""Setting up, signing in and out in a real browser, light, dark and narrow; nothing is asked of anybody else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.chromium import Browser, chromium
from tests.walt_train.loop.web.client import PASSWORD, site_on
from walt_train.loop.store.store import Store
from walt_train.loop.web.access.person import Role
from walt_train.loop.web.app import make_app
from walt_train.loop.web.server import WebServer
from walt_train.loop.web.settings import WebSettings
from walt_train.loop.web.site import Site

PAGES = ("account", "people", "audit", "help")
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
# Of each text its contrast against what lies behind it (WCAG 2.2, 1.4.3); colours in whatever notation, by a canvas.
FAINT = """(() => {
  const pen = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgba = (colour) => {
    pen.clearRect(0, 0, 1, 1); pen.fillStyle = colour; pen.fillRect(0, 0, 1, 1);
    return [...pen.getImageData(0, 0, 1, 1).data];
  };
  const light = (rgb) => rgb.slice(0, 3).map(v => v / 255)
    .map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const behind = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const found = rgba(getComputedStyle(one).backgroundColor);
      if (found[3] > 250) return found;
    }
    return rgba('Canvas');
  };
  const faint = [];
  for (const element of document.querySelectorAll('body *')) {
    const own = [...element.childNodes].filter(node => node.nodeType === 3);
    const text = own.map(node => node.data.trim()).join(' ').trim();
    if (!text || !element.checkVisibility() || element.closest('.skip')) continue;
    const [a, b] = [light(rgba(getComputedStyle(element).color)), light(behind(element))].sort((x, y) => y - x);
    const contrast = (a + .05) / (b + .05);
    if (contrast < 4.5) faint.push(`${text.slice(0, 40)}: ${contrast.toFixed(2)}`);
  }
  return faint;
})()"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Store(tmp_path_factory.mktemp("store")) as store:
        yield site_on(store, settings=WebSettings(port=0, rate_per_s=1000.0, burst=10_000))


@pytest.fixture(scope="module")
def url(site: Site) -> Iterator[str]:
    with WebServer(make_app(site), site.settings) as server:
        yield server.url


@pytest.fixture(autouse=True)
def quiet(browser: Browser) -> Iterator[None]:
    """No test leaves a complaint, or asks anybody but us."""
    browser.requests.clear()
    browser.complaints.clear()
    yield
    # The browser draws its own date fields with `data:`, which is no request.
    strangers = [one for one in browser.requests if not one.startswith(("http://127.0.0.1:", "data:"))]
    browser.open("about:blank")
    assert strangers == []
    assert browser.complaints == []


def opened(browser: Browser, url: str, path: str, lands: str = "") -> None:
    browser.open(url + path)
    arrived(browser, "/" + (lands or path).partition("?")[0])


def arrived(browser: Browser, path: str) -> None:
    browser.wait(f"location.pathname === '{path}' && document.readyState === 'complete'")


def typed(browser: Browser, button: str, **fields: str) -> None:
    """Fills fields by their ids and presses a button."""
    for name, text in fields.items():
        browser.value(f"document.getElementById({name!r}).value = {text!r}")
    browser.value(f"document.querySelector({button!r}).click()")


def said(browser: Browser, selector: str) -> str:
    return str(browser.value(f"document.querySelector({selector!r})?.innerText ?? ''"))


def test_from_the_set_up_token_to_a_sign_in(browser: Browser, site: Site, url: str) -> None:
    token = site.first.offer()
    assert token is not None
    browser.size(1280, 800)
    opened(browser, url, "account", lands="setup")
    typed(browser, ".door button", token=token, name="ann", password=PASSWORD, again=PASSWORD)
    arrived(browser, "/fleet")
    assert said(browser, ".account summary") == "ann admin"
    assert browser.value("document.cookie") == "", "no script can read a session"
    browser.value("document.querySelector('#account').open = true")
    browser.value("document.querySelector('form[action=\"/sign-out\"] button').click()")
    arrived(browser, "/sign-in")
    opened(browser, url, "audit?who=ann", lands="sign-in")
    typed(browser, ".door button", name="ann", password=PASSWORD)
    arrived(browser, "/audit")
    assert browser.value("location.search") == "?who=ann", "one comes to where one wanted to go"
    assert "sign-in" in said(browser, "tbody")


def test_a_form_with_another_s_secret_is_refused(browser: Browser, site: Site, url: str) -> None:
    opened(browser, url, "people")
    browser.value("document.querySelectorAll('input[name=csrf]').forEach(one => { one.value = '0'.repeat(64) })")
    typed(browser, "main > section form button", name="eve", password=PASSWORD)
    browser.wait("document.querySelector('h1')?.innerText === 'Forbidden'")
    assert "reload, try again" in said(browser, "main")
    assert [one.name for one in site.access.people.all()] == ["ann"]
    told = [one for one in browser.complaints if "403" in one]
    assert len(told) == len(browser.complaints) == 1
    browser.complaints.clear()


@pytest.mark.parametrize("is_dark", [False, True])
def test_every_text_can_be_read_and_fits_a_phone(browser: Browser, site: Site, url: str, is_dark: bool) -> None:
    for name in ("bob", "a.very-long.name-indeed@department.example.org"):
        if name not in {one.name for one in site.access.people.all()}:
            site.access.people.add(name, Role.VIEWER, PASSWORD)
    site.access.trail.note("eve", "sign-in", "x" * 150, detail="y" * 400, outcome="failed", address="2001:db8::1")
    browser.dark(is_dark)
    for width in (1280, 360):
        browser.size(width, 740)
        for page in PAGES:
            opened(browser, url, page)
            assert browser.value(FAINT) == [], (page, width)
            assert browser.value(OVERFLOW) == 0, (page, width)
    browser.dark(False)


def test_the_menu_folds_on_a_phone_without_a_script(browser: Browser, url: str) -> None:
    shown = "document.querySelector('.bar nav').checkVisibility()"
    browser.size(1280, 740)
    opened(browser, url, "help")
    assert browser.value(shown)
    browser.size(360, 740)
    browser.wait(f"!{shown}")
    browser.value("document.querySelector('.bar > button').click()")
    browser.wait(shown)
    assert browser.value("document.querySelector('.bar > button').hasAttribute('popovertarget')")
    browser.size(1280, 740)


def test_the_switch_is_kept_and_changes_the_page(browser: Browser, url: str) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    opened(browser, url, "help")
    light = browser.value(ground)
    browser.value("document.querySelector('.theme button[value=dark]').click()")
    browser.wait("document.documentElement?.dataset.theme === 'dark'")
    arrived(browser, "/help")
    assert browser.value(ground) != light
    browser.dark(True)
    dark = browser.value(ground)
    browser.value("document.querySelector('.theme button[value=light]').click()")
    browser.wait("document.documentElement?.dataset.theme === 'light'")
    assert browser.value(ground) == light != dark
    browser.dark(False)
    browser.value("document.querySelector('.theme button[value=\"\"]').click()")
    browser.wait("document.documentElement?.dataset.theme === undefined")


def test_keys_lead_through_the_pages(browser: Browser, url: str) -> None:
    opened(browser, url, "help")
    press = "document.dispatchEvent(new KeyboardEvent('keydown', {{key: '{}', bubbles: true}}))"
    press = press.replace("document.dispatch", "document.body.dispatch")
    browser.value(press.format("g"))
    browser.value(press.format("a"))
    arrived(browser, "/audit")
    browser.value(press.format("/"))
    assert browser.value("document.activeElement.id") == "who"
    browser.value("document.activeElement.blur()")
    browser.value(press.format("?"))
    arrived(browser, "/help")
    browser.value("document.querySelector('#account').open = true")
    browser.value(press.format("Escape"))
    assert browser.value("document.querySelector('#account').open") is False
    assert browser.value("document.activeElement.tagName") == "SUMMARY"


def test_the_focus_is_seen_and_content_is_one_step_away(browser: Browser, url: str) -> None:
    opened(browser, url, "account")
    browser.value("document.querySelector('.skip').focus()")
    browser.wait("document.querySelector('.skip').getBoundingClientRect().top >= 0")
    assert browser.value("document.querySelector(document.querySelector('.skip').hash).tagName") == "MAIN"
    unnamed = """[...document.querySelectorAll('input:not([type=hidden]):not([hidden]), select, button')]
      .filter(one => !(one.labels?.length || one.ariaLabel || one.textContent.trim())).map(one => one.outerHTML)"""
    for page in PAGES:
        opened(browser, url, page)
        assert browser.value(unnamed) == [], page
