from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from walt_edge.contract.instances import AmodalInstances
from walt_edge.contract.masks import PatchMask
from walt_edge.tracking.pictures import colour_of, draw_tracks
from walt_edge.tracking.tracker import State, TrackedObject

GREY = np.full((120, 200, 3), 90, np.uint8)


def track(number: int, state: State, box: tuple[float, float, float, float] = (60, 30, 100, 90)) -> TrackedObject:
    is_seen = state in ("seen", "partly_hidden")
    instance, visible = (0, box) if is_seen else (None, None)
    return TrackedObject(number, 1, box, visible, (0.0, 0.0), (9.0, 4.0), state, 0.0, None, None, 1.0, 0.9, instance)


def painted(picture: NDArray[np.uint8], number: int) -> float:
    """Share of the box's lower edge."""
    return float((picture[89, 60:100] == colour_of(number)).all(axis=1).mean())


def test_who_is_seen_has_a_box_and_who_is_hidden_half_of_one() -> None:
    before = GREY.copy()
    seen, hidden = (draw_tracks(GREY, [track(3, state)]) for state in ("seen", "hidden"))
    assert painted(seen, 3) == 1
    assert 0.4 < painted(hidden, 3) < 0.8
    assert (before == GREY).all()
    # The ellipse on the ground reaches below the box.
    assert (seen[92, 80] == 90).all()
    assert (hidden[92, 80] != 90).any()


def test_with_instances_the_outline_is_drawn() -> None:
    mask = np.zeros((60, 40), bool)
    mask[20:50, 10:30] = True
    instances = AmodalInstances.of_masks((200, 120), [1], [0.9], [PatchMask(60, 30, mask)])
    picture = draw_tracks(GREY, [track(3, "seen")], instances)
    assert (picture[50:52, 85] != 90).any()
    assert (picture[60, 61] == 90).all()


def test_who_is_not_believed_is_not_drawn() -> None:
    assert (draw_tracks(GREY, [track(3, "tentative")]) == GREY).all()


@pytest.mark.parametrize("box", [(0, 0, 0, 0), (0, 0, 200, 120), (199, 119, 200, 120), (0, 60, 3, 120)])
@pytest.mark.parametrize("state", ["seen", "hidden", "missed"])
def test_any_place_can_be_drawn(box: tuple[float, float, float, float], state: State) -> None:
    assert draw_tracks(GREY, [track(9, state, box)]).shape == GREY.shape


def test_colours_stay_and_differ() -> None:
    colours = [colour_of(number) for number in range(1, 20)]
    assert colours == [colour_of(number) for number in range(1, 20)]
    assert len(set(colours)) == len(colours)
