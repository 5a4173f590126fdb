"""One folder of clip art for each epoch of a camera, from what its sources gave."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np

from walt_edge.contract.clipart import Clip, ClipArt, Plate, read_clipart, write_clipart
from walt_edge.contract.files import write_whole
from walt_edge.contract.messages import CropHeader
from walt_edge.vision.settings import WatchSettings
from walt_edge.vision.static_occluders import OccluderCounts, StaticOccluders
from walt_train.mining import gates, identity
from walt_train.mining.confidence import ConfidenceError, calibrate, evidence
from walt_train.mining.epochs import Pose, register, still
from walt_train.mining.pieces import ClipPiece, PlatePiece
from walt_train.mining.recordings import Trail
from walt_train.mining.sources import SourceRecord
from walt_train.mining.work import Report, read_occluders, read_report

RECORD = "mining.json"
VIEWS_MAX = 6
_log = logging.getLogger(__name__)


class PoseRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Where a plate lay.

    Attributes:
        plate: Its id.
        source: Its source's folder.
        epoch: From 0.
        shift_px: Largest displacement of a corner against the epoch's first plate; 0 for that one.
        rotation_deg: Against it.
        quality: Of the fit, -1..1.
        moved: Whether clips and plates were moved by it.
    """

    plate: str
    source: str
    epoch: int
    shift_px: float
    rotation_deg: float
    quality: float
    moved: bool


class EpochRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What an epoch's folder holds."""

    folder: str
    clips: int
    objects: int
    plates: int
    static: int


class ArchiveRecord(msgspec.Struct, frozen=True, kw_only=True):
    """`mining.json`: what was mined, assumed and moved.

    Attributes:
        camera: The camera's name.
        sources: In the order of time.
        unusable: Why a source gave nothing, by its paths.
        frames: How many were looked at.
        objects_judged: Tracks, or things in stills, that were judged.
        poses: Of every median plate.
        epochs: One folder each.
        rejected_by_reason: By the eyes and by the gates.
    """

    camera: str
    sources: list[SourceRecord]
    unusable: dict[str, str]
    frames: int
    objects_judged: int
    poses: list[PoseRecord]
    epochs: list[EpochRecord]
    rejected_by_reason: dict[str, int]
    version: int = 1


@dataclass(slots=True, eq=False)
class Epoch:
    """One pose of the camera while it is put together.

    Attributes:
        reference: Its first plate.
        plates: In its pose.
        clips: In its pose.
        occluders: Counted in its pose.
    """

    reference: PlatePiece
    plates: list[PlatePiece] = field(default_factory=list)
    clips: list[ClipPiece] = field(default_factory=list)
    occluders: StaticOccluders | None = None


@dataclass(slots=True, eq=False)
class Merged:
    """All epochs of a camera, before anything is written."""

    camera: str
    frame_wh: tuple[int, int]
    epochs: list[Epoch] = field(default_factory=list)
    poses: list[PoseRecord] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)
    rejected: Counter[str] = field(default_factory=Counter)
    trails: dict[identity.Track, Trail] = field(default_factory=dict)


def merge(folders: Sequence[Path], out: Path) -> ArchiveRecord:
    """Puts the mined sources of one camera together.

    Args:
        folders: Of the sources, in the order of time.
        out: Gets `clipart.json` of the first epoch, `epoch-1` ... for others, and `mining.json`.

    Raises:
        WaltError: A folder is damaged, or `out` cannot be written.
    """
    clipart = read_clipart(folders[0])
    merged = Merged(clipart.camera, clipart.frame_wh)
    for folder in folders:
        _add(merged, folder)
    records = [_write(merged, number, epoch, out) for number, epoch in enumerate(merged.epochs)]
    record = ArchiveRecord(
        camera=merged.camera,
        sources=[report.source for report in merged.reports],
        unusable={report.source.source: report.unusable for report in merged.reports if report.unusable},
        frames=sum(report.frames for report in merged.reports),
        objects_judged=sum(report.objects for report in merged.reports),
        poses=merged.poses,
        epochs=records,
        rejected_by_reason=dict(merged.rejected.most_common()),
    )
    write_whole(out / RECORD, msgspec.json.format(msgspec.json.encode(record), indent=1))
    return record


def _add(merged: Merged, folder: Path) -> None:
    clipart, report = read_clipart(folder), read_report(folder)
    merged.reports.append(report)
    merged.rejected.update(clipart.rejected_by_reason)
    place: dict[str, tuple[Epoch, Pose]] = {}
    for plate in sorted(clipart.plates, key=lambda plate: plate.source == "frame"):
        piece = PlatePiece.read(folder, plate)
        follows = report.frame_plates.get(plate.id)
        epoch, pose = place[follows] if follows else _placed(merged, piece)
        place[plate.id] = epoch, pose
        epoch.plates.append(piece.moved(pose))
    boots = set()
    for clip in clipart.clips:
        epoch, pose = place[clip.header.plate]
        moved = ClipPiece.read(folder, clip).moved(pose)
        boots.add(clip.header.captured.boot_id)
        if moved is None:
            merged.rejected[gates.TRUNCATED] += 1
        else:
            epoch.clips.append(moved)
    for plate_id, counts in zip(report.occluders, read_occluders(folder, len(report.occluders)), strict=True):
        _add_occluders(*place[plate_id], counts)
    for boot in boots:
        for t in report.trails:
            trail = Trail(t.first_s, t.last_s, t.first_xyxy, t.last_xyxy, t.speed_xy)
            merged.trails[boot, t.track_id] = trail


