"""Trainings: their list by cursor, logs that stay text, files that are on the list alone, and one more try."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from sqlalchemy import update

from benchmarks.fleet_sizes import camera_name
from tests.walt_train.loop.web.client import Client, signed_in
from tests.walt_train.loop.web.filled import SMALL
from walt_train.loop.gate.verdict import Decision, Effect, Finding, Kind, Slice, Verdict
from walt_train.loop.serve.folder import Folder
from walt_train.loop.serve.jobs import State, StepName
from walt_train.loop.store.database import transaction
from walt_train.loop.store.tables import generations, steps
from walt_train.loop.web.access.person import Role
from walt_train.loop.web.access.trail import Filter
from walt_train.loop.web.queries import folders, runs
from walt_train.loop.web.site import Site

CAMERA = camera_name(4)
LAST = SMALL.generations // 5


@pytest.fixture(scope="module")
def viewer(filled: Site) -> Client:
    return signed_in(filled, Role.VIEWER)


@pytest.fixture
def folder(filled: Site) -> Folder:
    assert filled.home is not None
    return Folder(Folder.path(filled.home, CAMERA, LAST))


def set_state(site: Site, camera: str, number: int, state: State) -> None:
    with transaction(site.engine) as connection:
        mine = (generations.c.camera == camera) & (generations.c.number == number)
        connection.execute(update(generations).where(mine).values(state=state, reason="train failed: no memory"))
        last = (steps.c.camera == camera) & (steps.c.number == number) & (steps.c.name == StepName.TRAIN)
        connection.execute(update(steps).where(last).values(state=state, failures=3))


def test_pages_by_cursor_hold_every_training_once(filled: Site) -> None:
    whole = [(one.camera, one.number) for one in runs.listed(filled.engine, limit=10_000)]
    assert len(set(whole)) == len(whole) == SMALL.generations
    found, before = [], None
    while page := runs.listed(filled.engine, before=before, limit=7):
        found += [(one.camera, one.number) for one in page]
        before = runs.parse_cursor(runs.cursor_of(page[-1]))
    assert found == whole


@pytest.mark.parametrize("text", ["", "x", "1.2", "9" * 30 + ".1.a", "-1.1.a", "1..a", "\x00"])
def test_a_cursor_that_is_none_is_the_first_page(viewer: Client, text: str) -> None:
    parsed = runs.parse_cursor(text)
    assert parsed is None or parsed == (1, "", 2)


def test_the_list_is_narrowed(viewer: Client, filled: Site) -> None:
    counted = runs.counts(filled.engine)
    page = viewer.get("/runs?state=failed").text
    assert page.count('<span class="steps"') == min(counted["failed"], runs.PAGE)
    assert "No training is like that" in viewer.get("/runs?camera=nobody").text


def test_a_run_shows_steps_curves_verdict_logs_and_files(viewer: Client) -> None:
    page = viewer.get(f"/runs/{CAMERA}/{LAST}").text
    for word in (
        "clipart",
        "train",
        "export",
        "judge",
        "publish",
        "<h2>Curves</h2>",
        "<h2>Logs</h2>",
        "<h2>Files</h2>",
    ):
        assert word in page
    assert "</b> enough that is new: 62 of 50 crops" in page
    assert "Mask IoU of what is half hidden" in page
    assert "step 1999 loss" in page
    assert "step 3 loss" not in page, "the end alone is shown"
    assert f'href="/runs/{CAMERA}/{LAST}/files/train/curves.json"' in page


def test_a_verdict_is_readable_with_its_slices_and_findings(viewer: Client, folder: Folder) -> None:
    verdict = Verdict(
        decision=Decision.REFUSED,
        line="refused: worse at night",
        findings=(Finding(kind=next(iter(Kind)), line="it <knows> a track of the truth"),),
        slices=(
            Slice(
                dimension="light",
                name="night",
                cases=321,
                objects=40,
                candidate=51.25,
                champion=55.5,
                difference=-4.25,
                interval=(-6.5, -2.0),
                decision=next(iter(Effect)),
            ),
        ),
    )
    folder.verdict.write_bytes(msgspec.json.encode(verdict))
    page = viewer.get(f"/runs/{CAMERA}/{LAST}").text
    for word in (
        "light: night",
        "321",
        "51.2",
        "55.5",
        "-4.2",
        "-6.5 to -2.0",
        "it &lt;knows&gt; a track of the truth",
    ):
        assert word in page


def test_logs_are_text_and_bounded(viewer: Client, folder: Folder) -> None:
    (folder.root / "logs" / "zz-1.log").write_bytes(
        b"x" * 100_000 + b"\n\x1b[31mred\x1b[0m <script>alert(1)</script>\x00\x07\n10%\r50%\r99%\n\xff\xfe"
    )
    page = viewer.get(f"/runs/{CAMERA}/{LAST}").text
    assert "red &lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "\x1b" not in page
    assert "\x00" not in page
    assert "10%" not in page
    assert "99%" in page
    assert "x" * 401 not in page


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"[1]", b'[{"step": "a"}]', b"[{}]", b'[{"step": 1, "loss": null}]', b"\xff"]
)
def test_curves_that_are_none_break_no_page(viewer: Client, folder: Folder, data: bytes) -> None:
    path = folder.train / "curves.json"
    kept = path.read_bytes()
    try:
        path.write_bytes(data)
        assert viewer.get(f"/runs/{CAMERA}/{LAST}").status == 200
    finally:
        path.write_bytes(kept)


def test_a_curve_is_thinned_to_the_means_of_its_stretches(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.train.mkdir()
    rows = [{"step": n, "loss": float(n % 2)} for n in range(1, 1601)]
    (folder.train / "curves.json").write_bytes(msgspec.json.encode(rows))
    (curve,) = folders.curves(folder)
    assert len(curve.points) == 160
    assert {value for _, value in curve.points} == {0.5}


def test_a_file_of_the_list_is_given_as_it_is(viewer: Client, folder: Folder) -> None:
    answer = viewer.get(f"/runs/{CAMERA}/{LAST}/files/train/curves.json")
    assert answer.body == (folder.train / "curves.json").read_bytes()
    assert answer.headers["content-disposition"].startswith("attachment")
    assert answer.headers["content-type"] == "application/octet-stream"


@pytest.mark.parametrize(
    "name",
    [
        "../../../store/store.sqlite3",
        "..%2f..%2fkeys",
        "clipart/clipart.json",
        "/etc/passwd",
        "logs",
        "",
        "logs/../bundle.walt",
    ],
)
def test_no_other_file_is_given(viewer: Client, name: str) -> None:
    assert viewer.get(f"/runs/{CAMERA}/{LAST}/files/{name}").status in (404, 400)


def test_what_failed_goes_on_once(filled: Site, viewer: Client) -> None:
    operator = signed_in(filled, Role.OPERATOR)
    camera, path = camera_name(3), f"/runs/{camera_name(3)}/{LAST}"
    set_state(filled, camera, LAST, State.FAILED)
    assert "Go on where it failed" in operator.get(path).text
    assert "Go on where it failed" not in viewer.get(path).text
    assert viewer.post(f"{path}/retry").status == 403
    assert operator.post(f"{path}/retry").headers["location"] == path
    found = runs.one(filled.engine, camera, LAST)
    assert found is not None
    assert (found.state, found.step(StepName.TRAIN).state) == (State.PENDING, State.PENDING)
    assert found.step(StepName.TRAIN).failures == 0
    line = filled.access.trail.newest(Filter(what="run.retry"), 1)[0]
    assert (line.who, line.outcome) == ("some-operator", "done")
    operator.post(f"{path}/retry")
    assert "has not failed" in operator.get(path).text
    assert filled.access.trail.newest(Filter(what="run.retry"), 1)[0].outcome == "failed"


def test_an_older_one_is_not_tried_again(filled: Site) -> None:
    operator = signed_in(filled, Role.OPERATOR)
    set_state(filled, CAMERA, 2, State.FAILED)
    operator.post(f"/runs/{CAMERA}/2/retry")
    assert f"generation {LAST} has come after it" in operator.get(f"/runs/{CAMERA}/2").text
    found = runs.one(filled.engine, CAMERA, 2)
    assert found is not None
    assert found.state is State.FAILED


@pytest.mark.parametrize(
    "path", ["/runs/nobody/1", f"/runs/{CAMERA}/999", f"/runs/{CAMERA}/9999999999999", "/runs/a%20b/1"]
)
def test_what_is_not_there_is_not_found(viewer: Client, path: str) -> None:
    assert viewer.get(path).status == 404
