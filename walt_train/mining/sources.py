"""Recordings, folders of stills and clip art of one camera, in the order of time, with what was assumed about it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from walt_edge.camera import Camera, CameraError, Frame, open_camera
from walt_edge.capture.files import date_us
from walt_edge.contract.clipart import FILE_NAME, ClipArtError, read_clipart
from walt_edge.contract.errors import UsageError
from walt_edge.contract.messages import Clock, Moment
from walt_train.mining.records import RECORD, SourceRecord

_STILLS_APART_S = 10.0
_READ_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What is mined in one piece: a recording, all folders of stills of a camera together, or a folder of clip art.

    Attributes:
        paths: One video or folder; of stills, all folders in the order of time.
        stills: Pictures that lie so far apart that nothing can be followed from one to the next.
        begin_us: Time of the first frame, microseconds since 1970 UTC.
        clock: Whether that time can be believed.
        assumed: Where it comes from.
        frame_wh: Size of the first frame, pixels.
        fps: Rate that replaces the source's own, or None.
        clipart: What a device has mined already, as it came over the wire or from `walt-edge mine`: it has no frames.
    """

    paths: tuple[Path, ...]
    stills: bool
    begin_us: int
    clock: Clock
    assumed: str
    frame_wh: tuple[int, int]
    fps: float | None = None
    clipart: bool = False

    @property
    def record(self) -> SourceRecord:
        """For `mining.json`."""
        return SourceRecord(source=self.name, begins_us=self.begin_us, assumed=self.assumed, stills=self.stills)

    @property
    def name(self) -> str:
        """For people."""
        return ", ".join(str(path) for path in self.paths)

    @property
    def key(self) -> str:
        """For folders, and as the boot id of its moments: the same wherever the same files have the same names.

        Files without a date in their names are the same only while their times are: copies have to keep those.
        """
        facts = [(path.parent.name, path.name, _bytes_in(path)) for path in self.paths]
        digest = hashlib.sha256(repr((facts, self.begin_us, self.stills, self.fps)).encode()).hexdigest()
        slug = re.sub(r"[^A-Za-z0-9_-]+", "-", self.paths[0].stem).strip("-_")[:40]
        return f"{slug or 'source'}-{digest[:12]}"

    def frames(self) -> Iterator[Frame]:
        """All frames, in order, in the time that is assumed; the same on every machine and at every run.

        Raises:
            CameraError: A frame cannot be read, or is of another size than the first.
        """
        key, first_us = self.key, None
        for path in self.paths:
            with open_camera(str(path), fps=self.fps) as camera:
                for frame in read_all(camera):
                    first_us = frame.captured.utc_us if first_us is None else first_us
                    self._check(path, frame)
                    yield replace(frame, captured=self._moment(frame.captured, first_us, key))

    def _check(self, path: Path, frame: Frame) -> None:
        size = (frame.bgr.shape[1], frame.bgr.shape[0])
        if size != self.frame_wh:
            raise CameraError(
                f"{path}: frame {frame.index} is {size[0]}x{size[1]}, the first {self.frame_wh[0]}x"
                f"{self.frame_wh[1]}: a fixed camera has one size, mine others into a folder of their own"
            )

    def _moment(self, captured: Moment, first_us: int, key: str) -> Moment:
        since_us = max(0, captured.utc_us - first_us)
        utc_us = self.begin_us + since_us
        return Moment(
            utc_us=utc_us, boot_id=key, monotonic_ns=utc_us * 1000, clock=self.clock, media_time_s=since_us / 1e6
        )


def read_all(camera: Camera) -> Iterator[Frame]:
    """A file's or folder's frames to its end."""
    while (frame := camera.read(_READ_TIMEOUT_S)) is not None:
        yield frame


