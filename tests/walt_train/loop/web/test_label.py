"""Drawing on frames: what the server takes and refuses, and a person with a mouse, keys or a phone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from tests.waiting import wait_for
from tests.walt_train.loop.labels.frames import drawing, fill_frames, frame, outline
from tests.walt_train.loop.scene import CAR, WALKER
from tests.walt_train.loop.web.client import Answer, Client, signed_in, site_on
from tests.walt_train.loop.web.looking import Looking, looking
from walt_train.loop.gate.holdout import read_holdout
from walt_train.loop.labels.drawn import Drawings
from walt_train.loop.labels.tables import label_drafts
from walt_train.loop.store.store import Store
from walt_train.loop.web.access.person import Role
from walt_train.loop.web.access.tables import audit_log
from walt_train.loop.web.settings import WebSettings
from walt_train.loop.web.site import Site

ONE = frame(0).id


@pytest.fixture
def desk(empty: Store, tmp_path: Path) -> Site:
    fill_frames(empty, 3)
    return site_on(empty, home=tmp_path / "home", settings=WebSettings(port=0))


@pytest.fixture
def ann(desk: Site) -> Client:
    return signed_in(desk, Role.OPERATOR, "ann")


def send(client: Client, act: str, data: str | bytes, frame_id: str = ONE) -> Answer:
    headers = {"content_type": "application/octet-stream", "x_csrf_token": client.csrf, "accept": "application/json"}
    body = data.encode() if isinstance(data, str) else data
    return client.ask("POST", f"/label/{frame_id}/{act}", body, headers)


def finished(site: Site) -> list[tuple[str, str]]:
    return [(one.by, one.state) for one in Drawings(site.engine).newest("cam-1")]


def test_from_frame_to_frame_to_truth(desk: Site, ann: Client) -> None:
    assert "cam-1" in ann.get("/label").text
    first = ann.post("/label/next", {"camera": "cam-1"}).headers["location"]
    assert first == f"/label/{ONE}"
    assert 'data-mine="yes"' in ann.get(first).text
    assert send(ann, "draft", drawing(0, [CAR])).status == 200
    assert "&#34;vehicle&#34;" in ann.get(first).text
    told = send(ann, "done", drawing(0))
    assert told.json["next"] == f"/label/{frame(2).id}"
    assert finished(desk) == [("ann", "done")]
    copied = ann.get(f"/label/{frame(2).id}/before").json
    assert [one["track"] for one in copied["things"]] == [CAR.track, WALKER.track]
    assert ann.post(f"/label/{frame(2).id}/skip").headers["location"] == f"/label/{frame(1).id}"
    answer = ann.post("/label/export", {"camera": "cam-1"})
    assert "1 frames with 2 objects, frozen as truth" in ann.get(answer.headers["location"]).text
    assert desk.home is not None
    [folder] = (desk.home / "holdouts").iterdir()
    assert read_holdout(folder).made_by == "ann"
    with desk.engine.connect() as connection:
        acts = [one for one in connection.scalars(select(audit_log.c.what)) if one.startswith("label")]
    assert acts == ["label.done", "label.skip", "label.export"]


def test_two_do_not_draw_the_same(desk: Site, ann: Client) -> None:
    tom = signed_in(desk, Role.OPERATOR, "tom")
    ann.get(f"/label/{ONE}")
    assert "Somebody else draws on this frame now" in tom.get(f"/label/{ONE}").text
    refused = send(tom, "done", drawing(0))
    assert (refused.status, refused.json["said"].partition(":")[0]) == (
        409,
        "somebody else works on this frame by now",
    )
    assert tom.post("/label/next", {"camera": "cam-1"}).headers["location"] != f"/label/{ONE}"
    ann.post(f"/label/{ONE}/leave")
    assert send(tom, "done", drawing(0)).status == 200
    # Who draws it as the second does not see what the first drew.
    page = ann.get(f"/label/{ONE}").text
    assert "tom: version 1, done" in page
    assert 'data-drawing=""' in page


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("nonsense", "not a drawing"),
        (b"\xff\xfe\x00", "not a drawing"),
        (drawing(0).replace("640", "641"), "load the page again"),
        (drawing(0).replace('"vehicle"', '"<script>"'), "not a drawing"),
    ],
)
def test_a_browser_is_believed_in_nothing(desk: Site, ann: Client, data: str | bytes, words: str) -> None:
    for act in ("draft", "done"):
        answer = send(ann, act, data)
        assert (answer.status, words in answer.json["said"]) == (400, True)
    with desk.engine.connect() as connection:
        assert connection.execute(select(label_drafts)).all() == []
    assert finished(desk) == []


def test_what_may_not_be_drawn_on(desk: Site, ann: Client) -> None:
    desk.store.add_group([frame(9, holdout=False)])
    for name in (frame(9, holdout=False).id, "0" * 64, "rubbish"):
        assert ann.get(f"/label/{name}").status == 404
        assert send(ann, "done", drawing(0), name).status == 404
    viewer = signed_in(desk, Role.VIEWER)
    assert viewer.get("/label").status == viewer.get(f"/label/{ONE}").status == 403
    assert send(viewer, "done", drawing(0)).status == 403
    assert ann.post("/label/export", {"camera": "../../etc"}).status == 404
    told = ann.post("/label/export", {"camera": "cam-1"})
    assert "Nothing was written: nobody finished a frame" in ann.get(told.headers["location"]).text


# -- in a real browser


@contextmanager
def drawing_board(site: Site, folder: Path) -> Iterator[Looking]:
    with looking(site, Role.OPERATOR, folder, "ann") as view:
        view.open(f"label/{ONE}")
        view.browser.wait("document.querySelector('#board image').getBBox().width > 0")
        yield view


def on_screen(view: Looking, x: float, y: float) -> tuple[float, float]:
    """Where a pixel of the frame is in the window."""
    told = view.browser.value(
        f"(() => {{ const p = new DOMPoint({x}, {y}).matrixTransform("
        "document.getElementById('board').getScreenCTM()); return [p.x, p.y]; })()"
    )
    return float(told[0]), float(told[1])


def draft(site: Site) -> list[dict[str, Any]]:
    with site.engine.connect() as connection:
        found = connection.scalar(select(label_drafts.c.drawing))
    things: list[dict[str, Any]] = json.loads(found)["things"] if found else []
    return things


def saved(view: Looking) -> None:
    view.browser.wait("document.getElementById('saved').textContent === 'saved'")


@pytest.mark.slow
def test_a_polygon_by_mouse_is_in_the_truth(desk: Site, tmp_path: Path) -> None:
    with drawing_board(desk, tmp_path) as view:
        view.key("n")
        for x, y in outline(CAR, 0):
            view.click(*on_screen(view, x, y))
        view.click(*on_screen(view, *outline(CAR, 0)[0]))
        view.key("2")
        saved(view)
        [thing] = draft(desk)
        assert thing["label"] == "vehicle"
        assert (
            max(
                abs(a - b)
                for p, q in zip(thing["amodal"], outline(CAR, 0), strict=True)
                for a, b in zip(p, q, strict=True)
            )
            < 1
        )
        # A corner is dragged, and that is undone.
        begin, end = on_screen(view, *outline(CAR, 0)[2]), on_screen(view, 400, 330)
        view.mouse("mouseMoved", *begin)
        view.mouse("mousePressed", *begin)
        view.mouse("mouseMoved", *end)
        view.mouse("mouseReleased", *end)
        wait_for(lambda: draft(desk)[0]["amodal"][2] == pytest.approx([400, 330], abs=1))
        view.key("z", 2)
        wait_for(lambda: draft(desk) == [thing])
        saved(view)
        # Leaves the page and comes back: it is there still.
        view.open("label")
        view.open(f"label/{ONE}")
        assert view.browser.value("document.querySelectorAll('#things li').length") == 1
        view.key("d")
        view.browser.wait(f"location.pathname.startsWith('/label/') && !location.pathname.endsWith('{ONE}')")
        view.browser.wait("document.readyState === 'complete'")
        # What stands still is copied.
        view.key("c")
        view.browser.wait("document.querySelectorAll('#things li').length === 1")
        saved(view)
        assert draft(desk)[0]["track"] == thing["track"]
        view.open("label")
        view.press("form[action='/label/export'] button")
        view.browser.wait("document.querySelector('.said')?.textContent.includes('frozen as truth')")
        view.must_be_content()
    assert desk.home is not None
    [folder] = (desk.home / "holdouts").iterdir()
    [record] = json.loads((folder / "annotations.json").read_bytes())["annotations"]
    assert record["category_id"] == int(CAR.label)
    assert record["bbox"] == pytest.approx([40, CAR.top, CAR.width, CAR.height], abs=1.5)


@pytest.mark.slow
def test_keys_alone_will_do(desk: Site, tmp_path: Path) -> None:
    with drawing_board(desk, tmp_path) as view:
        # The whole, and then that all of it is seen.
        for begin in ("n", "v"):
            view.key(begin)
            for arrow in ("ArrowRight", "ArrowDown", "ArrowLeft"):
                for _ in range(4):
                    view.key(arrow, 8)
                view.key(" ")
            view.key("Enter")
            view.browser.wait("document.querySelectorAll('#things li').length === 1")
        view.key("3")
        view.key("ArrowRight")
        saved(view)
        [thing] = draft(desk)
        assert thing["label"] == "static"
        assert thing["visible"] == [thing["amodal"]]
        (x0, y0), (x1, y1), (x2, y2) = thing["amodal"]
        assert (x1 - x0, y1 - y0, x2 - x1, y2 - y1) == (0, 40, -40, 0)
        view.key("Delete")
        view.browser.wait("document.querySelectorAll('#things li').length === 0")
        view.key("z", 2)
        view.browser.wait("document.querySelectorAll('#things li').length === 1")
        saved(view)
        view.must_be_content()


@pytest.mark.slow
def test_on_a_phone(desk: Site, tmp_path: Path) -> None:
    with drawing_board(desk, tmp_path) as view:
        for path in ("label", f"label/{ONE}"):
            view.open(path, 360, 740)
            assert not view.is_wide
        view.browser.value("document.querySelector('[data-do=draw]').click()")
        view.browser._call("Emulation.setTouchEmulationEnabled", enabled=True)
        for x, y in outline(CAR, 0):
            spot = dict(zip("xy", on_screen(view, x, y), strict=True))
            view.browser._call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[spot])
            view.browser._call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
        view.key("Enter")
        saved(view)
        assert len(draft(desk)[0]["amodal"]) == 4
        view.must_be_content()
