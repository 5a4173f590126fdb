"""Rollouts: seen by everybody, changed by operators, asked once more, and written down."""

from __future__ import annotations

import pytest

from benchmarks.fleet_sizes import whole_rollout
from tests.walt_train.loop.web.client import Client, signed_in
from tests.walt_train.loop.web.filled import SMALL
from walt_edge.contract.topics import DeviceTopics
from walt_train.loop.publish.repository import Release
from walt_train.loop.rollout.model import State
from walt_train.loop.rollout.rollouts import Rollouts
from walt_train.loop.web.access.person import Role
from walt_train.loop.web.access.trail import Filter
from walt_train.loop.web.pages.asked import board_of
from walt_train.loop.web.queries import rollouts as asked
from walt_train.loop.web.site import Site

WHOLE = whole_rollout(SMALL)
NUMBERS = iter(range(10_000, 20_000))


@pytest.fixture(scope="module")
def viewer(filled: Site) -> Client:
    return signed_in(filled, Role.VIEWER)


@pytest.fixture(scope="module")
def operator(filled: Site) -> Client:
    return signed_in(filled, Role.OPERATOR)


@pytest.fixture
def fresh(filled: Site) -> int:
    """A rollout that waits."""
    number = next(NUMBERS)
    release = Release(number, f"fresh-{number}.walt", f"{number:064x}")
    made = table(filled).create(release, [DeviceTopics("north", "walt-fresh")], "test", name="<b>bold</b>")
    return made.id


def table(site: Site) -> Rollouts:
    assert site.rollouts is not None
    return site.rollouts


def test_the_list_tells_how_far_each_is(viewer: Client, filled: Site) -> None:
    page = viewer.get("/rollouts").text
    briefs = {one.id: one for one in asked.briefs(filled.engine)}
    assert briefs[WHOLE].members == briefs[WHOLE].told == SMALL.devices
    assert f'<a href="/rollouts/{WHOLE}">' in page
    assert "120 of 120" in page
    assert "No rollout is like that" in viewer.get("/rollouts?state=paused&camera=nobody").text


def test_a_list_goes_on_where_it_stopped(filled: Site) -> None:
    whole = [one.id for one in asked.briefs(filled.engine, limit=1000)]
    assert whole == sorted(whole, reverse=True)
    found: list[int] = []
    while page := asked.briefs(filled.engine, before=found[-1] if found else None, limit=4):
        found += [one.id for one in page]
    assert found == whole


def test_cohorts_are_shown_beside_the_control(viewer: Client, filled: Site) -> None:
    page = viewer.get(f"/rollouts/{WHOLE}").text
    for word in ("canary", "share", "rest", "control", "Told against control", "created"):
        assert word in page
    rollout = table(filled).read(WHOLE)
    signals = asked.signals(filled.engine, rollout, board_of(filled.engine).view(), filled.clock())
    age = next(one for one in signals if one.name.startswith("Age"))
    assert min(len(age.treated), len(age.control)) >= 20
    assert all(y is None or 38 <= y <= 46 for _, y in (*age.treated, *age.control))
    assert page.count('<figure class="chart">') == len(signals)


def test_a_viewer_sees_no_buttons_and_may_press_none(viewer: Client, filled: Site, fresh: int) -> None:
    assert f"/rollouts/{fresh}/pause" not in viewer.get(f"/rollouts/{fresh}").text
    assert viewer.get(f"/rollouts/{fresh}/pause").status == 403
    assert viewer.post(f"/rollouts/{fresh}/pause").status == 403
    assert table(filled).read(fresh).state is State.WAITING


def test_an_operator_pauses_resumes_and_aborts_without_script(operator: Client, filled: Site, fresh: int) -> None:
    path = f"/rollouts/{fresh}"
    for act, state in (("pause", State.PAUSED), ("resume", State.WAITING), ("abort", State.ROLLING_BACK)):
        assert f'href="{path}/{act}"' in operator.get(path).text
        ask = operator.get(f"{path}/{act}").text
        assert f'method="post" action="{path}/{act}"' in ask
        assert table(filled).read(fresh).state is not state, "asking does nothing"
        answer = operator.post(f"{path}/{act}", {"reason": "snow <on> the lens"})
        assert (answer.status, answer.headers["location"]) == (303, path)
        assert table(filled).read(fresh).state is state
        page = operator.get(path).text
        assert "is noted" in page
        assert "snow &lt;on&gt; the lens" in page
        line = filled.access.trail.newest(Filter(what=f"rollout.{act}"), 1)[0]
        assert (line.who, line.subject, line.outcome) == ("some-operator", f"rollout {fresh}", "done")
        assert line.detail == "snow <on> the lens"


def test_what_cannot_be_done_now_says_why(operator: Client, filled: Site, fresh: int) -> None:
    assert "It is waiting: that cannot be done" in operator.get(f"/rollouts/{fresh}/resume").text
    assert operator.post(f"/rollouts/{fresh}/resume").status == 303
    assert "expected paused for that" in operator.get(f"/rollouts/{fresh}").text
    line = filled.access.trail.newest(Filter(what="rollout.resume"), 1)[0]
    assert line.outcome == "failed"


def test_a_form_without_its_secret_changes_nothing(operator: Client, filled: Site, fresh: int) -> None:
    assert operator.post(f"/rollouts/{fresh}/pause", {"csrf": "x"}).status == 403
    assert table(filled).read(fresh).state is State.WAITING


@pytest.mark.parametrize(
    "path", ["/rollouts/99999999", "/rollouts/0", "/rollouts/9999999999999999999999", "/rollouts/1/no"]
)
def test_what_is_not_there_is_not_found(operator: Client, path: str) -> None:
    assert operator.get(path).status == 404


def test_a_name_is_escaped(viewer: Client, fresh: int) -> None:
    for page in (viewer.get("/rollouts").text, viewer.get(f"/rollouts/{fresh}").text):
        assert "<b>bold</b>" not in page
        assert "&lt;b&gt;bold&lt;/b&gt;" in page
