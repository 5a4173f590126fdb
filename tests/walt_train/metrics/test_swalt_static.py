"""Poles learned from who passes behind them, where nobody drew them."""

from __future__ import annotations

import numpy as np

from tests.walt_train.metrics.boards import SIZE_WH, VEHICLE, Box, rectangle
from tests.walt_train.metrics.test_swalt import behind, seen
from walt_edge.contract.instances import AmodalInstances
from walt_edge.contract.masks import PatchMask
from walt_train.metrics.swalt import SwaltSettings, Timeline, still_objects
from walt_train.metrics.swalt_static import learned_static

POLE: Box = (150, 0, 158, 200)
STAYS: Box = (140, 60, 240, 110)
STEP_PX, STEP_S = 10, 0.2


def passing(pole: Box) -> list[AmodalInstances]:
    """A car drives from left to right behind a pole."""
    return [seen((VEHICLE, behind((x, 60, x + 80, 110), pole))) for x in range(10, SIZE_WH[0] - 90, STEP_PX)]


def gone() -> list[AmodalInstances]:
    return [seen()] * 20


def line(frames: list[AmodalInstances]) -> Timeline:
    return Timeline.of(frames, [round(1e6 * STEP_S * index) for index in range(len(frames))])


def test_a_pole_is_learned_and_what_it_cuts_is_no_truth() -> None:
    beyond = behind(STAYS, POLE)
    cut = PatchMask(158, beyond.y, beyond.mask[:, 18:])  # what shows to the right of the pole
    frames = [frame for _ in range(6) for frame in (*passing(POLE), *gone())] + [seen((VEHICLE, cut))] * 60
    timeline = line(frames)
    static = learned_static(timeline)
    assert static[60:110, 150:158].mean() > 0.8
    assert static.sum() < 3 * static[:, 148:160].sum()
    assert len(still_objects(timeline, SwaltSettings())) == 1, "without it, the rest of a car is taken for a car"
    assert still_objects(timeline, SwaltSettings(), static=static) == []


def test_where_nobody_passes_behind_anything_nothing_is_learned() -> None:
    nowhere: Box = (0, 0, 1, 1)
    frames = [frame for _ in range(6) for frame in (*passing(nowhere), *gone())]
    assert not learned_static(line([*frames, *[seen((VEHICLE, rectangle(STAYS)))] * 60])).any()
    assert not np.any(learned_static(line(gone())))
