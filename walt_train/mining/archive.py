"""Mines an archive: every source of a camera once, on as many processes as there are, and all of it put together.

Clip art that a device has mined joins them as it is. A source that is done is recorded in its folder, so that a
killed run goes on where it was. A run puts together the sources that it is given: name the old ones beside those that
come later, they are not mined again.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from walt_edge.contract.clipart import read_clipart
from walt_edge.contract.errors import UsageError, WaltError
from walt_train.cluster import map_tasks
from walt_train.mining.merge import Part, merge
from walt_train.mining.records import ArchiveRecord
from walt_train.mining.sheet import write_sheet
from walt_train.mining.sources import Source
from walt_train.mining.teachers import MOTION
from walt_train.mining.work import RECORD, Report, Task, is_done, mine_source, read_report

_log = logging.getLogger(__name__)


class NothingMinedError(WaltError):
    """No source gave clip art."""


def mine_archive(
    sources: Sequence[Source],
    out: Path,
    *,
    camera: str,
    teacher: str = MOTION,
    workers: str | int = 0,
    quiet: bool = True,
) -> ArchiveRecord:
    """Mines what is not mined yet and puts everything together.

    Args:
        sources: Of one camera, in the order of time, as `find_sources` gives them.
        out: The archive's folder.
        camera: The camera's name.
        teacher: As `walt_train.mining.teachers.open_teacher` takes it.
        workers: As `walt_train.cluster.Workers.parse` takes it; the result is the same for all.
        quiet: No progress bar.

    Raises:
        NothingMinedError: None of them gave a clip.
        UsageError: A source was mined into `out` as another camera or by another teacher, or `out` is a source.
        WaltError: A source cannot be read, or `out` not be written; what was mined stays and is not mined again.
    """
    tasks = [Task(source=source, camera=camera, out=out, teacher=teacher) for source in sources]
    watched = [task for task in tasks if not task.source.clipart]
    waiting = [task for task in watched if not is_done(task)]
    if len(waiting) < len(watched):
        _log.info("%d of %d sources were mined before", len(watched) - len(waiting), len(watched))
    _check(sources, out)
    _tell_left_out(sources, out)
    if str(workers) == "0":
        _mine_here(waiting, quiet)
    else:
        done = map_tasks(mine_source, waiting, workers=workers, name=_name)
        for _ in tqdm(done, desc="mining", unit=" sources", total=len(waiting), disable=quiet):
            pass
    record = merge([_part(task) for task in tasks], out, camera=camera)
    if not any(epoch.clips for epoch in record.epochs):
        raise NothingMinedError(_why(record))
    for epoch in record.epochs:
        if epoch.plates:
            write_sheet(out / epoch.folder)
    return record


def _mine_here(tasks: Sequence[Task], quiet: bool) -> None:
    with tqdm(desc="mining", unit=" frames", disable=quiet) as bar:
        for place, task in enumerate(tasks, start=1):
            bar.set_postfix_str(f"source {place} of {len(tasks)}: {task.folder.name}")
            mine_source(task, functools.partial(bar.update, 1))


def _name(task: Task) -> str:
    return task.source.name


def _part(task: Task) -> Part:
    """What a source gave; clip art lies where it is, and was judged by whoever made it."""
    if not task.source.clipart:
        return Part(task.folder, read_report(task.folder))
    (folder,) = task.source.paths
    tracks = {(clip.header.captured.boot_id, clip.header.track_id) for clip in read_clipart(folder).clips}
    return Part(folder, Report(source=task.source.record, objects=len(tracks)), strange=True)


def _check(sources: Sequence[Source], out: Path) -> None:
    if out.resolve() in {path.resolve() for source in sources for path in source.paths}:
        raise UsageError(f"{out} is a source itself: give another --out")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WaltError(f"cannot make {out}: {error.strerror}; give another --out") from error


def _tell_left_out(sources: Sequence[Source], out: Path) -> None:
    """Warns of what was mined into the folder before and is not given again: its clips are not put together."""
    given = {str(path) for source in sources for path in source.paths}
    before = [read_report(record.parent).source.source for record in sorted(out.glob(f"sources/[!.]*/{RECORD}"))]
    left_out = [name for name in before if not given.issuperset(name.split(", "))]
    if left_out:
        _log.warning("%s was mined into %s before and is not given now: left out", "; ".join(left_out), out)


def _why(record: ArchiveRecord) -> str:
    if record.unusable:
        source, reason = next(iter(record.unusable.items()))
        return f"{source}: {reason}"
    reasons = ", ".join(f"{reason} {count}" for reason, count in list(record.rejected_by_reason.items())[:4])
    if not record.frames:
        return (
            f"{record.objects_judged} objects in clip art, none is good enough ({reasons}): let the camera watch on"
        )
    return (
        f"{record.objects_judged} objects in {record.frames} frames, none was seen whole "
        f"({reasons or 'nothing moved'}): give a longer recording, a nearer view or a higher resolution; "
        "for pictures minutes apart give --stills"
    )
