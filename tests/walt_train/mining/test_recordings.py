"""Cameras that are moved while they record."""

from __future__ import annotations

import logging
from pathlib import Path

import cv2
import pytest

from tests.fakes.scenes import Scene, Thing, walk
from tests.walt_train.mining.archives import FPS, WH
from walt_edge.contract.messages import CropHeader
from walt_edge.privacy.anonymiser import Anonymiser
from walt_edge.vision.drift import MovingCameraError
from walt_train.mining import recordings
from walt_train.mining.recordings import Mined, mine_recording
from walt_train.mining.sources import Source, find_sources

Moves = list[tuple[float, tuple[int, int]]]


def film(folder: Path, moves: Moves, seconds: float = 46.0) -> Source:
    """Walkers in both directions all the time; the camera is moved at the moments given, to the pixels given."""
    things = []
    for number in range(6):
        things.append(Thing(walk((-25, 205), (60, 0), 1.0 + number * 7), height=84, colour=(40, 30, 150 + number)))
        things.append(Thing(walk((345, 225), (-62, 0), 4.0 + number * 7), height=90, colour=(30, 110 + number, 30)))

    def shift(time_s: float) -> tuple[int, int]:
        return next((xy for at_s, xy in reversed(moves) if time_s >= at_s), (0, 0))

    folder.mkdir()
    for frame in Scene(wh=WH, things=things, seed=11, shift=shift).frames(seconds, FPS):
        cv2.imwrite(str(folder / f"{frame.index:04d}.png"), frame.bgr)
    [source] = find_sources([folder], fps=FPS)
    return source


def mine(source: Source) -> Mined:
    return mine_recording(source, camera="street", anonymiser=Anonymiser(), detector=None, progress=lambda: None)


def seen_at(mined: Mined) -> list[float]:
    headers = [one.envelope.header for one in mined.sealed]
    return [header.captured.media_time_s for header in headers if isinstance(header, CropHeader)]


@pytest.mark.parametrize(
    ("moves", "said"),
    [
        ([(25.0, (20, 6))], "second 26"),  # in the middle: half of the frames show each place
        ([(8.0, (20, 6)), (15.0, (40, 0))], "second 16"),  # twice, before a device would have learned either place
    ],
)
def test_a_camera_that_was_moved_at_first_is_watched_from_then_on(
    moves: Moves, said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        mined = mine(film(tmp_path / "film", moves))
    times = seen_at(mined)
    assert len(times) >= 8
    assert min(times) > moves[-1][0]
    [line] = [record.message for record in caplog.records]
    assert line.endswith(f"the camera was moved: what comes before {said} is left out")
    assert len(mined.occluders) == 1, "one position"


def test_a_camera_that_moves_on_and_on_keeps_what_was_seen_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recordings, "_PREPARE_S", 24.0)
    wanders: Moves = [(26.0 + step, (5 * step + 5, 4 * (step % 3))) for step in range(30)]
    with caplog.at_level(logging.WARNING):
        mined = mine(film(tmp_path / "film", wanders, 56.0))
    times = seen_at(mined)
    assert len(times) >= 8
    assert max(times) < 27
    assert "what came before frame" in caplog.text


def test_a_camera_that_never_stands_still_gives_nothing(tmp_path: Path) -> None:
    with pytest.raises(MovingCameraError, match="fix it to its mount"):
        mine(film(tmp_path / "film", [(float(step), (7 * step, 5 * (step % 3))) for step in range(46)]))
