from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from walt_edge.contract.labels import Label
from walt_edge.contract.masks import PatchMask
from walt_edge.privacy.anonymiser import FILL_BGR, Anonymiser
from walt_edge.privacy.onlookers import Onlookers, heads
from walt_edge.runtimes import Detections

BOX = (100.0, 60.0, 140.0, 180.0)


def seen(
    *boxes: tuple[float, float, float, float], label: Label | None = Label.PERSON, score: float = 0.8
) -> Detections:
    count = len(boxes)
    return Detections(np.array(boxes, np.float64).reshape(-1, 4), np.full(count, score), (label,) * count)


def silhouette(x0: int, y0: int, x1: int, y1: int) -> PatchMask:
    return PatchMask(x0, y0, np.ones((y1 - y0, x1 - x0), bool))


class Counting:
    """A detector that sees one person and counts its looks."""

    name = "counting"
    looks = 0

    def __call__(self, bgr: NDArray[np.uint8]) -> Detections:
        self.looks += 1
        return seen(BOX)


@pytest.mark.parametrize(
    ("detections", "silhouettes", "expected"),
    [
        pytest.param(seen(BOX), [], 1, id="nothing moves there"),
        pytest.param(seen(BOX, score=0.2), [], 1, id="hardly sure"),
        pytest.param(seen(BOX), [silhouette(101, 62, 139, 181)], 0, id="their own silhouette"),
        pytest.param(seen(BOX), [silhouette(20, 80, 300, 190)], 1, id="a bus behind"),
        pytest.param(seen(BOX), [silhouette(130, 62, 168, 181)], 1, id="somebody else"),
        pytest.param(seen(BOX, score=0.05), [], 0, id="a guess"),
        pytest.param(seen(BOX, label=Label.VEHICLE), [], 0, id="a vehicle"),
        pytest.param(seen(BOX, label=None), [], 0, id="a dog"),
        pytest.param(seen(), [silhouette(1, 1, 9, 9)], 0, id="nothing seen"),
        pytest.param(seen(BOX, (200.0, 60.0, 230.0, 150.0)), [silhouette(101, 62, 139, 181)], 1, id="one of two"),
    ],
)
def test_people_without_a_silhouette_are_onlookers(
    detections: Detections, silhouettes: list[PatchMask], expected: int
) -> None:
    assert len(heads(detections, silhouettes)) == expected


@pytest.mark.parametrize(
    "box", [BOX, (100.0, 60.0, 112.0, 180.0), (100.3, 60.7, 110.9, 80.2), (-8.0, -5.0, 30.0, 90.0)], ids=str
)
def test_all_of_the_head_part_is_filled_and_no_more_than_the_upper_half(
    box: tuple[float, float, float, float],
) -> None:
    frame = np.full((240, 320, 3), 90, np.uint8)
    image = Anonymiser()(frame, heads(seen(box), []), np.zeros((240, 320), bool))
    x0, y0, x1, y1 = (round(value) for value in box)
    middle, width = (x0 + x1) // 2, x1 - x0
    depth = min(round(0.2 * (y1 - y0)), width)
    head = image.filled[max(0, y0) : y0 + depth, max(0, middle - width // 3) : middle + width // 3 + 1]
    assert head.size
    assert head.all()
    assert not image.filled[y0 + max(12, (y1 - y0) // 2) :].any()
    assert (image.bgr[image.filled] == FILL_BGR).all()


def test_a_frame_is_looked_at_once_and_a_look_lasts_a_while() -> None:
    detector = Counting()
    onlookers = Onlookers(detector, every_s=0.4)
    first, second, third = (np.zeros((240, 320, 3), np.uint8) for _ in range(3))
    onlookers(first)
    assert len(onlookers.sightings(first, [], 1.0)) == 1
    assert detector.looks == 1, "the judge had asked about this frame"
    assert len(onlookers.sightings(second, [], 1.3)) == 1
    assert detector.looks == 1, "a look lasts"
    assert onlookers.sightings(second, [silhouette(101, 62, 139, 181)], 1.3) == [], "silhouettes are the frame's own"
    onlookers.sightings(third, [], 1.5)
    assert detector.looks == 2
    onlookers.sightings(first, [], None)
    onlookers.sightings(second, [], 1.6)
    assert detector.looks == 4, "a picture of no moment says nothing about the next frame"
    assert onlookers.name == "counting"
