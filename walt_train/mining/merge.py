"""One folder of clip art for each epoch of a camera, from what its sources gave."""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

import msgspec
import numpy as np

from walt_edge.contract.clipart import Clip, ClipArt, Plate, StaticThing, read_clipart
from walt_edge.contract.files import write_whole
from walt_edge.vision.settings import WatchSettings
from walt_edge.vision.static_occluders import OccluderCounts, StaticOccluders
from walt_train.decoding import ConfinedDecoder
from walt_train.mining import gates, identity, posts
from walt_train.mining.choosing import choose
from walt_train.mining.epochs import Pose, Poses
from walt_train.mining.folders import EpochFolder, sweep
from walt_train.mining.pieces import ClipPiece, PlatePiece, UnreadableError
from walt_train.mining.posts import Posts
from walt_train.mining.recordings import Trail
from walt_train.mining.records import RECORD, ArchiveRecord, EpochRecord, PoseRecord
from walt_train.mining.work import Report, read_occluders

UNREADABLE: Final = "unreadable"
_Record = TypeVar("_Record", Clip, Plate)
_Piece = TypeVar("_Piece", ClipPiece, PlatePiece)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Part:
    """What one source gave.

    Attributes:
        folder: Clip art, with the map of static occluders that the report tells of.
        report: What was looked at.
        strange: Whether its images came over the wire.
    """

    folder: Path
    report: Report
    strange: bool = False


@dataclass(slots=True, eq=False)
class Epoch:
    """One pose of the camera while it is put together.

    Attributes:
        occluders: Counted in its pose.
        plates: In its pose.
        clips: In its pose.
        things: Static things that sources told of.
        told: Those of the clips whose source counted nothing: they tell of static things themselves.
    """

    occluders: StaticOccluders
    plates: list[PlatePiece] = field(default_factory=list)
    clips: list[ClipPiece] = field(default_factory=list)
    things: list[StaticThing] = field(default_factory=list)
    told: list[ClipPiece] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Merged:
    """All epochs of a camera, before anything is written."""

    camera: str
    frame_wh: tuple[int, int]
    known: Poses = field(default_factory=Poses)
    epochs: list[Epoch] = field(default_factory=list)
    poses: list[PoseRecord] = field(default_factory=list)
    rejected: Counter[str] = field(default_factory=Counter)
    unusable: dict[str, str] = field(default_factory=dict)
    trails: dict[identity.Track, Trail] = field(default_factory=dict)


def merge(parts: Sequence[Part], out: Path, *, camera: str) -> ArchiveRecord:
    """Puts the sources of one camera together.

    Args:
        parts: In the order of time, of one frame size.
        out: Gets `clipart.json` of the first epoch, `epoch-1` ... for others, and `mining.json`; what an earlier run
            left there and this one does not name is removed.
        camera: The camera's name.

    Raises:
        WaltError: A folder is damaged, `out` cannot be written, or a decoder cannot be confined on this machine.
    """
    merged = Merged(camera, read_clipart(parts[0].folder).frame_wh)
    with ConfinedDecoder() as decoder:  # its process begins with the first image that it is given
        for part in parts:
            _add(merged, part, decoder if part.strange else None)
    reports = [part.report for part in parts]
    record = ArchiveRecord(
        camera=camera,
        sources=[report.source for report in reports],
        unusable={report.source.source: report.unusable for report in reports if report.unusable} | merged.unusable,
        frames=sum(report.frames for report in reports),
        objects_judged=sum(report.objects for report in reports),
        poses=merged.poses,
        epochs=_write(merged, out),
        rejected_by_reason=dict(merged.rejected.most_common()),
    )
    write_whole(out / RECORD, msgspec.json.format(msgspec.json.encode(record), indent=1))
    sweep(out, record)
    return record


def _add(merged: Merged, part: Part, decoder: ConfinedDecoder | None) -> None:
    clipart, report = read_clipart(part.folder), part.report
    merged.rejected.update(clipart.rejected_by_reason)
    ordered = sorted(clipart.plates, key=lambda plate: plate.source == "frame")
    plates = list(_readable(ordered, lambda plate: PlatePiece.read(part.folder, plate, merged.frame_wh, decoder)))
    if not plates:
        if clipart.clips or clipart.plates:
            why = "no plate to stand before" if not clipart.plates else "no plate that can be decoded"
            merged.unusable[report.source.source] = f"{len(clipart.clips)} clips and {why}"
        return
    place: dict[str, tuple[Epoch, Pose]] = {}
    for piece in plates:
        follows = report.frame_plates.get(piece.plate.id)
        epoch, pose = place[follows] if follows else _placed(merged, piece)
        place[piece.plate.id] = epoch, pose
        epoch.plates.append(piece.moved(pose))
    clipart = msgspec.structs.replace(clipart, plates=[plate for plate in clipart.plates if plate.id in place])
    boots = {clip.header.captured.boot_id for clip in clipart.clips}
    for boot, t in itertools.product(boots, report.trails):
        merged.trails[boot, t.track_id] = Trail(t.first_s, t.last_s, t.first_xyxy, t.last_xyxy, t.speed_xy)
    clips = list(_moved_clips(merged, part.folder, clipart, place, decoder))
    for epoch, clip in clips:
        epoch.clips.append(clip)
    if report.occluders:
        counted = read_occluders(part.folder, len(report.occluders))
        for plate_id, counts in zip(report.occluders, counted, strict=True):
            _add_counts(*place[plate_id], counts)
    else:
        _add_told(clipart, clips, place)


