from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.walt_train.mining.archives import crop_header
from walt_edge.contract.clipart import Clip, StaticThing
from walt_edge.contract.masks import Mask, decode_rle, encode_rle
from walt_train.mining.epochs import Pose
from walt_train.mining.pieces import ClipPiece
from walt_train.mining.posts import Posts, learned, moved, together

WH = (320, 240)
POLE = (150, 158)  # columns


def piece(body: Mask, track: int, boot: str = "boot") -> ClipPiece:
    """A clip whose outline is given in the frame, in a crop with some margin."""
    rows, columns = np.flatnonzero(body.any(axis=1)), np.flatnonzero(body.any(axis=0))
    x, y = int(columns[0]) - 4, int(rows[0]) - 4
    mask = np.ascontiguousarray(body[y : rows[-1] + 5, x : columns[-1] + 5])
    header = crop_header(mask, (x, y), frame_wh=WH, track_id=track, boot=boot)
    return ClipPiece(Path(), Clip(header=header, image=""), np.zeros((*mask.shape, 3), np.uint8), mask)


def block(left: int, top: int, width: int, height: int) -> Mask:
    body = np.zeros(WH[::-1], bool)
    body[top : top + height, left : left + width] = True
    return body


def cars(*, pole: bool) -> list[ClipPiece]:
    """Four that pass, each seen twice; behind a pole or not."""
    found = []
    for track, (left, top) in enumerate([(90, 120), (100, 124), (110, 118), (120, 126)]):
        for body in (block(left, top, 90, 50), block(left + 90, top, 90, 50)):
            if pole:
                body[:, POLE[0] : POLE[1]] = False
            found.append(piece(body, track, boot=f"boot-{track % 2}"))
    return found


def test_outlines_that_are_cut_at_one_place_tell_of_what_stands_there() -> None:
    [thing] = learned(cars(pole=True), WH)
    rows, columns = np.nonzero(decode_rle(thing.mask))
    assert POLE[0] <= columns.min() <= columns.max() < POLE[1]
    assert np.ptp(rows) > 35
    assert thing.ground_y >= 170  # all of them passed behind it
    assert learned(cars(pole=False), WH) == []
    assert learned(cars(pole=True)[:4], WH) == [], "two tracks are chance"


def test_gaps_between_legs_that_happen_to_cross_are_no_thing() -> None:
    """Wide gaps at other places each, which share the pole's columns."""
    walkers = []
    for track, shift in enumerate((-24, -12, 0, 12, 24)):
        body = block(100 + shift, 100, 110, 70)
        body[110:170, 126 + shift : 182 + shift] = False
        walkers.append(piece(body, track))
    assert learned(walkers, WH) == []


@pytest.mark.parametrize(
    ("left", "bottom", "low", "high"),
    [
        (158, 190, 0.0, 0.3),  # begins where the pole ends, behind it
        (158, 200, 0.0, 0.3),  # on its very row
        (158, 204, 1.0, 1.0),  # before it
        (220, 190, 1.0, 1.0),  # elsewhere
    ],
)
def test_who_ends_at_a_thing_and_stands_behind_it_is_doubted(left: int, bottom: int, low: float, high: float) -> None:
    pole = StaticThing(mask=encode_rle(block(150, 60, 8, 140)), ground_y=200.0)
    part = Posts.of([pole], WH).part(piece(block(left, bottom - 80, 30, 80), 1))
    assert low <= part <= high


def test_a_thing_told_twice_is_one_and_moves_with_the_camera() -> None:
    pole = StaticThing(mask=encode_rle(block(150, 60, 8, 140)), ground_y=200.0)
    again = StaticThing(mask=encode_rle(block(151, 80, 8, 100)), ground_y=180.0)
    other = StaticThing(mask=encode_rle(block(40, 60, 8, 140)), ground_y=240.0)
    assert together([pole, again, other]) == [pole, other]
    pose = Pose(np.array([[1.0, 0, 6.0], [0, 1.0, -3.0]]), WH, 0.9)  # the picture shows it 6 px right, 3 px higher
    back = moved(pole, pose)
    assert np.array_equal(decode_rle(back.mask), block(144, 63, 8, 140))
    assert back.ground_y == pytest.approx(203)
    assert moved(other, pose).ground_y == 240