def _placed(merged: Merged, piece: PlatePiece) -> tuple[Epoch, Pose]:
    """The epoch of a plate and how it lies there; a new one if it can be registered to none."""
    best: Pose | None = None
    for number, epoch in enumerate(merged.epochs):
        pose = register(epoch.reference.bgr, piece.bgr, ~(epoch.reference.known & piece.known))
        if pose.registrable:
            if not pose.same:
                _log.info("%s lies %.1f px aside: registered", piece.folder.name, pose.shift_px)
            _note(merged, piece, number, pose)
            return epoch, pose
        best = pose if best is None or pose.quality > best.quality else best
    if best is not None:
        how = f"moved by {best.shift_px:.0f} px" if best.certain else "shows another place"
        _log.warning("%s: the camera %s: epoch %d begins", piece.folder.name, how, len(merged.epochs))
    height, width = piece.bgr.shape[:2]
    epoch, pose = Epoch(piece), still((width, height))
    merged.epochs.append(epoch)
    _note(merged, piece, len(merged.epochs) - 1, pose)
    return epoch, pose


def _note(merged: Merged, piece: PlatePiece, epoch: int, pose: Pose) -> None:
    merged.poses.append(
        PoseRecord(
            plate=piece.plate.id,
            source=piece.folder.name,
            epoch=epoch,
            shift_px=round(pose.shift_px, 3),
            rotation_deg=round(pose.rotation_deg, 4),
            quality=round(pose.quality, 4),
            moved=not pose.same,
        )
    )


def _add_occluders(epoch: Epoch, pose: Pose, counts: OccluderCounts) -> None:
    if epoch.occluders is None:
        epoch.occluders = StaticOccluders(pose.frame_wh, WatchSettings())
    if not pose.same:
        # Counts move by whole pixels: half a pixel does not matter to a pole, and a sum must not be smeared.
        middle = np.array([[pose.frame_wh[0] / 2, pose.frame_wh[1] / 2]])
        dx, dy = np.round(pose.to_reference(middle) - middle)[0].astype(int).tolist()
        counts = counts.shifted(dx, dy)
    epoch.occluders.absorb(counts)


def _write(merged: Merged, number: int, epoch: Epoch, out: Path) -> EpochRecord:
    """Gates, joins and writes one epoch."""
    folder = out if number == 0 else out / f"epoch-{number}"
    folder.mkdir(parents=True, exist_ok=True)
    rejected: Counter[str] = Counter()
    clips = _chosen(epoch.clips, merged.trails, folder, rejected)
    merged.rejected.update(rejected)
    plates: list[Plate] = [piece.write(folder) for piece in epoch.plates]
    static = epoch.occluders.things() if epoch.occluders else []
    reasons = dict(merged.rejected.most_common()) if number == 0 else dict(rejected)
    clipart = ClipArt(
        camera=merged.camera,
        frame_wh=merged.frame_wh,
        plates=plates,
        clips=clips,
        rejected_by_reason=reasons,
        static=static,
    )
    write_clipart(folder, clipart)
    objects = len({clip.object for clip in clips})
    name = "." if number == 0 else folder.name
    return EpochRecord(folder=name, clips=len(clips), objects=objects, plates=len(plates), static=len(static))


def _chosen(
    pieces: list[ClipPiece], trails: Mapping[identity.Track, Trail], folder: Path, rejected: Counter[str]
) -> list[Clip]:
    """The clips that pass the gates, a few of each physical object, with identity and calibrated confidence."""
    filled = [piece.filled for piece in pieces]
    looks = [
        identity.describe(piece.header, piece.bgr, piece.mask, ~gone)
        for piece, gone in zip(pieces, filled, strict=True)
    ]
    objects = identity.physical_objects([piece.header for piece in pieces], looks, trails)
    seen = [gates.Seen(p.header, p.bgr, p.mask, one) for p, one in zip(pieces, objects, strict=True)]
    judged = []
    for piece, number, parts in zip(pieces, objects, gates.gate_parts(seen, filled), strict=True):
        against = gates.failed(parts)
        if against is not None:
            rejected[against] += 1
        else:
            judged.append((piece, number, parts))
    counted: Counter[int] = Counter()
    clips = []
    for piece, number, parts in sorted(judged, key=lambda one: -one[0].header.unoccluded_confidence):
        counted[number] += 1
        if counted[number] > VIEWS_MAX:
            rejected["enough views of the object"] += 1
            continue
        header = _with_parts(piece.header, parts)
        clips.append(piece.write(folder, header=header, object=number, confidence=_confidence(header)))
    return sorted(clips, key=lambda clip: (clip.header.captured.utc_us, clip.header.track_id))


def _with_parts(header: CropHeader, parts: Mapping[str, float]) -> CropHeader:
    rounded = {name: round(part, 4) for name, part in parts.items()}
    return msgspec.structs.replace(header, confidence_parts={**header.confidence_parts, **rounded})


def _confidence(header: CropHeader) -> float | None:
    """Calibrated; None where the package has no coefficients."""
    try:
        return calibrate(evidence(header))
    except ConfidenceError:
        return None
