"""Who trained which steps: machines may come and go, and no picture of an epoch is shown twice or left out for it.

A segment begins where the number of processes changes. Every step of it takes `batch` pictures for each of its
processes from the endless row of pictures, so that the segments before a step say how many have been taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import msgspec

from walt_edge.contract.files import write_whole
from walt_train.engine.plan import RESUME, FitError

SEGMENTS = "segments.json"


class Segment(msgspec.Struct, frozen=True):
    """Steps that were trained by the same number of processes.

    Attributes:
        first_step: From 0.
        processes: At least 1.
    """

    first_step: int
    processes: int


def go_on(folder: Path, step: int, processes: int) -> tuple[Segment, ...]:
    """The segments of a training that goes on at a step with so many processes.

    What an interrupted training noted for that step and later ones never came to be and is forgotten.

    Raises:
        FitError: The notes in the folder are unreadable.
    """
    kept = [segment for segment in read_segments(folder) if segment.first_step < step]
    if not kept or kept[-1].processes != processes:
        kept.append(Segment(step if kept else 0, processes))
    return tuple(kept)


def read_segments(folder: Path) -> tuple[Segment, ...]:
    """What the folder's training noted; nothing where it has not begun."""
    path = folder / RESUME / SEGMENTS
    if not path.is_file():
        return ()
    try:
        return msgspec.json.decode(path.read_bytes(), type=tuple[Segment, ...])
    except msgspec.MsgspecError as error:
        raise FitError(f"{path} is unreadable ({error}): remove {path.parent} to begin anew") from error


def write_segments(folder: Path, segments: Sequence[Segment]) -> None:
    """Notes them, whole or not at all."""
    write_whole(folder / RESUME / SEGMENTS, msgspec.json.encode(segments))


def pictures_before(segments: Sequence[Segment], step: int, batch: int) -> int:
    """Pictures that all processes together took before a step of the last segment.

    Args:
        segments: As `go_on` gives them.
        step: Not before the last segment's first one.
        batch: Pictures a step and process.
    """
    ended = sum((later.first_step - one.first_step) * one.processes for one, later in pairwise(segments))
    return (ended + (step - segments[-1].first_step) * segments[-1].processes) * batch
