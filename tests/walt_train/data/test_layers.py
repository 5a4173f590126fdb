from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from walt_edge.contract.masks import Mask, PatchMask, decode_rle, encode_rle
from walt_train.data.layers import encode_patch, split_layers

SIZE = (9, 7)
MASKS = arrays(bool, (SIZE[1], SIZE[0]))


def square(x: int, y: int, side: int) -> PatchMask:
    full = np.zeros((SIZE[1], SIZE[0]), dtype=bool)
    full[y : y + side, x : x + side] = True
    return PatchMask.from_full(full)


def test_layers_of_two_squares_and_a_pole() -> None:
    near, far = square(2, 2, 3), square(4, 3, 3)
    pole = PatchMask.from_full(np.pad(np.ones((7, 1), dtype=bool), ((0, 0), (3, 5))))
    first, second = split_layers([near, far], [0, 2], [(1, pole)], SIZE)
    assert first.occlusion_fraction == 0
    assert np.array_equal(first.occluded.full(7, 9), near.full(7, 9) & far.full(7, 9))
    assert second.occlusion_fraction == pytest.approx(2 / 9)
    assert second.occluder.area == 2, "only what lies inside the amodal box"
    behind_pole = split_layers([near, far], [1, 2], [(0, pole)], SIZE)[0]
    assert behind_pole.occlusion_fraction == pytest.approx(3 / 9)


@given(st.lists(MASKS, min_size=1, max_size=5), MASKS, st.integers(0, 5))
def test_visible_and_hidden_make_the_amodal_mask(fulls: list[Mask], static: Mask, rank: int) -> None:
    masks = [PatchMask.from_full(full) for full in fulls]
    ranks = [i + (i >= rank) for i in range(len(masks))]
    layers = split_layers(masks, ranks, [(rank, PatchMask.from_full(static))], SIZE)
    shown = np.zeros((SIZE[1], SIZE[0]), dtype=int)
    for i, layer in enumerate(layers):
        box = np.zeros((SIZE[1], SIZE[0]), dtype=bool)
        x0, y0, x1, y1 = masks[i].box_xyxy
        box[y0:y1, x0:x1] = True
        nearer = np.any([np.zeros_like(box), *fulls[:i]], axis=0) | (static & (rank <= i))
        farther = np.any([np.zeros_like(box), *fulls[i + 1 :]], axis=0)
        assert np.array_equal(layer.occluder.full(*box.shape), nearer & box)
        assert np.array_equal(layer.occluded.full(*box.shape), farther & box)
        assert np.array_equal(layer.visible.full(*box.shape), fulls[i] & ~nearer)
        shown += layer.visible.full(*box.shape)
    assert shown.max() <= 1, "a pixel is seen of one object"


@given(MASKS)
def test_patch_encoding_is_the_contracts(full: Mask) -> None:
    rle = encode_patch(PatchMask.from_full(full), SIZE)
    assert rle == encode_rle(full)
    assert np.array_equal(decode_rle(rle), full)


def test_long_runs_are_encoded_as_the_contract_does() -> None:
    full = np.zeros((1500, 1500), dtype=bool)
    full[3:1400, 700:703] = True
    full[:, 900] = True
    assert encode_patch(PatchMask.from_full(full), (1500, 1500)) == encode_rle(full)
