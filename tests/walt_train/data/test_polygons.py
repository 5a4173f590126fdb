from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco_mask

from walt_edge.contract.masks import Mask, MaskError, encode_rle
from walt_train.data.polygons import RunLengths, Segment, check_segment, fill_polygon, segment_mask

HW = (60, 80)
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools, NumPy 2


def theirs(polygons: list[list[float]]) -> Mask:
    runs = coco_mask.merge(coco_mask.frPyObjects(polygons, *HW))
    return np.asarray(coco_mask.decode(runs)).astype(bool)


def star(radii: list[float], at: tuple[float, float] = (40.0, 30.0)) -> list[float]:
    angles = np.arange(len(radii)) / len(radii) * 2 * math.pi
    reach = np.array(radii)
    xy = np.stack([at[0] + reach * np.cos(angles), at[1] + reach * np.sin(angles)], axis=1)
    return [float(number) for number in xy.ravel()]


def area_of(flat: list[float]) -> float:
    x, y = np.array(flat).reshape(-1, 2).T
    return abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(8, 27), min_size=5, max_size=24))
def test_polygons_have_their_area_and_are_cocos_but_for_the_border(radii: list[float]) -> None:
    flat = star(radii)
    found = segment_mask([flat], HW)
    border = sum(math.dist(one, other) for one, other in zip(*_ends(flat), strict=True))
    assert abs(int(found.sum()) - area_of(flat)) <= 0.3 * border
    assert int((found ^ theirs([flat])).sum()) <= 1.5 * border


def _ends(flat: list[float]) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    points = [(flat[place], flat[place + 1]) for place in range(0, len(flat), 2)]
    return points, points[1:] + points[:1]


def test_areas_are_right_on_average() -> None:
    random = np.random.default_rng(0)
    ours = true = coco = 0.0
    for _ in range(300):
        flat = star(list(random.uniform(5, 12, 9)), (random.uniform(20, 60), random.uniform(20, 40)))
        ours, true, coco = ours + segment_mask([flat], HW).sum(), true + area_of(flat), coco + theirs([flat]).sum()
    assert ours == pytest.approx(true, rel=2e-3)
    assert coco == pytest.approx(true, rel=0.02)


@given(st.integers(0, 70), st.integers(0, 50), st.integers(1, 30), st.integers(1, 30))
def test_whole_pixels_are_exact_as_cocos_are(x: int, y: int, width: int, height: int) -> None:
    x1, y1 = min(x + width, HW[1]), min(y + height, HW[0])
    flat = [float(number) for number in (x, y, x1, y, x1, y1, x, y1)]
    wanted = np.zeros(HW, dtype=bool)
    wanted[y:y1, x:x1] = True
    assert np.array_equal(segment_mask(list(flat), HW), wanted)
    assert np.array_equal(theirs([flat]), wanted)


def test_holes_edges_and_what_leaves_the_picture() -> None:
    outer, inner = [2.0, 2, 22, 2, 22, 22, 2, 22, 2, 2], [8.0, 8, 8, 14, 14, 14, 14, 8, 8, 8]
    ring = fill_polygon(np.array(outer + inner).reshape(-1, 2), HW)
    assert ring.sum() == 20 * 20 - 6 * 6
    left, right = [1.3, 1, 9.5, 1, 9.5, 9, 1.3, 9], [9.5, 1, 17, 1, 17, 9, 9.5, 9]
    halves = [segment_mask(list(half), HW) for half in (left, right)]
    assert not (halves[0] & halves[1]).any(), "an edge that two share gives each pixel to one"
    both: Segment = [left, right]
    assert np.array_equal(halves[0] | halves[1], segment_mask(both, HW))
    wide = segment_mask([-50.0, -50, 40, -50, 40, 500, -50, 500], HW)
    assert np.array_equal(wide, np.arange(HW[1])[None] < np.full((HW[0], 1), 40))
    assert not segment_mask([200.0, 200, 210, 200, 205, 230], HW).any()
    assert not segment_mask([3.1, 3.1, 3.2, 3.1, 3.2, 3.2], HW).any()


@given(arrays(bool, (7, 5)))
def test_run_lengths_as_text_and_as_numbers(mask: Mask) -> None:
    text = encode_rle(mask)
    assert np.array_equal(segment_mask(RunLengths(text.size, text.counts), (7, 5)), mask)
    flat = mask.ravel(order="F")
    bounds = np.flatnonzero(np.diff(np.concatenate(([False], flat)))).tolist()
    runs = np.diff([0, *bounds, flat.size]).tolist()
    assert np.array_equal(segment_mask(RunLengths((7, 5), runs), (7, 5)), mask)


@pytest.mark.parametrize(
    ("segment", "told"),
    [
        (RunLengths((5, 7), [35]), "a mask of 7x5 for a picture of 5x7"),
        (RunLengths((7, 5), [30]), "cover 30 pixels, the size says 35"),
        (RunLengths((7, 5), [40, -5]), "negative or longer"),
        (RunLengths((7, 5), [1 << 70]), "negative or longer"),
        (RunLengths((7, 5), "zz"), "mask runs"),
        ([1.0, 2, 3, 4], "a polygon of 4 numbers"),
        ([[1.0, 2, 3, 4, 5, float("inf")]], "no place in a picture"),
        ([[1.0, 2, 3, 4, 5, 6], 3.0], "mixes"),
    ],
)
def test_malformed_segments(segment: Segment, told: str) -> None:
    with pytest.raises(MaskError, match=told):
        segment_mask(segment, (7, 5))
    with pytest.raises(MaskError, match="without a polygon"):
        check_segment([], (7, 5))
