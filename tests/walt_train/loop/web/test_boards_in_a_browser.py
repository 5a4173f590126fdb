"""Pages of fleet, cameras, rollouts and runs in a real browser: no complaint, no stranger, keys alone, any width."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from benchmarks.fleet_filling import telemetry
from benchmarks.fleet_sizes import Size, camera_name, who
from tests.walt_train.loop.web.filled import fill_site
from tests.walt_train.loop.web.looking import Looking, looking
from walt_edge.contract.topics import DeviceTopics
from walt_train.loop.fleet.fleet import Fleet
from walt_train.loop.fleet.keeping import Keeper
from walt_train.loop.rollout.model import State
from walt_train.loop.store.store import Store
from walt_train.loop.web.access.person import Role
from walt_train.loop.web.site import Site

TINY = Size(devices=60, crops=0, pictured=2, envelopes=24, watched=1, generations=24, rollouts=4)
NEWEST = 4
PAGES = (
    "fleet",
    "fleet?kind=offline",
    f"cameras/{camera_name(0)}",
    "rollouts",
    f"rollouts/{NEWEST}",
    f"rollouts/{NEWEST}/pause",
    "runs",
    f"runs/{camera_name(1)}/12",
    "api",
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("browser")
    with Store(folder / "store") as store:
        yield fill_site(store, folder / "home", TINY)


@pytest.fixture(scope="module")
def eyes(home: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Looking]:
    with looking(home, Role.OPERATOR, tmp_path_factory.mktemp("profile")) as eyes:
        yield eyes


@pytest.mark.parametrize("path", PAGES)
def test_a_page_complains_of_nothing_and_fits_every_width(eyes: Looking, path: str) -> None:
    for width in (360, 768):
        eyes.open(path, width)
        assert not eyes.is_wide, f"{path} scrolls sideways at {width}"
    eyes.must_be_content()


@pytest.mark.parametrize("is_dark", [False, True])
@pytest.mark.parametrize("path", PAGES[:8])
def test_words_stand_out_from_their_ground(eyes: Looking, path: str, is_dark: bool) -> None:
    eyes.browser.dark(is_dark)
    eyes.open(path)
    faint = eyes.browser.value(_CONTRAST)
    assert faint == [], "contrast below 4.5 to 1"
    eyes.browser.dark(False)


def test_the_fleet_is_walked_through_by_keys_alone(eyes: Looking) -> None:
    eyes.open("fleet?sort=name")
    eyes.browser.value("document.getElementById('sort-name').focus()")
    met = []
    for _ in range(12):
        eyes.key("Tab")
        met.append(eyes.browser.value("document.activeElement.id || document.activeElement.textContent.trim()"))
    rows = [one for one in met if one.startswith("row-")]
    assert len(rows) >= 4
    assert rows == eyes.browser.value(
        f"[...document.querySelectorAll('[id^=row-]')].slice(0, {len(rows)}).map(r => r.id)"
    )
    name = eyes.browser.value("document.activeElement.textContent")
    eyes.key("Enter")
    eyes.browser.wait(f"document.querySelector('h1')?.textContent.includes({name!r})")


def test_a_rollout_is_paused_by_keys_alone(eyes: Looking, home: Site) -> None:
    assert home.rollouts is not None
    eyes.open(f"rollouts/{NEWEST}")
    eyes.browser.value("document.getElementById('act-pause').focus()")
    eyes.key("Enter")
    eyes.browser.wait("document.activeElement?.id === 'reason'")
    for letter in "snow":
        eyes.key(letter)
    eyes.key("Tab")
    assert eyes.browser.value("document.activeElement.id") == "do"
    eyes.browser.value("document.activeElement.click()")
    eyes.browser.wait("document.querySelector('.said')?.textContent.includes('is noted')")
    found = home.rollouts.read(NEWEST)
    assert (found.state, found.detail) == (State.PAUSED, "paused by some-operator: snow")
    eyes.must_be_content()


def test_the_fleet_lives_without_a_reload_and_without_losing_the_place(eyes: Looking, home: Site) -> None:
    eyes.open("fleet?q=0007")
    row = eyes.browser.value("document.querySelector('[id^=row-]').id")
    eyes.browser.value("document.querySelector('.alert').open = true")
    eyes.browser.value(f"document.getElementById({row!r}).focus(); window.isOld = true")
    clock, keeper, fleet = home.clock, Keeper(home.engine, "filling", 60), Fleet()
    clock.pass_(120)  # type: ignore[attr-defined]
    assert keeper.acquire(clock())
    told = msgspec.structs.replace(telemetry(7, clock()), crops_chosen=54_321)
    fleet.take(DeviceTopics(*who(7)[:2]).telemetry, msgspec.json.encode(told), clock())
    for part in fleet.batch.parts():
        keeper.write(part, clock())
    # As if somebody came back to the page again and again; otherwise it looks every ten seconds.
    eyes.browser.wait(
        "(document.dispatchEvent(new Event('visibilitychange')), "
        r"/54.321/.test(document.querySelector('td[data-head=Crops]').textContent))"
    )
    assert eyes.browser.value("window.isOld"), "nothing was loaded anew"
    assert eyes.browser.value("document.activeElement.id") == row
    assert eyes.browser.value("document.querySelector('.alert').open")
    eyes.must_be_content()


_CONTRAST = """
(() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return canvas.getImageData(0, 0, 1, 1).data;
  };
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, n) => sum + c * [0.2126, 0.7152, 0.0722][n], 0);
  const ground = (node) => {
    for (let one = node; one; one = one.parentElement) {
      const found = rgba(getComputedStyle(one).backgroundColor);
      if (found[3] > 250) return found;
    }
    return [255, 255, 255, 255];
  };
  const faint = new Set();
  for (const node of document.querySelectorAll("main *, header *")) {
    const own = [...node.childNodes].some((one) => one.nodeType === 3 && one.textContent.trim());
    const box = node.getBoundingClientRect();
    if (!own || !box.width || node.closest("option, select, [disabled]")) continue;
    const style = getComputedStyle(node);
    const ink = light(rgba(node.closest("svg") ? style.fill : style.color)), paper = light(ground(node));
    const ratio = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
    if (ratio < 4.5) faint.add(`${node.tagName}.${node.getAttribute("class")}: ${ratio.toFixed(2)}`);
  }
  return [...faint];
})()
"""
