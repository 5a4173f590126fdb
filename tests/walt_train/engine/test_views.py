from dataclasses import replace

import cv2
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.walt_train.engine.shapes import FRAME_WH, SCENE, drawn_sample, tiny_recipe
from walt_edge.contract.masks import PatchMask
from walt_train.data.sample import AmodalSample
from walt_train.engine.examples import make_example
from walt_train.engine.views import PAD_LEVEL, View, draw_window
from walt_train.model.targets import visible_masks
from walt_train.recipes import Recipe, walt_edge_small

WIDTH, HEIGHT = FRAME_WH
WINDOWS = st.tuples(st.integers(0, 90), st.integers(0, 60), st.integers(60, 100), st.integers(40, 66))


def busy(seed: int) -> AmodalSample:
    """Objects, a pole between them, and points on the first."""
    sample = drawn_sample(seed)
    pole = PatchMask(70, 0, np.ones((HEIGHT, 6), bool))
    x0, y0, x1, y1 = sample.objects[0].amodal.box_xyxy
    first = replace(sample.objects[0], keypoints=np.array([[x0, y0, 2.0]]), cuboid=np.tile([x1, y1], (8, 1)) * 1.0)
    return replace(sample, objects=(first, *sample.objects[1:]), static=((2, pole),))


def owners(sample: AmodalSample) -> NDArray[np.int64]:
    """Who is seen at each pixel: a track, 99 for the pole, -1 for nobody."""
    height, width = sample.image_bgr.shape[:2]
    seen = np.full((height, width), -1)
    for order in range(len(sample.objects), -1, -1):
        if order < len(sample.objects):
            seen[sample.objects[order].amodal.full(height, width)] = sample.objects[order].track_id
        for nearer, patch in sample.static:
            if nearer == order:
                seen[patch.full(height, width)] = 99
    return seen


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), window=WINDOWS)
def test_a_window_shows_what_it_cuts_out_exactly(seed: int, window: tuple[int, int, int, int]) -> None:
    x0, y0, width, height = window
    sample = busy(seed)
    view = View.whole(sample, SCENE).cut((x0, y0, x0 + width, y0 + height))
    inside = np.s_[y0 : y0 + height, x0 : x0 + width]
    np.testing.assert_array_equal(view.sample.image_bgr, sample.image_bgr[inside])
    np.testing.assert_array_equal(view.scene_bgr, SCENE[inside])
    np.testing.assert_array_equal(owners(view.sample), owners(sample)[inside])
    before = dict(zip((o.track_id for o in sample.objects), visible_masks(sample), strict=True))
    for thing, seen in zip(view.sample.objects, visible_masks(view.sample), strict=True):
        np.testing.assert_array_equal(
            seen.full(height, width), before[thing.track_id].window((x0, y0, x0 + width, y0 + height))
        )
    assert view.window_xyxy == (x0, y0, x0 + width, y0 + height)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), right=st.integers(-90, 90), down=st.integers(-60, 60))
def test_a_move_is_undone_by_its_opposite_but_for_what_left(seed: int, right: int, down: int) -> None:
    sample = busy(seed)
    there = View.whole(sample, SCENE).moved(right, down)
    back = there.moved(-right, -down)
    stayed = np.zeros((HEIGHT, WIDTH), bool)
    stayed[max(0, -down) : HEIGHT - max(0, down), max(0, -right) : WIDTH - max(0, right)] = True
    np.testing.assert_array_equal(back.sample.image_bgr[stayed], sample.image_bgr[stayed])
    np.testing.assert_array_equal(back.sample.image_bgr[~stayed], PAD_LEVEL)
    np.testing.assert_array_equal(owners(back.sample)[stayed], owners(sample)[stayed])
    assert back.window_xyxy == (0, 0, WIDTH, HEIGHT)


def test_a_mirror_mirrors_everything_and_twice_is_the_frame() -> None:
    sample = busy(3)
    once = View.whole(sample, SCENE).mirrored()
    np.testing.assert_array_equal(once.sample.image_bgr, cv2.flip(sample.image_bgr, 1))
    np.testing.assert_array_equal(owners(once.sample), owners(sample)[:, ::-1])
    np.testing.assert_array_equal(once.window_xyxy, (WIDTH, 0, 0, HEIGHT))
    assert all(thing.keypoints is None for thing in once.sample.objects)
    twice = once.mirrored()
    np.testing.assert_array_equal(owners(twice.sample), owners(sample))
    assert twice.window_xyxy == (0, 0, WIDTH, HEIGHT)


