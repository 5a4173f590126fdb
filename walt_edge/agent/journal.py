"""A diary of what the agent saw, for reports and for finding faults: one JSON line a frame, some pictures.

Only anonymised pictures are written. The folder is bounded: when it is full, the diary ends and the agent goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from walt_edge.camera import Frame
from walt_edge.contract.errors import WaltError
from walt_edge.contract.masks import encode_rle
from walt_edge.contract.predictions import frame_prediction
from walt_edge.privacy.anonymiser import AnonymisedImage, SealedEnvelope
from walt_edge.privacy.holdover import FrameStamp
from walt_edge.update.holder import Look
from walt_edge.vision.sightings import Sighting

LOG = logging.getLogger(__name__)

FILE_NAME = "journal.jsonl"


class JournalError(WaltError):
    """The journal's folder cannot be written."""


class Journal:
    """Writes `journal.jsonl` and `frame-000123.jpg`.

    A line: `{"frame", "media_time_s", "sightings": [{"track_id", "label", "score", "box_xyxy", "ground_xy",
    "area", "unoccluded_confidence", "parts", "reasons", "mask"?}], "sealed": [{"id", "kind"}], "model_release",
    "warm_up", "picture"?, "prediction"?}`. Every `every`-th frame, once the plate is known, has a `picture` (a file
    name), its sightings a `mask` (the silhouette in the frame, RLE), and, if a model looked, a `prediction` (what it
    saw, a `FramePrediction`). `model_release` is 0 where no model looked, `warm_up` true while the plate is learned.

    Args:
        folder: Made if need be; an older journal in it is replaced.
        every: How many processed frames there are to a picture.
        limit_bytes: The journal never grows beyond this.

    Raises:
        JournalError: The folder cannot be written.
    """

    def __init__(self, folder: Path, every: int = 25, limit_bytes: int = 500 << 20) -> None:
        self._folder = folder
        self._every = every
        self._left_bytes = limit_bytes
        self._lines = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for old in folder.glob("frame-*.jpg"):
                old.unlink()
            self._file = (folder / FILE_NAME).open("wb")
        except OSError as error:
            raise JournalError(f"cannot write the journal in {folder}: {error.strerror}") from error

    def write(
        self,
        frame: Frame | FrameStamp,
        image: AnonymisedImage | None,
        sightings: Sequence[Sighting],
        sealed: Sequence[SealedEnvelope],
        look: Look | None = None,
    ) -> None:
        """Notes one processed frame; a disk that takes no more ends the journal, not the agent."""
        if self._file.closed:
            return
        shown = image if self._lines % self._every == 0 else None
        self._lines += 1
        line: dict[str, Any] = {
            "frame": frame.index,
            "media_time_s": frame.captured.media_time_s,
            "sightings": [_sighting(one, shown.bgr.shape[:2] if shown else None) for one in sightings],
            "sealed": [{"id": one.id, "kind": one.kind.value} for one in sealed],
            "model_release": look.release if look else 0,
            "warm_up": image is None,
        }
        picture = b""
        if shown is not None:
            line["picture"] = f"frame-{frame.index:06d}.jpg"
            picture = shown.jpeg()
            if look is not None:
                line["prediction"] = frame_prediction(look.instances, frame.index, line["picture"])
        self._put(msgspec.json.encode(line) + b"\n", line.get("picture", ""), picture)

    def note_sealed(self, sealed: Sequence[SealedEnvelope]) -> None:
        """Notes envelopes that belong to no frame: what the last tracks gave at the end."""
        if sealed and not self._file.closed:
            rows = [{"id": one.id, "kind": one.kind.value} for one in sealed]
            self._put(msgspec.json.encode({"frame": None, "sightings": [], "sealed": rows}) + b"\n", "", b"")

    def close(self) -> None:
        """Closes the file; harmless when repeated."""
        self._file.close()

    def _put(self, line: bytes, name: str, picture: bytes) -> None:
        self._left_bytes -= len(line) + len(picture)
        if self._left_bytes < 0:
            LOG.warning("the journal in %s is full and ends here; the agent goes on", self._folder)
            self.close()
            return
        try:
            if name:
                (self._folder / name).write_bytes(picture)
            self._file.write(line)
            self._file.flush()
        except OSError as error:
            LOG.warning("the journal in %s ends here (%s); the agent goes on", self._folder, error.strerror)
            self._left_bytes = 0
            self.close()


def _sighting(sighting: Sighting, frame_hw: tuple[int, ...] | None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "track_id": sighting.track_id,
        "label": sighting.label.title if sighting.label is not None else None,
        "score": round(float(sighting.score), 4),
        "box_xyxy": sighting.silhouette.box_xyxy,
        "ground_xy": sighting.ground_xy,
        "area": sighting.silhouette.area,
        "unoccluded_confidence": round(float(sighting.unoccluded_confidence), 4),
        "parts": {str(name): round(float(part), 4) for name, part in sighting.confidence_parts},
        "reasons": [reason.value for reason in sighting.reasons],
    }
    if frame_hw is not None:
        row["mask"] = encode_rle(sighting.silhouette.full(*frame_hw)).coco()
    return row
