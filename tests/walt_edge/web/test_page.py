"""The page in a real browser: it draws, asks nobody else, complains of nothing, and fits every window."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.chromium import Browser, chromium
from tests.fakes.agent_view import FakeAgentView
from tests.waiting import wait_for
from walt_edge.web.server import WebServer
from walt_edge.web.settings import WebSettings

TOKEN = "a-token-of-good-length"
SHOWN = "document.querySelectorAll('.picture.shown').length"
OVERFLOW = "document.documentElement.scrollWidth > document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(autouse=True)
def quiet(browser: Browser) -> Iterator[None]:
    """No test leaves a complaint, or asks anybody but the agent."""
    browser.requests.clear()
    browser.complaints.clear()
    yield
    strangers = [url for url in browser.requests if not url.startswith(("http://127.0.0.1:", "blob:"))]
    browser.open("about:blank")
    assert strangers == []
    assert browser.complaints == []


def text(browser: Browser, selector: str) -> str:
    return str(browser.value(f"document.querySelector({selector!r}).innerText"))


def test_it_draws_the_live_view_and_the_figures(browser: Browser, local: str, tmp_path: Path) -> None:
    browser.size(1280, 900)
    browser.open(local)
    browser.wait(f"{SHOWN} === 2")
    browser.wait("document.getElementById('ready').textContent === 'ready'")
    told = " ".join(text(browser, "#invariant").replace("=", " = ").replace("+", " + ").split())
    assert told == "18,440 accepted = 18,231 acknowledged + 194 waiting + 12 dropped + 3 rejected"
    assert "faces=head-only" in text(browser, ".promise")
    assert "on probation" in text(browser, "#model-note")
    assert "neighbour" in text(browser, "#refused")
    assert "gate" in text(browser, ".camera h2")
    assert browser.value("document.title") == "WALT: walt-7f3a91"
    asked = {url.partition("?")[0] for url in browser.requests}
    assert {f"{local}live/gate", f"{local}live/yard", f"{local}api/figures"} <= asked


def test_layers_are_drawn_and_can_be_put_away(browser: Browser, local: str) -> None:
    browser.size(1280, 900)
    browser.open(local)
    browser.wait(f"{SHOWN} === 2")
    browser.value("import('/static/draw.js').then(m => { window.drawing = m; return 1 })")
    with_layers = drawn(browser, "{outlines: true, behind: true, names: true}")
    without = drawn(browser, "{}")
    assert (with_layers != without).mean() > 0.002
    browser.value("document.querySelector('[name=outlines]').click()")
    assert browser.value("localStorage.getItem('layer.outlines')") == "false"
    browser.open(local)
    browser.wait(f"{SHOWN} === 2")
    assert browser.value("document.querySelector('[name=outlines]').checked") is False
    browser.value("localStorage.clear()")


def drawn(browser: Browser, layers: str) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """The pixels of one frame, the first that was asked for, drawn with some layers."""
    encoded = browser.value(
        """(async () => {
          window.body ??= await (await fetch('/live/gate')).arrayBuffer();
          const {overlay, jpeg} = drawing.unpack(body);
          const canvas = document.createElement('canvas');
          drawing.draw(canvas, await createImageBitmap(jpeg), overlay, LAYERS);
          return canvas.toDataURL('image/png').split(',')[1];
        })()""".replace("LAYERS", layers)
    )
    data = np.frombuffer(base64.b64decode(encoded), np.uint8)
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)


@pytest.mark.parametrize("cameras", [1, 8])
def test_it_fits_every_window(browser: Browser, cameras: int) -> None:
    with (
        FakeAgentView([f"a-camera-with-a-rather-long-name-{n}" for n in range(cameras)]) as view,
        WebServer(view, WebSettings(port=0)) as server,
    ):
        browser.open(server.url)
        browser.wait(f"document.querySelectorAll('.camera').length === {cameras} && {SHOWN} >= 1")
        browser.value("document.querySelectorAll('details').forEach(one => one.open = true)")
        for width, height in ((320, 640), (768, 1024), (1000, 700), (1920, 1080)):
            browser.size(width, height)
            assert browser.value(OVERFLOW) is False, f"{cameras} cameras in {width}x{height}"
        browser.open("about:blank")


def test_light_and_dark_are_different_and_both_legible(browser: Browser, local: str) -> None:
    browser.open(local)
    browser.wait(f"{SHOWN} === 2")
    contrasts = []
    for is_dark in (False, True):
        browser.dark(is_dark)
        contrasts.append(browser.value(f"({CONTRAST})('.note', '.cards article')"))
    browser.dark(False)
    assert all(contrast >= 4.5 for contrast in contrasts), "WCAG 2 AA asks for 4.5:1"


CONTRAST = """(ink, ground) => {
  const light = (colour) => colour.match(/[\\d.]+/g).slice(0, 3).map(Number).map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const a = light(getComputedStyle(document.querySelector(ink)).color);
  const b = light(getComputedStyle(document.querySelector(ground)).backgroundColor);
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
}"""


def test_hostile_names_are_words_not_markup(browser: Browser, view: FakeAgentView, local: str) -> None:
    view.trouble = "<img src=x onerror=alert(1)>"
    try:
        browser.open(local)
        browser.wait("document.querySelector('#reasons li') !== null")
        assert "<img src=x" in text(browser, "#reasons")
        assert browser.value("document.querySelectorAll('#reasons img').length") == 0
    finally:
        view.trouble = ""


def test_nobody_is_asked_while_nobody_looks(browser: Browser, view: FakeAgentView, local: str) -> None:
    browser.open(local)
    browser.wait(f"{SHOWN} === 2")
    browser.open("about:blank")
    wait_for(lambda: not view.board.is_watched("gate"))


def test_a_person_signs_in(browser: Browser, guarded: str) -> None:
    browser.open(guarded)
    browser.wait("location.pathname === '/login' && document.readyState === 'complete'")
    browser.value(f"document.getElementById('token').value = '{TOKEN}'; document.querySelector('button').click()")
    browser.wait(f"location.pathname === '/' && {SHOWN} === 2")
    assert browser.value("document.cookie") == "", "no script can read the session"
    browser.value("document.querySelector('form button').click()")
    browser.wait("location.pathname === '/login'")
