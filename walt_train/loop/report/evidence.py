"""What the stations left behind: the agent's journal, its last telemetry, and the store."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.errors import WaltError
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import Mask, Rle, decode_rle
from walt_edge.contract.messages import CropHeader, Telemetry
from walt_edge.contract.predictions import FramePrediction
from walt_edge.contract.topics import Kind
from walt_train.loop.store.store import Store, StoreCounts

JOURNAL_NAME = "journal.jsonl"
Picture = NDArray[np.uint8]
"""(H, W, 3) uint8, BGR."""


class ReportError(WaltError):
    """A report cannot be made of what is there."""


class Seen(msgspec.Struct, frozen=True):
    """One object in one frame, as the agent's journal has it."""

    track_id: int
    label: str | None
    box_xyxy: tuple[float, float, float, float]
    ground_xy: tuple[float, float]
    unoccluded_confidence: float = 0.0
    reasons: tuple[str, ...] = ()
    mask: Rle | None = None


class Sealed(msgspec.Struct, frozen=True):
    """An envelope that left the watcher."""

    id: str
    kind: Kind


class Line(msgspec.Struct, frozen=True):
    """One line of the journal: a processed frame, or (without a frame) what was sealed at the end.

    `model_release` is the model that looked at it, 0 for none; `prediction` is what it saw in a sampled frame.
    No model looks while the plate is being learned (`warm_up`).
    """

    frame: int | None
    sightings: list[Seen]
    sealed: list[Sealed]
    media_time_s: float = 0.0
    picture: str = ""
    model_release: int = 0
    warm_up: bool = False
    prediction: FramePrediction | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """A crop out of the store, its image decoded."""

    id: str
    header: CropHeader
    bgr: Picture
    mask: Mask


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """Everything that a report is made of.

    Attributes:
        lines: The journal.
        pictures: The journal's folder, with the sampled anonymised frames.
        telemetry: The agent's last word, or None if none arrived.
        counts: The store's counts.
        stored_ids: Ids of all that is stored.
        clips: The stored crops in order of capture.
        plate: The newest stored plate, or None.
    """

    lines: list[Line]
    pictures: Path
    telemetry: Telemetry | None
    counts: StoreCounts
    stored_ids: frozenset[str]
    clips: list[Clip]
    plate: Picture | None
    _decoded: dict[str, Picture] = field(default_factory=dict)

    @property
    def frames(self) -> list[Line]:
        """The journal's lines of frames."""
        return [line for line in self.lines if line.frame is not None]

    @property
    def sampled(self) -> list[Line]:
        """Lines that have a picture."""
        return [line for line in self.lines if line.picture]

    @property
    def sealed_ids(self) -> frozenset[str]:
        """Ids of all that the watcher sealed."""
        return frozenset(sealed.id for line in self.lines for sealed in line.sealed)

    @property
    def tracks_stored(self) -> int:
        """Objects that the stored crops show, as far as tracks tell."""
        return len({(clip.header.captured.boot_id, clip.header.track_id) for clip in self.clips})

    @property
    def missing_ids(self) -> frozenset[str]:
        """What was sealed and is not in the store."""
        return self.sealed_ids - self.stored_ids

    def picture(self, line: Line) -> Picture:
        """The anonymised frame of a sampled line.

        Raises:
            ReportError: It is missing or unreadable.
        """
        if line.picture not in self._decoded:
            bgr = cv2.imread(str(self.pictures / line.picture), cv2.IMREAD_COLOR)
            if bgr is None:
                raise ReportError(f"{self.pictures / line.picture}, which the journal names, cannot be read")
            self._decoded[line.picture] = bgr
        return self._decoded[line.picture]

    def paths(self) -> dict[int, list[tuple[float, float]]]:
        """Where each track touched the ground, pixels in the frame, in order of time."""
        paths: dict[int, list[tuple[float, float]]] = defaultdict(list)
        for line in self.frames:
            for seen in line.sightings:
                if seen.track_id >= 0:
                    paths[seen.track_id].append(seen.ground_xy)
        return dict(paths)

    def labels(self) -> dict[int, str | None]:
        """The class that each track was given most often."""
        votes: dict[int, Counter[str | None]] = defaultdict(Counter)
        for line in self.frames:
            for seen in line.sightings:
                votes[seen.track_id][seen.label] += 1
        return {track: counter.most_common(1)[0][0] for track, counter in votes.items()}

    def rejected_objects(self) -> dict[str, int]:
        """How many objects were never chosen, by the agent's reason, most frequent first; empty without telemetry."""
        return dict(Counter(self.telemetry.rejected_by_reason if self.telemetry else {}).most_common())

    def refused_moments(self) -> dict[str, int]:
        """How often something spoke against an object in a frame, by reason, most frequent first."""
        counted = Counter(reason for line in self.frames for seen in line.sightings for reason in seen.reasons)
        return dict(counted.most_common())


def read_evidence(journal: Path, store: Store, telemetry: Telemetry | None) -> Evidence:
    """Gathers what the stations left.

    Raises:
        ReportError: The journal is missing or malformed, or a stored image cannot be decoded.
    """
    clips = [_clip(stored.id, stored.envelope.header, stored.envelope.image) for stored in store.envelopes(Kind.CROP)]
    plates = [stored.envelope.image for stored in store.envelopes(Kind.PLATE)]
    return Evidence(
        lines=read_journal(journal),
        pictures=journal,
        telemetry=telemetry,
        counts=store.counts(),
        stored_ids=frozenset(store.ids(include_held=True)),
        clips=clips,
        plate=_decode(plates[-1], "a plate") if plates else None,
    )


def read_journal(folder: Path) -> list[Line]:
    """Reads `journal.jsonl`; a half-written last line is left out.

    Raises:
        ReportError: Missing or malformed.
    """
    path = folder / JOURNAL_NAME
    try:
        rows = path.read_bytes().splitlines(keepends=True)
    except OSError as error:
        raise ReportError(
            f"no journal in {folder} ({error.strerror}): run the agent with --journal {folder}"
        ) from error
    if rows and not rows[-1].endswith(b"\n"):
        rows.pop()
    try:
        return [msgspec.json.decode(row, type=Line) for row in rows]
    except msgspec.DecodeError as error:
        raise ReportError(f"{path} is malformed: {error}") from error


def label_title(label: Label | str | None) -> str:
    """The class in a word."""
    return label.title if isinstance(label, Label) else label or "unclassified"


def _clip(sha256: str, header: object, image: bytes) -> Clip:
    assert isinstance(header, CropHeader)
    return Clip(sha256, header, _decode(image, sha256), decode_rle(header.mask))


def _decode(image: bytes, name: str) -> Picture:
    bgr = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR)
    if bgr is None:
        raise ReportError(f"the image of {name} cannot be decoded")
    return np.asarray(bgr, dtype=np.uint8)
