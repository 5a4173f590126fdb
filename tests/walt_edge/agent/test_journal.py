"""The journal holds what a report needs, nothing raw, and never more than its limit."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.fakes.edge import ScriptedCamera, ScriptedEyes
from tests.lanes import make_pipeline
from walt_edge.agent.journal import FILE_NAME, Journal, JournalError
from walt_edge.agent.showing import Showing
from walt_edge.contract.masks import Rle, decode_rle
from walt_edge.spool.spool import Spool


def watch(folder: Path, frames: int, **options: int) -> list[dict[str, Any]]:
    journal = Journal(folder, **options)
    with Spool(folder) as spool:
        eyes = ScriptedEyes()
        showing = Showing("cam-1", journal)
        make_pipeline(ScriptedCamera(frames), eyes, spool, showing=showing).run(threading.Event())
    journal.close()
    return [json.loads(line) for line in (folder / FILE_NAME).read_text().splitlines()]


def test_a_line_for_every_frame_and_pictures_with_masks_for_some(tmp_path: Path) -> None:
    lines = watch(tmp_path, 7, every=3)
    assert [line["frame"] for line in lines] == [*range(7), None]
    assert [line.get("picture") for line in lines if "picture" in line] == [f"frame-{n:06d}.jpg" for n in (0, 3, 6)]
    (sighting,) = lines[1]["sightings"]
    assert sighting == {
        "track_id": 3,
        "label": "person",
        "score": 0.8,
        "box_xyxy": [10, 20, 22, 50],
        "ground_xy": [16.0, 50.0],
        "area": 360,
        "unoccluded_confidence": 0.0,
        "parts": {},
        "reasons": [],
    }
    assert [one["kind"] for line in lines for one in line["sealed"]] == ["crop"] * 8
    mask = lines[3]["sightings"][0]["mask"]
    full = decode_rle(Rle(tuple(mask["size"]), mask["counts"]))
    assert full[20:50, 10:22].all()
    assert full.sum() == 360
    picture = cv2.imread(str(tmp_path / "frame-000003.jpg"))
    assert picture is not None
    assert picture.shape == (*full.shape, 3)
    assert np.ptp(picture) < 5


def test_a_full_journal_ends_and_the_agent_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = watch(tmp_path, 50, every=10, limit_bytes=20_000)
    size = sum(path.stat().st_size for path in tmp_path.iterdir() if "spool" not in path.name)
    assert 0 < size <= 20_000
    assert 0 < len(lines) < 50
    assert caplog.text.count("full and ends here") == 1


def test_an_older_journal_is_replaced(tmp_path: Path) -> None:
    watch(tmp_path, 9, every=1)
    watch(tmp_path, 2, every=1)
    assert len(list(tmp_path.glob("frame-*.jpg"))) == 2


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match="cannot write the journal"):
        Journal(tmp_path / "file")


def test_frames_before_the_plate_is_known_are_marked(tmp_path: Path) -> None:
    journal = Journal(tmp_path, every=1)
    with ScriptedCamera(2) as camera:
        first, second = camera.read(1.0), camera.read(1.0)
    assert first is not None
    assert second is not None
    journal.write(first, None, (), ())
    journal.write(second, ScriptedEyes().step(second).image, (), ())
    journal.close()
    lines = [json.loads(line) for line in (tmp_path / FILE_NAME).read_text().splitlines()]
    assert [(line["warm_up"], "picture" in line) for line in lines] == [(True, False), (False, True)]
