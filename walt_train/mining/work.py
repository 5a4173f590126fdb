"""One source's work: a pure function of the source and the settings into a folder, there whole or not at all."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from walt_edge.clip_folder import write_images
from walt_edge.contract.clipart import ClipArt, read_clipart, write_clipart
from walt_edge.contract.errors import UsageError, WaltError
from walt_edge.contract.files import write_whole
from walt_edge.privacy.anonymiser import Anonymiser
from walt_edge.privacy.faces import find_faces
from walt_edge.vision.drift import MovingCameraError
from walt_edge.vision.static_occluders import OccluderCounts
from walt_train.mining.crowds import mine_crowd
from walt_train.mining.instances import InstanceTeacher
from walt_train.mining.recordings import Mined, TooFewFramesError, mine_recording
from walt_train.mining.records import SourceRecord
from walt_train.mining.sources import Source
from walt_train.mining.stills import TooFewStillsError, mine_stills
from walt_train.mining.teachers import MOTION, open_teacher

RECORD, OCCLUDERS = "source.json", "occluders.npz"
_UNUSABLE = (TooFewFramesError, TooFewStillsError, MovingCameraError)
_log = logging.getLogger(__name__)


class TrailRecord(msgspec.Struct, frozen=True, array_like=True):
    """A `recordings.Trail` on disk."""

    track_id: int
    first_s: float
    last_s: float
    first_xyxy: tuple[float, float, float, float]
    last_xyxy: tuple[float, float, float, float]
    speed_xy: tuple[float, float]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What one source gave, beside its `clipart.json`.

    Attributes:
        source: What was assumed about it.
        teacher: Who named what was seen.
        frames: How many were looked at.
        objects: How many things were judged.
        unusable: Why nothing could be learned from it, or "".
        frame_plates: For each real frame among the plates the plate that it was erased with.
        occluders: Plates of the positions whose occluders were counted, in the order of the arrays.
        trails: Of the tracks that gave clips.
    """

    source: SourceRecord
    teacher: str = MOTION
    frames: int = 0
    objects: int = 0
    unusable: str = ""
    frame_plates: dict[str, str] = {}
    occluders: list[str] = []
    trails: list[TrailRecord] = []


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One source to mine; travels to other processes and machines.

    Attributes:
        source: What.
        camera: The camera's name.
        out: The archive's folder; the work goes into `out/sources/KEY`.
        teacher: As `open_teacher` takes it; it is opened where the work is done.
    """

    source: Source
    camera: str
    out: Path
    teacher: str = MOTION

    @property
    def folder(self) -> Path:
        """Where the result lies."""
        return self.out / "sources" / self.source.key


def is_done(task: Task) -> bool:
    """Whether the source was mined before, by this or a killed run.

    Raises:
        UsageError: It was, as another camera or by another teacher: its clips would pass for what was asked for.
    """
    if not (task.folder / RECORD).is_file():
        return False
    camera, teacher = read_clipart(task.folder).camera, read_report(task.folder).teacher
    if (camera, teacher) != (task.camera, task.teacher):
        raise UsageError(
            f"{task.source.name} was mined into {task.out} as camera {camera} by {teacher}, now it is camera "
            f"{task.camera} by {task.teacher}: give another --out, or the same --camera and --teacher"
        )
    return True


def mine_source(task: Task, progress: Callable[[], object] = lambda: None) -> Path:
    """Mines one source, unless that is done; returns its folder.

    Raises:
        WaltError: It cannot be read, or the folder not be written; nothing is left of it then.
    """
    if is_done(task):
        return task.folder
    anonymiser = Anonymiser(find_faces())
    unusable = ""
    try:
        mined = _mined(task, anonymiser, progress)
    except _UNUSABLE as error:
        mined, unusable = Mined(), str(error)
        _log.warning("%s gives nothing: %s", task.source.name, error)
    return _write(task, mined, unusable)


def _mined(task: Task, anonymiser: Anonymiser, progress: Callable[[], object]) -> Mined:
    detector = open_teacher(task.teacher)
    if isinstance(detector, InstanceTeacher) and not task.source.stills:
        return mine_crowd(
            task.source, camera=task.camera, anonymiser=anonymiser, detector=detector, progress=progress
        )
    mine = mine_stills if task.source.stills else mine_recording
    return mine(task.source, camera=task.camera, anonymiser=anonymiser, detector=detector, progress=progress)


def _write(task: Task, mined: Mined, unusable: str) -> Path:
    partial = task.folder.with_name(f".{task.folder.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        clips, plates = write_images(partial, mined.sealed)
        clipart = ClipArt(
            camera=task.camera,
            frame_wh=task.source.frame_wh,
            plates=plates,
            clips=clips,
            rejected_by_reason=dict(mined.rejected),
        )
        write_clipart(partial, clipart)
        _write_occluders(partial, [position.counts() for position in mined.occluders.values()])
        wanted = {clip.header.track_id for clip in clips}
        report = Report(
            source=task.source.record,
            teacher=task.teacher,
            frames=mined.frames,
            objects=mined.objects,
            unusable=unusable,
            frame_plates=mined.frame_plates,
            occluders=list(mined.occluders),
            trails=[
                TrailRecord(track, t.first_s, t.last_s, t.first_xyxy, t.last_xyxy, t.speed_xy)
                for track, t in mined.trails.items()
                if track in wanted
            ],
        )
        write_whole(partial / RECORD, msgspec.json.encode(report))
        partial.rename(task.folder)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise WaltError(
            f"cannot write {task.folder}: {error.strerror}; free space or choose another --out"
        ) from error
    return task.folder


def read_report(folder: Path) -> Report:
    """The report of a mined source.

    Raises:
        WaltError: It is malformed.
    """
    try:
        return msgspec.json.decode((folder / RECORD).read_bytes(), type=Report)
    except msgspec.DecodeError as error:
        raise WaltError(f"{folder / RECORD} is malformed ({error}): remove {folder} and mine again") from error


def _write_occluders(folder: Path, counts: list[OccluderCounts]) -> None:
    """All positions' counts, by attribute and place."""
    arrays = {
        f"{name}_{place}": np.asarray(getattr(one, name))
        for place, one in enumerate(counts)
        for name in ("hits", "misses", "behind_y", "before_y", "size_px")
    }
    np.savez_compressed(folder / OCCLUDERS, **arrays)  # type: ignore[arg-type]


def read_occluders(folder: Path, count: int) -> list[OccluderCounts]:
    """What `mine_source` wrote, in the report's order."""
    with np.load(folder / OCCLUDERS) as arrays:
        return [
            OccluderCounts(
                hits=arrays[f"hits_{place}"],
                misses=arrays[f"misses_{place}"],
                behind_y=arrays[f"behind_y_{place}"],
                before_y=arrays[f"before_y_{place}"],
                size_px=float(arrays[f"size_px_{place}"]),
            )
            for place in range(count)
        ]
