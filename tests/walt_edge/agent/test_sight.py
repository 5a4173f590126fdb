"""Sights are kept until the picture of their frame is shown, and no longer: a crowd's is as large as a picture."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.fakes.scenes import frame_of
from walt_edge.agent.sight import Sights
from walt_edge.agent.telemetry import Meter
from walt_edge.contract.instances import AmodalInstances
from walt_edge.update.holder import Look

WH = (32, 24)
PICTURE = np.zeros((WH[1], WH[0], 3), np.uint8)
DELAY = 5


class Looks:
    """Sees nobody, and knows of which looks somebody still holds what they gave."""

    def __init__(self) -> None:
        self.given: list[weakref.ref[NDArray[np.float32]]] = []

    def look(self, bgr: NDArray[np.uint8]) -> Look:
        instances = AmodalInstances.empty(WH)
        self.given.append(weakref.ref(instances.boxes_xyxy))
        return Look(release=1, instances=instances, took_ms=1.0)

    @property
    def held(self) -> int:
        gc.collect()
        return sum(one() is not None for one in self.given)


def test_a_sight_is_let_go_when_its_frame_was_shown() -> None:
    looks = Looks()
    sights = Sights(looks, Meter("boot-1"))
    for index in range(40):
        assert sights.look(frame_of(PICTURE, index, index / 5)) is not None
        if index >= DELAY:
            shown = sights.of(index - DELAY)
            assert shown is not None
            assert shown.index == index - DELAY
            assert sights.of(index - DELAY) is shown
            del shown
    assert looks.held == DELAY + 1


@pytest.mark.parametrize("step", [2, 7])
def test_frames_without_a_look_have_no_sight(step: int) -> None:
    sights = Sights(Looks(), Meter("boot-1"))
    for index in range(0, 40, step):
        sights.look(frame_of(PICTURE, index, index / 5))
    assert [index for index in range(40) if sights.of(index) is not None] == list(range(0, 40, step))


def test_while_nothing_is_shown_none_are_kept() -> None:
    looks = Looks()
    sights = Sights(looks, Meter("boot-1"))
    for index in range(10):
        sights.look(frame_of(PICTURE, index, index / 5))
        sights.forget()
    assert looks.held == 0


def test_a_clock_that_begins_anew_hides_no_sight() -> None:
    sights = Sights(Looks(), Meter("boot-1"))
    for index in range(10, 20):
        sights.look(frame_of(PICTURE, index, index / 5))
    sights.look(frame_of(PICTURE, 0, 0.0))
    found = sights.of(0)
    assert found is not None
    assert found.index == 0
