"""The figures of each class, of objects that are large enough to be asked for.

A person of a few pixels and a lorry across half the picture are no one question; how well a camera's model does is
asked of vehicles with a short side, and of people with a height, from which on their shape can be seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import msgspec

from walt_edge.contract.labels import Label
from walt_train.metrics.amodal_iou import ALL, AT_GAMMA, Case, Difference, Row, compare, row_of

VEHICLE_SIDE_MIN_PX = 48
PERSON_HEIGHT_MIN_PX = 96


class ClassRows(msgspec.Struct, frozen=True):
    """One class.

    Attributes:
        label: Its title.
        asked: Of which sizes, for people.
        total: All of these cases.
        at_gamma: A row for each γ, keyed by it.
    """

    label: str
    asked: str
    total: Row
    at_gamma: dict[float, Row]


ASKED: Mapping[Label, str] = MappingProxyType(
    {
        Label.PERSON: f"height >= {PERSON_HEIGHT_MIN_PX} px",
        Label.VEHICLE: f"short side >= {VEHICLE_SIDE_MIN_PX} px",
    }
)
"""How large an object has to be."""


def is_large(case: Case) -> bool:
    """Whether the object's tight amodal box is as large as its class is asked for."""
    width, height = case.size_wh
    if case.label == Label.PERSON:
        return height >= PERSON_HEIGHT_MIN_PX
    return min(width, height) >= VEHICLE_SIDE_MIN_PX


def class_rows(cases: Sequence[Case], false_by_label: Mapping[int, int], *, seed: int = 0) -> tuple[ClassRows, ...]:
    """The rows of each class that has large cases.

    Args:
        cases: Of all classes and sizes.
        false_by_label: False boxes of each class, whatever their size.
        seed: Of the confidence intervals.
    """
    rows = []
    for label, own in _by_label(cases).items():
        false_boxes = false_by_label.get(int(label), 0)
        at_gamma = {band.low: row_of(band, own, false_boxes, seed) for band in AT_GAMMA}
        rows.append(ClassRows(label.title, ASKED[label], row_of(ALL, own, false_boxes, seed), at_gamma))
    return tuple(rows)


def class_differences(a: Sequence[Case], b: Sequence[Case], *, seed: int = 0) -> dict[str, tuple[Difference, ...]]:
    """`a` minus `b` for each class, on large cases: in all, at each γ, and in each bin of occlusion.

    Args:
        a: Cases of one method; its sizes decide.
        b: Cases of another one, on the same frames.
        seed: Of the confidence intervals.

    Raises:
        MetricsError: The cases are not the same ones.
    """
    others = {case.truth: case for case in b}
    return {
        label.title: compare(own, [others[case.truth] for case in own if case.truth in others], seed=seed)
        for label, own in _by_label(a).items()
    }


def _by_label(cases: Sequence[Case]) -> dict[Label, list[Case]]:
    groups = {label: [case for case in cases if case.label == label and is_large(case)] for label in Label}
    return {label: own for label, own in groups.items() if own}
