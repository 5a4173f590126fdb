"""Masks: our run-length encoding against COCO's own, and patches against full masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco

from walt_edge.contract.masks import Mask, MaskError, PatchMask, Rle, decode_rle, encode_rle, rle_area

masks: Any = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40))


@given(masks)
def test_encoding_is_cocos(mask: Mask) -> None:
    expected = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    rle = encode_rle(mask)
    assert rle.counts == expected["counts"].decode()
    assert list(rle.size) == expected["size"]


@given(masks)
def test_round_trip_keeps_every_pixel(mask: Mask) -> None:
    rle = encode_rle(mask)
    assert np.array_equal(decode_rle(rle), mask)
    assert rle_area(rle) == int(mask.sum())


def test_long_runs_round_trip() -> None:
    mask = np.zeros((2000, 1500), dtype=bool)
    mask[3, 4] = mask[1999, 1499] = True
    mask[:, 700:900] = True
    assert np.array_equal(decode_rle(encode_rle(mask)), mask)


@pytest.mark.parametrize(
    ("rle", "says"),
    [
        (Rle((2, 2), "11"), "cover"),
        (Rle((2, 2), "\x7f"), "no digit"),
        (Rle((2, 2), "é"), "no digit"),
        (Rle((2, 2), "o"), "middle of a number"),
        (Rle((2, 2), "o" * 40), "60 bits"),
        (Rle((100_000, 100_000), "0"), "not between"),
        (Rle((-1, 2), "0"), "not between"),
        (Rle((2, 2), "L8"), "negative"),
    ],
)
def test_malformed_runs_are_refused(rle: Rle, says: str) -> None:
    with pytest.raises(MaskError, match=says):
        decode_rle(rle)


@given(st.text(max_size=30), st.integers(0, 50), st.integers(0, 50))
def test_hostile_runs_never_crash(counts: str, height: int, width: int) -> None:
    try:
        mask = decode_rle(Rle((height, width), counts))
    except MaskError:
        return
    assert mask.shape == (height, width)


@given(masks, st.integers(-5, 45), st.integers(-5, 45))
def test_patch_is_its_full_mask(mask: Mask, x: int, y: int) -> None:
    patch = PatchMask.from_full(mask)
    assert np.array_equal(patch.full(*mask.shape), mask)
    assert patch.area == int(mask.sum())
    moved = PatchMask(patch.x + x, patch.y + y, patch.mask)
    inside = moved.window((0, 0, 20, 20))
    big = np.zeros((120, 120), dtype=bool)
    if patch.mask.size:
        top, left = moved.y + 10, moved.x + 10
        big[top : top + patch.mask.shape[0], left : left + patch.mask.shape[1]] = patch.mask
    assert np.array_equal(inside, big[10:30, 10:30])


@given(masks, masks)
def test_patch_overlap_is_the_full_masks_overlap(first: Mask, second: Mask) -> None:
    a, b = PatchMask.from_full(first), PatchMask.from_full(second)
    full_a, full_b = a.full(40, 40), b.full(40, 40)
    common, union = int((full_a & full_b).sum()), int((full_a | full_b).sum())
    assert a.intersection(b) == common
    assert a.iou(b) == (common / union if union else 0.0)


@given(
    hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12)), st.integers(-3, 20), st.integers(-3, 20)
)
def test_a_tight_patch_is_the_same_mask(mask: Mask, x: int, y: int) -> None:
    patch = PatchMask(x, y, mask)
    tight = patch.tight()
    np.testing.assert_array_equal(tight.full(40, 40), patch.full(40, 40))
    for side in (0, 1):
        edges = np.atleast_1d(tight.mask.any(axis=side))
        assert edges.size == 0 or (edges[0] and edges[-1])


@given(masks, st.integers(-5, 45), st.integers(-5, 45), st.integers(-9, 30), st.integers(-9, 30))
def test_a_patch_is_cut_as_its_full_mask_is(mask: Mask, x: int, y: int, left: int, top: int) -> None:
    patch = PatchMask.from_full(mask)
    moved = PatchMask(patch.x + x, patch.y + y, patch.mask)
    box = (left, top, left + 25, top + 18)
    cut, whole = moved.cut(box), PatchMask.from_full(moved.window(box))
    assert (cut.x, cut.y) == (whole.x, whole.y)
    np.testing.assert_array_equal(cut.mask, whole.mask)
