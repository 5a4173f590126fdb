"""A lane: a recording ends, a live camera is begun anew, and one lane's trouble is its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.edge import ScriptedCamera, ScriptedEyes
from tests.lanes import make_pipeline
from tests.waiting import wait_for
from walt_edge.agent.lanes import Lane, LaneSettings
from walt_edge.agent.pipeline import Pipeline
from walt_edge.camera import CameraRefusedError
from walt_edge.spool.spool import Spool
from walt_edge.vision.drift import MovingCameraError

SOON = LaneSettings(again_min_s=0.01, again_max_s=0.05)


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    with Spool(tmp_path) as spool:
        yield spool


class Street:
    """Opens a pipeline of `frames` grey frames; the openings whose number is in `troubles` fail so."""

    def __init__(self, spool: Spool, frames: int, troubles: dict[int, Exception] | None = None) -> None:
        self.opened = self.closed = 0
        self._spool, self._frames, self._troubles = spool, frames, troubles or {}

    def __call__(self) -> AbstractContextManager[Pipeline]:
        return self._open()

    @contextmanager
    def _open(self) -> Iterator[Pipeline]:
        self.opened += 1
        trouble = self._troubles.get(self.opened)
        if isinstance(trouble, CameraRefusedError):
            raise trouble
        eyes = ScriptedEyes(failing=[2] if trouble else (), failure=trouble or ValueError())
        try:
            yield make_pipeline(ScriptedCamera(self._frames), eyes, self._spool)
        finally:
            self.closed += 1


@pytest.fixture
def lane() -> Iterator[Callable[..., Lane]]:
    """Makes lanes; they are ended with the test."""
    stop = threading.Event()
    made: list[Lane] = []

    def make(street: Street, **options: Any) -> Lane:
        made.append(Lane("cam-1", street, stop=stop, settings=SOON, **options))
        made[-1].start()
        return made[-1]

    yield make
    stop.set()
    assert all(one.join(20) for one in made)


def test_whoever_sets_it_up_finds_it_shown_and_not_begun(spool: Spool) -> None:
    """What another thread sets of `lane.pipeline`, and what is set here, cannot both miss a newer configuration."""
    found: list[tuple[bool, int]] = []

    def set_up(pipeline: Pipeline) -> None:
        found.append((recorded.pipeline is pipeline, pipeline.meter.frames_processed))

    recorded = Lane("cam-1", Street(spool, 3), is_live=False, stop=threading.Event(), on_open=set_up)
    recorded.start()
    assert recorded.join(20)
    assert found == [(True, 0)]


def test_a_recording_ends(spool: Spool, lane: Callable[..., Lane]) -> None:
    street = Street(spool, 5)
    one = lane(street, is_live=False)
    assert one.join(20)
    assert (one.error, one.failures, street.opened, street.closed) == (None, 0, 1, 1)
    assert one.pipeline is not None
    assert one.pipeline.meter.frames_processed == 5


def test_a_recording_that_cannot_be_watched_is_an_error(spool: Spool, lane: Callable[..., Lane]) -> None:
    street = Street(spool, 5, {1: MovingCameraError("it moves")})
    one = lane(street, is_live=False)
    assert one.join(20)
    assert isinstance(one.error, MovingCameraError)
    assert (street.opened, street.closed) == (1, 1)


def test_a_live_camera_is_begun_anew_whatever_ended_it(
    spool: Spool, lane: Callable[..., Lane], caplog: pytest.LogCaptureFixture
) -> None:
    troubles: dict[int, Exception] = {
        1: MovingCameraError("it moves"),
        2: CameraRefusedError("no stream at this path"),
        3: MovingCameraError("again"),
    }
    street = Street(spool, 5, troubles)
    one = lane(street, is_live=True)
    assert one.join(20)
    assert (one.error, one.failures, street.opened, street.closed) == (None, 3, 4, 3)
    assert "camera cam-1 is begun anew: it moves" in caplog.text
    assert "Traceback" not in caplog.text


def test_a_wrong_url_ends_the_only_camera_at_its_first_opening(spool: Spool, lane: Callable[..., Lane]) -> None:
    street = Street(spool, 5, {1: CameraRefusedError("no stream at this path")})
    one = lane(street, is_live=True, must_open=True)
    assert one.join(20)
    assert isinstance(one.error, CameraRefusedError)


def test_a_stop_ends_the_pause_too(spool: Spool) -> None:
    stop = threading.Event()
    street = Street(spool, 5, {n: MovingCameraError("it moves") for n in range(1, 99)})
    one = Lane("cam-1", street, is_live=True, stop=stop, settings=LaneSettings(again_min_s=600))
    one.start()
    wait_for(lambda: one.failures == 1)
    stop.set()
    assert one.join(20)
    assert street.opened == 1


def test_a_lane_that_pauses_counts_as_alive(spool: Spool) -> None:
    stop = threading.Event()
    street = Street(spool, 5, {1: MovingCameraError("it moves")})
    one = Lane("cam-1", street, is_live=True, stop=stop, settings=LaneSettings(again_min_s=600))
    one.start()
    wait_for(lambda: one.failures == 1)
    assert one.pipeline is not None
    turned_s = one.pipeline.meter.turned_s
    wait_for(lambda: one.pipeline is not None and one.pipeline.meter.turned_s > turned_s, what="for a turn")
    stop.set()
    assert one.join(20)
