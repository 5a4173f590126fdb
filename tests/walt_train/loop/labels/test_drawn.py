"""Frames are spread over time and people, nobody's work is lost, and two who draw the same frame are compared."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from sqlalchemy import func, select

from tests.walt_train.loop.labels.frames import SIZE_WH, drawing, fill_frames, frame
from tests.walt_train.loop.scene import CAR, WALKER
from walt_edge.contract.errors import UsageError
from walt_train.loop.labels.agreement import agreement_of
from walt_train.loop.labels.drawing import DrawingError
from walt_train.loop.labels.drawn import Drawings, LeaseError, is_twice
from walt_train.loop.labels.tables import label_drafts, label_drawings, label_leases
from walt_train.loop.store.store import Store

ANN, TOM = "ann", "tom"


@dataclass
class At:
    now_us: int = 10**15

    def __call__(self) -> int:
        return self.now_us


@dataclass
class Desk:
    """Frames of a camera, and a clock that stands."""

    store: Store
    at: At = field(default_factory=At)

    def __post_init__(self) -> None:
        self.frames = fill_frames(self.store, 9)
        self.drawings = Drawings(self.store.engine, self.at, lease_s=60)

    def finish(self, number: int, by: str, drawn: str | None = None) -> int:
        return self.drawings.finish(self.frames[number], by, drawn or drawing(number), SIZE_WH)


@pytest.fixture
def desk(store: Store) -> Desk:
    return Desk(store)


def test_they_are_spread_over_time_and_people(desk: Desk) -> None:
    store = desk.store
    store.add_group([frame(20, holdout=False), frame(0, "cam-2")])
    assert desk.drawings.cameras() == ["cam-1", "cam-2"]
    first = desk.drawings.offer("cam-1", ANN)
    assert first == desk.frames[0]
    # The farthest from what somebody works on, and never the same.
    second = desk.drawings.offer("cam-1", TOM)
    assert second == desk.frames[8]
    desk.finish(0, ANN)
    desk.finish(8, TOM)
    wanted = [one for one in desk.frames if not is_twice(one)]
    third = desk.drawings.offer("cam-1", ANN)
    assert third == (desk.frames[4] if desk.frames[4] in wanted else third)
    assert desk.drawings.offer("cam-2", ANN) == frame(0, "cam-2").id
    assert desk.drawings.offer("cam-2", TOM) is None
    assert desk.drawings.progress("cam-1").frames == 9
    with pytest.raises(UsageError, match="does not judge"):
        desk.drawings.frame(frame(20, holdout=False).id)


def test_a_lease_runs_out(desk: Desk) -> None:
    one = desk.frames[0]
    assert desk.drawings.take(one, ANN)
    assert not desk.drawings.take(one, TOM)
    desk.drawings.save(one, ANN, drawing(0), SIZE_WH)
    desk.at.now_us += 59_000_000
    assert desk.drawings.take(one, ANN)
    desk.at.now_us += 61_000_000
    assert desk.drawings.take(one, TOM)
    with pytest.raises(LeaseError, match="somebody else works on this frame"):
        desk.drawings.save(one, ANN, drawing(1), SIZE_WH)
    with pytest.raises(LeaseError, match="somebody else"):
        desk.finish(0, ANN)
    # What was begun before is there still.
    assert desk.drawings.begun(one, ANN) is not None
    assert desk.drawings.begun(one, TOM) is None
    desk.drawings.leave(one, TOM)
    assert desk.finish(0, ANN) == 1


def test_what_is_finished_is_never_written_over(desk: Desk) -> None:
    one = desk.frames[0]
    desk.drawings.save(one, ANN, drawing(0, [CAR]), SIZE_WH)
    desk.drawings.save(one, ANN, drawing(0, [WALKER]), SIZE_WH)
    assert desk.finish(0, ANN, drawing(0, [CAR])) == 1
    assert desk.finish(0, ANN, drawing(0)) == 2
    assert desk.drawings.finish(one, TOM, b"", SIZE_WH, "skipped") == 1
    told = [(row.by, row.number, row.state) for row in desk.drawings.history(one)]
    assert sorted(told) == [(ANN, 1, "done"), (ANN, 2, "done"), (TOM, 1, "skipped")]
    assert [row.number for row in desk.drawings.newest("cam-1") if row.by == ANN] == [2]
    progress = desk.drawings.progress("cam-1")
    assert (progress.done, progress.skipped, progress.twice) == (1, 0, 0)
    with desk.store.engine.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(label_drafts)) == 0
        assert connection.scalar(select(func.count()).select_from(label_leases)) == 0
    with pytest.raises(DrawingError, match="not a drawing"):
        desk.finish(1, ANN, "nonsense")


def test_the_last_outlines_are_those_nearest_in_time(desk: Desk) -> None:
    assert desk.drawings.before("cam-1", ANN, desk.frames[0]) is None
    desk.finish(2, ANN)
    desk.finish(7, ANN, drawing(7, [CAR]))
    desk.finish(3, TOM)
    assert desk.drawings.before("cam-1", ANN, desk.frames[8]) == desk.drawings.begun(desk.frames[7], ANN)
    assert desk.drawings.before("cam-1", ANN, desk.frames[3]) == desk.drawings.begun(desk.frames[2], ANN)


def test_some_frames_are_drawn_by_a_second_person(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("walt_train.loop.labels.drawn.is_twice", lambda one: one == frame(1).id)
    desk = Desk(store)
    desk.finish(1, ANN, drawing(1))
    desk.finish(0, ANN, drawing(0))
    assert desk.drawings.offer("cam-1", ANN) not in desk.frames[:2]
    assert desk.drawings.offer("cam-1", TOM) == desk.frames[1]
    assert agreement_of(desk.drawings.newest("cam-1")).line.startswith("no frame was drawn on by two people")
    desk.finish(1, TOM, drawing(1, by=1.0))
    assert desk.drawings.progress("cam-1").twice == 1
    found = agreement_of(desk.drawings.newest("cam-1"))
    assert (found.frames, found.matched, found.unmatched, found.same_label) == (1, 2, 0, 1.0)
    exact = [(a * b) / ((a + 2) * (b + 2)) for a, b in ((CAR.width, CAR.height), (WALKER.width, WALKER.height))]
    assert found.amodal_iou == pytest.approx(sum(exact) / 2, abs=1e-6)
    desk.finish(1, TOM, drawing(1, [CAR]))
    assert agreement_of(desk.drawings.newest("cam-1")).unmatched == 1


def test_it_goes_with_the_frame(desk: Desk) -> None:
    one = desk.frames[0]
    desk.finish(0, ANN)
    desk.drawings.save(one, ANN, drawing(0), SIZE_WH)
    desk.store.delete([one], "unwanted")
    with desk.store.engine.connect() as connection:
        for table in (label_drafts, label_drawings, label_leases):
            assert connection.scalar(select(func.count()).select_from(table)) == 0
    with pytest.raises(UsageError, match="is not stored"):
        desk.finish(0, ANN)