def test_points_move_along() -> None:
    sample = busy(3)
    view = View.whole(sample, SCENE).moved(5, -3)
    first, before = view.sample.objects[0], sample.objects[0]
    assert before.keypoints is not None
    assert before.cuboid is not None
    np.testing.assert_array_equal(first.keypoints, before.keypoints + np.array([5, -3, 0]))
    np.testing.assert_array_equal(first.cuboid, before.cuboid + np.array([5, -3]))


def only(recipe: Recipe, **chances: float) -> Recipe:
    none = {"window_chance": 0.0, "shift_chance": 0.0, "mirror_chance": 0.0}
    return msgspec.structs.replace(recipe, training=msgspec.structs.replace(recipe.training, **(none | chances)))


@pytest.mark.parametrize("chance", ["window_chance", "shift_chance", "mirror_chance"])
@pytest.mark.parametrize("input_wh", [(96, 64), (96, 96)])
def test_the_network_is_told_where_a_view_lies(chance: str, input_wh: tuple[int, int]) -> None:
    """A picture whose colours say where each pixel lies in the frame: so must the window."""
    columns, rows = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    place = np.stack([columns, rows, np.zeros_like(rows)], axis=2).astype(np.uint8)
    sample = replace(drawn_sample(1), image_bgr=place)
    recipe = only(tiny_recipe(), **{chance: 1.0})
    recipe = msgspec.structs.replace(recipe, network=msgspec.structs.replace(recipe.network, input_wh=input_wh))
    for seed in range(5):
        example = make_example(sample, SCENE, recipe, np.random.default_rng(seed))
        x0, y0, x1, y1 = (example.window * np.tile(input_wh, 2) * 2).tolist()  # the whole frame's scale is 1 / 2
        u, v = (np.arange(side) + 0.5 for side in input_wh)
        # At the edges of what is shown the letterbox has mixed in grey.
        shown = cv2.erode((example.scene[:, :, 0] == SCENE[0, 0, 0]).astype(np.uint8), np.ones((3, 3))) > 0
        expected_x = np.broadcast_to(x0 + (x1 - x0) * u / input_wh[0] - 0.5, shown.shape)
        expected_y = np.broadcast_to((y0 + (y1 - y0) * v / input_wh[1] - 0.5)[:, None], shown.shape)
        assert abs(example.picture[shown][:, 0] - expected_x[shown]).max() < 2
        assert abs(example.picture[shown][:, 1] - expected_y[shown]).max() < 2


def test_a_whole_frame_lies_where_it_lies() -> None:
    example = make_example(drawn_sample(1), SCENE, only(tiny_recipe()), np.random.default_rng(0))
    np.testing.assert_allclose(example.window, [0, 0, 1, 1])


def test_windows_keep_the_frames_proportions_and_stay_inside() -> None:
    random = np.random.default_rng(0)
    for seed in range(40):
        x0, y0, x1, y1 = draw_window(drawn_sample(seed), (0.6, 0.9), random)
        assert x0 >= 0
        assert y0 >= 0
        assert x1 <= WIDTH
        assert y1 <= HEIGHT
        assert 0.59 <= (x1 - x0) / WIDTH <= 0.91
        assert (x1 - x0) / WIDTH == pytest.approx((y1 - y0) / HEIGHT, abs=0.01)
    empty = draw_window(drawn_sample(0, 0), (1.0, 1.0), random)
    assert empty == (0, 0, WIDTH, HEIGHT)


def truncated_share(recipe: Recipe, pictures: int = 150) -> float:
    """Of the objects that are taught, those that a border of the view cuts (the frame itself cuts none)."""
    cut = taught = 0
    for seed in range(pictures):
        sample = drawn_sample(seed)
        example = make_example(sample, SCENE, recipe, np.random.default_rng(seed))
        width, height = recipe.network.input_wh
        shown = example.scene[..., 0] != PAD_LEVEL
        rows, columns = np.flatnonzero(shown.any(axis=1)), np.flatnonzero(shown.any(axis=0))
        low, high = np.array([columns[0], rows[0]]), np.array([columns[-1], rows[-1]]) + 1
        at_border = (example.boxes[:, :2] <= low + 0.01) | (example.boxes[:, 2:] >= high - 0.01)
        cut += int(at_border.any(axis=1).sum())
        taught += len(example.boxes)
        assert (example.boxes <= [width, height, width, height]).all()
    return cut / taught


def test_at_least_fifteen_of_a_hundred_objects_are_truncated() -> None:
    edge = walt_edge_small().training
    chances = {name: getattr(edge, name) for name in ("window_chance", "shift_chance", "mirror_chance")}
    recipe = only(tiny_recipe(), **chances)
    assert 0.15 <= truncated_share(recipe) <= 0.4
    assert truncated_share(only(recipe)) < 0.05
