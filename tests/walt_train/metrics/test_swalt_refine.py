"""What is kept of standing objects that motion saw, and who is before them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from tests.walt_train.metrics.test_swalt import seen as seen_as
from tests.walt_train.metrics.test_swalt import timeline
from tests.walt_train.metrics.test_swalt_outline import BODY, empty_place, mask, window, with_car
from walt_edge.contract.labels import Label
from walt_edge.vision.plate import Image
from walt_train.metrics.swalt import StillObject
from walt_train.metrics.swalt_refine import passers, refined

STAY_US = 0, 18_000_000
WALKER = (120, 50, 136, 140)


def thing(label: Label) -> StillObject:
    return StillObject(label, mask(BODY), {}, STAY_US, tuple(range(10)))


@pytest.mark.parametrize(("label", "kept"), [(Label.VEHICLE, 1), (Label.PERSON, 0)])
def test_a_person_who_lies_is_a_part_of_something_else(label: Label, kept: int) -> None:
    car = with_car(empty_place())
    assert len(refined([thing(label)], lambda places: iter([car] * len(places)), empty_place())) == kept


def test_what_never_left_is_left_out() -> None:
    car = with_car(empty_place())
    assert refined([thing(Label.VEHICLE)], lambda places: iter([car] * len(places)), car) == []


def test_who_is_before_a_car_is_what_differs_from_its_usual_picture() -> None:
    car = with_car(empty_place())
    frames = [car.copy() for _ in range(12)]
    frames[4][window(WALKER)] = (200, 180, 20)
    frames[6] = np.clip(frames[6] * 0.8, 0, 255).astype(np.uint8)  # a cloud
    frames[11][window(WALKER)] = (200, 180, 20)  # when the car's stay is over

    def film(places: Sequence[int]) -> Iterator[Image]:
        return (frames[place] for place in places)

    portraits = refined([thing(Label.VEHICLE)], film, empty_place())
    found = passers(portraits, timeline([seen_as()] * 12), film)
    assert [place for place, before in enumerate(found) if before is not None] == [4]
    assert found[4] is not None
    both = mask((WALKER[0], BODY[1], WALKER[2], BODY[3]))
    assert found[4].iou(both) > 0.95
