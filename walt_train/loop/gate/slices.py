"""Where a candidate is better and where it is worse: the same cases by source, camera, class and occlusion.

A generation that is better on the whole may have become worse in a part, and a small part hides much: its mean is
mostly noise. So a slice is judged by its paired interval over physical objects, as wide as the number of slices asks
for (Bonferroni): if it lies below zero, and the slice is worse by more than a margin, the candidate does harm there.
Noise alone refuses seldom however many slices there are, since all share one chance of it. Slices of too few objects
are not let through unseen: those of a dimension are judged together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from walt_train.loop.gate.rules import Rules
from walt_train.loop.gate.verdict import Effect, Slice
from walt_train.metrics.bootstrap import Interval, mean_intervals

BINS = ((0.0, 0.01), (0.01, 0.1), (0.1, 0.5), (0.5, 0.9))
"""Of occlusion fractions, as `walt_train.metrics.amodal_iou` has them; the last one holds its end."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One case, as the candidate and as the other one saw it.

    Attributes:
        object: The physical object; no two holdouts have one in common.
        occlusion: 0..0.9.
        candidate: Mask IoU x 100, 0 = missed.
        champion: The same of the other one.
        source: Of the holdout.
        camera: That took the frame.
        label: Title of the class.
    """

    object: str
    occlusion: float
    candidate: float
    champion: float
    source: str
    camera: str
    label: str

    @property
    def band(self) -> str:
        """The bin of its occlusion."""
        low, high = next((bin_ for bin_ in BINS if self.occlusion < bin_[1]), BINS[-1])
        return f"{low:g}..{high:g}"


def difference(pairs: Sequence[Pair], seed: int, level: float) -> tuple[float, Interval | None]:
    """Candidate minus champion in points, and its paired interval by object; None with fewer than two objects."""
    apart: NDArray[np.float64] = np.array([[one.candidate - one.champion] for one in pairs], np.float64)
    found = mean_intervals(apart, [one.object for one in pairs], seed, level)
    return float(apart.mean()), None if found is None else found[0]


def sliced(pairs: Sequence[Pair], rules: Rules) -> tuple[Slice, ...]:
    """Every part of the cases, and what the candidate does there."""
    parts = list(_parts(pairs, rules.objects_min))
    judged = sum(_objects(part) >= rules.objects_min for _, _, part in parts)
    level = 1 - 2 * rules.harm_level / max(1, judged)
    return tuple(_slice(dimension, name, part, rules, level) for dimension, name, part in parts)


def _parts(pairs: Sequence[Pair], objects_min: int) -> Iterator[tuple[str, str, list[Pair]]]:
    """Dimension, name and cases of each slice; what is the same cases by two names stands there once."""
    told: set[frozenset[int]] = set()
    for dimension, name, part in _groups(pairs, objects_min):
        cases = frozenset(map(id, part))
        if cases not in told:
            told.add(cases)
            yield dimension, name, part


def _groups(pairs: Sequence[Pair], objects_min: int) -> Iterator[tuple[str, str, list[Pair]]]:
    if pairs:
        yield "all", "all", list(pairs)
    for dimension, attribute in _DIMENSIONS.items():
        groups: dict[str, list[Pair]] = {}
        for one in pairs:
            groups.setdefault(getattr(one, attribute), []).append(one)
        small = sorted(name for name, part in groups.items() if _objects(part) < objects_min)
        for name in sorted(set(groups) - set(small)):
            yield dimension, name, groups[name]
        if small:
            yield dimension, " + ".join(small), [one for name in small for one in groups[name]]


_DIMENSIONS = {"source": "source", "camera": "camera", "class": "label", "occlusion": "band"}


def _slice(dimension: str, name: str, pairs: Sequence[Pair], rules: Rules, level: float) -> Slice:
    points, interval = difference(pairs, rules.seed, level)
    return Slice(
        dimension=dimension,
        name=name,
        cases=len(pairs),
        objects=_objects(pairs),
        candidate=_mean(one.candidate for one in pairs),
        champion=_mean(one.champion for one in pairs),
        difference=points,
        interval=interval,
        decision=_effect(points, interval, _objects(pairs), rules),
    )


def _effect(points: float, interval: Interval | None, objects: int, rules: Rules) -> Effect:
    if interval is None or objects < rules.objects_min:
        return Effect.TOO_FEW
    if interval[1] < 0 and points < -rules.harm_points:
        return Effect.WORSE
    return Effect.BETTER if interval[0] > 0 else Effect.EVEN


def _objects(pairs: Iterable[Pair]) -> int:
    return len({one.object for one in pairs})


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))