def find_sources(
    paths: Sequence[Path], *, stills: bool = False, begin_us: int | None = None, fps: float | None = None
) -> list[Source]:
    """Looks at every path once and puts them in the order of time; stills of all folders become one source.

    Args:
        paths: Videos and folders, of clip art too; a folder of folders stands for those in it.
        stills: Every folder holds stills. Otherwise those do whose first two are dated and ten seconds apart or more.
        begin_us: When the one recording without a date in its name began.
        fps: Rate of the recordings, where they do not say or are wrong.

    Raises:
        CameraError: One does not exist, is empty or cannot be read, or they differ in size.
        ClipArtError: A folder of clip art is damaged, or empty.
        UsageError: `begin_us` is given and not exactly one recording is undated; a path is given twice, or was mined
            at home already.
    """
    found = [_look(path, stills, fps) for path in _expanded(paths)]
    found = _begun(found, begin_us)
    found.sort(key=lambda source: (source.begin_us, source.name))
    for source in found[1:]:
        if source.frame_wh != found[0].frame_wh:
            raise CameraError(
                f"{source.name} is {source.frame_wh[0]}x{source.frame_wh[1]} and {found[0].name} "
                f"{found[0].frame_wh[0]}x{found[0].frame_wh[1]}: one camera has one size, mine them apart"
            )
    apart = [source for source in found if source.stills]
    moving = [source for source in found if not source.stills]
    if apart:
        together = replace(apart[0], paths=tuple(path for source in apart for path in source.paths))
        moving.append(together)
    return sorted(moving, key=lambda source: source.begin_us)


def _expanded(paths: Sequence[Path]) -> list[Path]:
    wanted: list[Path] = []
    for path in paths:
        nested = sorted(p for p in path.iterdir() if p.is_dir()) if path.is_dir() else []
        files = any(p.is_file() and not p.name.startswith(".") for p in path.iterdir()) if nested else True
        if nested and not files and [p.name for p in nested] != ["images"]:
            wanted += nested
        else:
            wanted.append(path)
    places = [path.resolve() for path in wanted]
    twice = {path for path in places if places.count(path) > 1}
    if twice:
        raise UsageError(f"{min(twice)} is given twice: each source counts once")
    return wanted


def _look(path: Path, stills: bool, fps: float | None) -> Source:
    """Reads the first two frames: that it can be read, its size, its time, and whether things can be followed."""
    if (path / FILE_NAME).is_file():
        return _look_at_clipart(path)
    with open_camera(str(path), fps=fps) as camera:
        first = camera.read(_READ_TIMEOUT_S)
        if first is None:
            raise CameraError(f"{path} holds no frame: remove it from the sources")
        dated = path.is_dir() and camera.fps == 0.0
        second = camera.read(_READ_TIMEOUT_S) if dated else None
    apart = second is not None and second.captured.media_time_s - first.captured.media_time_s >= _STILLS_APART_S
    # A folder of numbered frames may have the date in its own name.
    told = first.captured.clock is Clock.SYNCHRONISED
    named_us = date_us(path.resolve().name) if path.is_dir() and not told else None
    sure = told or named_us is not None
    return Source(
        paths=(path,),
        stills=path.is_dir() and (stills or apart),
        begin_us=first.captured.utc_us if named_us is None else named_us,
        clock=Clock.SYNCHRONISED if sure else Clock.UNSYNCHRONISED,
        assumed="the date in its name, as UTC" if sure else "when its file was last changed",
        frame_wh=(first.bgr.shape[1], first.bgr.shape[0]),
        fps=fps,
    )


def _look_at_clipart(path: Path) -> Source:
    if (path / RECORD).is_file():
        raise UsageError(f"{path} was made by walt-train mine: name the sources that it was made of")
    clipart = read_clipart(path)
    times = [clip.header.captured.utc_us for clip in clipart.clips]
    times += [plate.header.captured.utc_us for plate in clipart.plates]
    if not times:
        raise ClipArtError(f"{path / FILE_NAME} has neither clips nor plates: remove it from the sources")
    return Source(
        paths=(path,),
        stills=False,
        begin_us=min(times),
        clock=Clock.SYNCHRONISED,
        assumed="what its device said",
        frame_wh=clipart.frame_wh,
        clipart=True,
    )


def _begun(found: list[Source], begin_us: int | None) -> list[Source]:
    if begin_us is None:
        return found
    undated = [source for source in found if source.clock is not Clock.SYNCHRONISED]
    if len(undated) != 1:
        raise UsageError(
            f"--begin says when one recording began, and {len(undated)} have no date in their name: "
            "name files like 2026-05-01_06-30-00.mp4, or mine them one by one"
        )
    told = replace(undated[0], begin_us=begin_us, clock=Clock.SYNCHRONISED, assumed="--begin")
    return [told if source is undated[0] else source for source in found]


def _bytes_in(path: Path) -> int:
    if path.is_dir():
        return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
    return path.stat().st_size
