"""Looking through crops, rejecting them and taking that back, by forms and by keys."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from sqlalchemy import select

from tests.walt_train.loop.serve.loop import Loop, crop, fill, truth
from tests.walt_train.loop.web.client import Client, signed_in, site_on
from tests.walt_train.loop.web.looking import looking
from walt_edge.contract.topics import Kind
from walt_train.loop.labels.rejections import reject
from walt_train.loop.labels.tables import rejections
from walt_train.loop.store.store import Store
from walt_train.loop.web.access.person import Role
from walt_train.loop.web.access.tables import audit_log
from walt_train.loop.web.settings import WebSettings

IDS = [crop(number).id for number in range(5)]
START_US = crop(0).envelope.header.captured.utc_us


def rejected(store: Store) -> set[str]:
    with store.engine.connect() as connection:
        return set(connection.scalars(select(rejections.c.crop)))


def audited(store: Store) -> list[tuple[str, str, str]]:
    with store.engine.connect() as connection:
        columns = (audit_log.c.what, audit_log.c.outcome, audit_log.c.who)
        return [tuple(row) for row in connection.execute(select(*columns)) if row.what.startswith("crop")]


def shown(page: str) -> list[str]:
    return re.findall(r'data-id="([0-9a-f]{64})"', page)


@pytest.fixture
def own(empty: Store) -> Store:
    fill(empty, numbers=range(5))
    return empty


@pytest.fixture
def operator(own: Store) -> Client:
    return signed_in(site_on(own), Role.OPERATOR)


def test_pages_follow_one_another(empty: Store) -> None:
    fill(empty, numbers=range(60))
    client = signed_in(site_on(empty), Role.VIEWER)
    first = client.get("/clipart").text
    [path] = re.findall(r'href="(/clipart\?[^"]*)" rel="next"', first)
    second = client.get(path.replace("&amp;", "&")).text
    assert (len(shown(first)), len(shown(second))) == (48, 12)
    assert shown(first) + shown(second) == empty.ids(Kind.CROP)[::-1]
    assert 'rel="next"' not in second
    assert "First page" in second


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ("state=rejected", [1]),
        ("state=free", [4, 3, 2, 0]),
        ("label=vehicle", [3, 1]),
        ("camera=nowhere", []),
        ("device=walt-test&boot=boot-test&track=2", [2]),
        ("from=0.95", []),
        ("side=33", []),
        # Whatever stands there, a page comes back.
        (
            "sort=none&from=nan&to=9&side=-1&since=yesterday&after=rubbish&state=x&label=dog&track=1e9",
            [4, 3, 2, 1, 0],
        ),
        ("since=0001-01-01T00:00&until=9999-12-31T23:59", [4, 3, 2, 1, 0]),
        ("after=WzEsImEiLCJiIl0", []),
    ],
)
def test_filters(own: Store, operator: Client, query: str, numbers: list[int]) -> None:
    reject(own.engine, [IDS[1]], "tom", "two people")
    answer = operator.get(f"/clipart?{query}")
    assert (answer.status, shown(answer.text)) == (200, [IDS[number] for number in numbers])


def test_without_scripts_forms_do_it(own: Store, operator: Client) -> None:
    answer = operator.post(
        "/clipart/reject", {"crop": IDS[:2], "reason": "<b>fog</b>", "where": "/clipart?camera=cam-1"}
    )
    assert answer.status == 303
    path = answer.headers["location"]
    assert re.fullmatch(r"/clipart\?camera=cam-1&act=\d+", path)
    page = operator.get(path).text
    assert "2 crops rejected: they train no more." in page
    assert rejected(own) == set(IDS[:2])
    act = re.search(r'name="at_us" value="(\d+)"', page)
    assert act is not None
    assert operator.post("/clipart/undo", {"crop": IDS[:1]}).status == 303
    assert rejected(own) == {IDS[1]}
    assert "&lt;b&gt;fog&lt;/b&gt;" in operator.get(f"/clipart/{IDS[1]}").text
    assert operator.post("/clipart/undo-act", {"at_us": act[1]}).status == 303
    assert rejected(own) == set()
    acts = [("crop.reject", "done"), ("crop.undo", "done"), ("crop.undo", "done")]
    assert audited(own) == [(*one, "some-operator") for one in acts]


def test_all_of_a_track_or_an_hour(own: Store, operator: Client) -> None:
    page = operator.get(f"/clipart/{IDS[0]}").text
    track, hour = re.findall(r'name="what" value="([^"]*)"', page)
    assert operator.post("/clipart/reject-all", {"what": track}).status == 303
    assert rejected(own) == {IDS[0]}
    assert operator.post("/clipart/reject-all", {"what": hour, "reason": "fog"}).status == 303
    assert rejected(own) == set(IDS)
    wide = operator.post("/clipart/reject-all", {"what": "camera=cam-1"})
    assert "of all times" in operator.get(wide.headers["location"]).text


def test_who_looks_may_not_change(own: Store) -> None:
    viewer = signed_in(site_on(own), Role.VIEWER)
    page = viewer.get("/clipart").text
    assert len(shown(page)) == 5
    assert "Reject" not in page + viewer.get(f"/clipart/{IDS[0]}").text
    for act in ("reject", "undo", "reject-all", "undo-act"):
        form = {"crop": IDS[0], "what": "camera=cam-1", "at_us": "1"}
        assert viewer.post(f"/clipart/{act}", form).status == 403
    assert rejected(own) == set()
    assert Client(viewer._app).get("/clipart").status in (303, 401)


@pytest.mark.parametrize(
    "form",
    [{}, {"crop": "rubbish"}, {"crop": ["0" * 64] * 501}, {"crop": IDS[0], "reason": "x" * 501}],
)
def test_what_is_no_wish(own: Store, operator: Client, form: dict[str, object]) -> None:
    assert operator.post("/clipart/reject", form).status in (400, 422)
    assert rejected(own) == set()


def test_it_never_leads_elsewhere(own: Store, operator: Client) -> None:
    for where in ("https://elsewhere.example/clipart", "//elsewhere.example", "/clipart//elsewhere.example", "/\\x"):
        answer = operator.post("/clipart/undo", {"crop": IDS[0], "where": where})
        assert answer.headers["location"] == "/clipart"


def test_a_crop_tells_who_learned_from_it(tmp_path: Path) -> None:
    with Loop(tmp_path) as loop:
        loop.truths = {"cam-1": truth(tmp_path / "truth")}
        fill(loop.store)
        loop.worker().run()
        client = signed_in(site_on(loop.store, home=loop.home), Role.OPERATOR)
        page = client.get(f"/clipart/{IDS[0]}").text
        assert 'href="/runs/cam-1/1">cam-1 generation 1</a>' in page
        assert "which test/walt-test run" in page or "runs on test/walt-test" in page
        told = client.post("/clipart/reject", {"crop": IDS[0]}, accept="application/json").json
        assert told["said"].startswith("1 crop rejected: they train no more. Models that know them already keep")
    assert client.get("/clipart/" + "0" * 64).status in (404, 503)


@pytest.mark.slow
def test_keys_reject_and_undo(own: Store, tmp_path: Path) -> None:
    site = site_on(own, settings=WebSettings(port=0))
    with looking(site, Role.OPERATOR, tmp_path) as view:
        browser = view.browser
        view.open("clipart")
        browser.wait("[...document.images].every(one => one.complete && one.naturalWidth > 0)")
        view.key("ArrowRight")
        view.key("ArrowRight")
        view.key("x")
        browser.wait("document.querySelectorAll('.tile.rejected').length === 1")
        assert rejected(own) == {IDS[3]}
        assert browser.value("document.getElementById('told').textContent").startswith("1 crop rejected")
        view.key("u")
        browser.wait("document.querySelectorAll('.tile.rejected').length === 0")
        assert rejected(own) == set()
        # Several at once.
        view.key("s")
        view.key("ArrowRight")
        view.key("s")
        view.key("x")
        browser.wait("document.querySelectorAll('.tile.rejected').length === 2")
        assert rejected(own) == {IDS[3], IDS[2]}
        view.key(" ")
        browser.wait(f"location.pathname === '/clipart/{IDS[2]}' && document.readyState === 'complete'")
        view.key("u")
        browser.wait("document.querySelector('.badge.good') !== null && document.readyState === 'complete'")
        assert rejected(own) == {IDS[3]}
        for path in ("clipart", f"clipart/{IDS[0]}", "clipart?since=2020-01-01T00:00"):
            view.open(path, 360, 740)
            assert not view.is_wide
        view.must_be_content()
