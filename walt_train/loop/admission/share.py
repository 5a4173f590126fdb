"""Which of many cameras' crops make a training set: no camera and no device gives more than its share of it.

Whoever owns one camera among many can then spoil that share of what a group learns, and no more.
"""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Engine, select

from walt_edge.contract.topics import Kind
from walt_train.loop.labels.tables import not_rejected
from walt_train.loop.store.tables import envelopes

DEFAULT_SHARE: Final = 0.25


@dataclass(frozen=True, slots=True)
class Candidate:
    """A crop that might train."""

    id: str
    device: str
    camera: str


def candidates_of(engine: Engine, cameras: Sequence[str]) -> list[Candidate]:
    """The crops of some cameras that may train: neither held, nor held out, nor rejected."""
    row = envelopes.c
    may_train = (row.kind == Kind.CROP.value) & ~row.holdout & row.held.is_(None) & not_rejected()
    query = select(row.id, row.device, row.camera).where(may_train, row.camera.in_(cameras))
    with engine.connect() as connection:
        return [Candidate(*found) for found in connection.execute(query)]


def fair(candidates: Sequence[Candidate], share: float = DEFAULT_SHARE, seed: int = 0) -> list[str]:
    """Picks as many as there may be, so that no camera and no device gives more than `share` of them.

    Where there are fewer devices than make a whole of such shares (three and a quarter), each gives at most an equal
    part: then nothing better is to be had. A device with less than a tenth of the median does not count for that.
    Which of a camera's crops are taken is decided by their ids and the seed alone, so that nobody can have his
    preferred by sending more, earlier or better rated ones.

    Args:
        candidates: In any order; the result does not depend on it.
        share: At most so much of the result from one camera or device, above 0 to 1.
        seed: Another one picks others.

    Returns:
        Ids, sorted.
    """
    if not 0 < share <= 1:
        raise ValueError(f"a share of {share:g} is not above 0 and at most 1")
    by_device: dict[str, dict[str, list[str]]] = {}
    for one in sorted(candidates, key=lambda one: (one.device, one.camera)):
        by_device.setdefault(one.device, {}).setdefault(one.camera, []).append(one.id)
    sizes = [sum(map(len, cameras.values())) for cameras in by_device.values()]
    if not sizes:
        return []
    lively = sum(10 * size >= statistics.median(sizes) for size in sizes)
    most = _most(sizes, max(share, 1 / lively))
    picked: list[str] = []
    for cameras in by_device.values():
        # A camera is of one device: what holds for devices holds for cameras; within one its cameras are even.
        room = min(most, sum(map(len, cameras.values())))
        for ids, count in zip(cameras.values(), _even([len(ids) for ids in cameras.values()], room), strict=True):
            picked += sorted(ids, key=lambda id_: _rank(id_, seed))[:count]
    return sorted(picked)


def _most(sizes: Sequence[int], share: float) -> int:
    """The largest number that each may give at most, so that none gives more than `share` of the sum."""
    low, high = 0, max(sizes)
    while low < high:
        middle = (low + high + 1) // 2
        # With one more allowed, the sum grows at most as fast as its bound: what fits fits for all that is less.
        if middle <= share * sum(min(size, middle) for size in sizes) + 1e-9:
            low = middle
        else:
            high = middle - 1
    return low


def _even(sizes: Sequence[int], room: int) -> list[int]:
    """Deals `room` out as evenly as the sizes allow."""
    given = [0] * len(sizes)
    order = sorted(range(len(sizes)), key=lambda at: (sizes[at], at))
    for place, at in enumerate(order):
        given[at] = min(sizes[at], room // (len(order) - place))
        room -= given[at]
    return given


def _rank(id_: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{id_}".encode()).digest()