def _moved_clips(
    merged: Merged,
    folder: Path,
    clipart: ClipArt,
    place: Mapping[str, tuple[Epoch, Pose]],
    decoder: ConfinedDecoder | None,
) -> Iterator[tuple[Epoch, ClipPiece]]:
    """The clips in their epochs' poses; what is unreadable, or a movement has pushed out of the frame, is counted."""
    left = len(clipart.clips)
    for piece in _readable(clipart.clips, lambda clip: ClipPiece.read(folder, clip, merged.frame_wh, decoder)):
        left -= 1
        epoch, pose = place[_plate_of(piece.clip, clipart.plates)]
        moved = piece.moved(pose)
        if moved is None:
            merged.rejected[gates.TRUNCATED] += 1
        else:
            yield epoch, moved
    if left:
        merged.rejected[UNREADABLE] += left


def _readable(records: Sequence[_Record], read: Callable[[_Record], _Piece]) -> Iterator[_Piece]:
    """What can be decoded of what came over the wire; one line tells of the rest, however much of it was sent."""
    refused: list[UnreadableError] = []
    for record in records:
        try:
            yield read(record)
        except UnreadableError as error:
            refused.append(error)
    if refused:
        _log.warning("%d of %d images left out, such as this one: %s", len(refused), len(records), refused[0])


def _add_told(
    clipart: ClipArt,
    clips: Sequence[tuple[Epoch, ClipPiece]],
    place: Mapping[str, tuple[Epoch, Pose]],
) -> None:
    """Static things of clip art that came without counts: those it names, and what its outlines tell."""
    last, pose = place[clipart.plates[-1].id]  # they were known when its last plate was
    last.things += [posts.moved(thing, pose) for thing in clipart.static]
    for epoch, clip in clips:
        epoch.told.append(clip)


def _plate_of(clip: Clip, plates: Sequence[Plate]) -> str:
    """The plate that a clip names; where that never came, the nearest of its boot, or of all."""
    captured = clip.header.captured
    return min(
        plates,
        key=lambda plate: (
            plate.id != clip.header.plate,
            plate.header.captured.boot_id != captured.boot_id,
            abs(plate.header.captured.utc_us - captured.utc_us),
        ),
    ).id


def _placed(merged: Merged, piece: PlatePiece) -> tuple[Epoch, Pose]:
    """The epoch of a plate and how it lies there; a new one if it can be registered to none."""
    placed = merged.known.place(piece.bgr, piece.known)
    pose, nearest = placed.pose, placed.nearest
    if placed.epoch == len(merged.epochs):
        merged.epochs.append(Epoch(StaticOccluders(merged.frame_wh, WatchSettings())))
        if nearest is not None:
            how = f"moved by {nearest.shift_px:.0f} px" if nearest.certain else "shows another place"
            _log.warning("%s: the camera %s: epoch %d begins", piece.folder.name, how, placed.epoch)
    elif not pose.same:
        _log.info("%s lies %.1f px aside: registered", piece.folder.name, pose.shift_px)
    record = PoseRecord(
        plate=piece.plate.id,
        source=piece.folder.name,
        epoch=placed.epoch,
        shift_px=round(pose.shift_px, 3),
        rotation_deg=round(pose.rotation_deg, 4),
        quality=round(pose.quality, 4),
        moved=not pose.same,
    )
    merged.poses.append(record)
    return merged.epochs[placed.epoch], pose


def _add_counts(epoch: Epoch, pose: Pose, counts: OccluderCounts) -> None:
    if not pose.same:
        # Counts move by whole pixels: half a pixel does not matter to a pole, and a sum must not be smeared.
        middle = np.array([[pose.frame_wh[0] / 2, pose.frame_wh[1] / 2]])
        dx, dy = np.round(pose.to_reference(middle) - middle)[0].astype(int).tolist()
        counts = counts.shifted(dx, dy)
    epoch.occluders.absorb(counts)


def _write(merged: Merged, out: Path) -> list[EpochRecord]:
    """Chooses and writes epoch by epoch; no two objects of them share a number."""
    records, objects = [], 0
    for number, epoch in enumerate(merged.epochs):
        rejected: Counter[str] = Counter()
        told = posts.learned(epoch.told, merged.frame_wh)
        things = posts.together([*epoch.things, *epoch.occluders.things(), *told])
        chosen = choose(epoch.clips, merged.trails, Posts.of(things, merged.frame_wh), rejected)
        merged.rejected.update(rejected)
        written = EpochFolder(
            camera=merged.camera,
            frame_wh=merged.frame_wh,
            plates=epoch.plates,
            chosen=chosen,
            things=things,
            rejected=merged.rejected if number == 0 else rejected,
        )
        records.append(written.write(out, number, first_object=objects))
        objects += max((one.object for one in chosen), default=0)
    return records
