import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from walt_edge.contract.labels import Label
from walt_edge.contract.masks import PatchMask
from walt_edge.vision.amodal import paste
from walt_train.data.sample import AmodalObject, AmodalSample
from walt_train.model.branches.branch import CHANNELS, MAP_SIDE, STATIC_CHANNEL, Layer
from walt_train.model.targets import area_shares, object_layers, soft_targets, visible_masks


def car(columns: NDArray[np.float64], rows: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Body, cabin and wheels in the unit square."""
    body = (abs(columns - 0.5) <= 0.5) & (rows >= 0.42) & (rows <= 0.85)
    cabin = (
        (rows >= 0)
        & (rows < 0.42)
        & (columns >= 0.18 + 0.25 * (0.42 - rows))
        & (columns <= 0.85 - 0.3 * (0.42 - rows))
    )
    wheels = np.zeros_like(body)
    for centre in (0.22, 0.78):
        wheels |= ((columns - centre) / 0.1) ** 2 + ((rows - 0.82) / 0.18) ** 2 <= 1
    return body | cabin | wheels


def person(columns: NDArray[np.float64], rows: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Head, trunk and two legs in the unit square."""
    head = ((columns - 0.5) / 0.2) ** 2 + ((rows - 0.09) / 0.09) ** 2 <= 1
    trunk = ((columns - 0.5) / 0.5) ** 2 + ((rows - 0.36) / 0.2) ** 2 <= 1
    left = (abs(columns - 0.3 + 0.15 * (rows - 0.5)) <= 0.14) & (rows >= 0.45) & (rows <= 1)
    right = (abs(columns - 0.7 - 0.15 * (rows - 0.5)) <= 0.14) & (rows >= 0.45) & (rows <= 1)
    return head | trunk | left | right


def drawn(shape, box: tuple[float, float, float, float], size_wh: tuple[int, int]) -> NDArray[np.bool_]:  # type: ignore[no-untyped-def]
    width, height = size_wh
    rows, columns = np.mgrid[:height, :width] + 0.5
    x0, y0, x1, y1 = box
    u, v = (columns - x0) / (x1 - x0), (rows - y0) / (y1 - y0)
    full: NDArray[np.bool_] = shape(u, v) & (u >= 0) & (u <= 1) & (v >= 0) & (v <= 1)
    return full


def iou(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float((one & other).sum() / (one | other).sum())


@pytest.mark.parametrize(
    ("shape", "side_wh", "least"),
    [(car, (120, 60), 0.98), (car, (200, 90), 0.98), (person, (30, 80), 0.96), (person, (46, 120), 0.96)],
)
@pytest.mark.parametrize("moved", [(0.0, 0.0), (0.3, 0.7)])
def test_a_perfect_soft_map_pastes_back(shape, side_wh, least: float, moved: tuple[float, float]) -> None:  # type: ignore[no-untyped-def]
    x0, y0 = 40 + moved[0], 30 + moved[1]
    mask = drawn(shape, (x0, y0, x0 + side_wh[0], y0 + side_wh[1]), (300, 200))
    box = np.array(PatchMask.from_full(mask).box_xyxy, np.float64)
    shares = area_shares(mask.astype(np.uint8)[None], box[None])[:, 0]
    pasted = paste(box, shares[:, 1], (300, 200))[0].full(200, 300)
    hard = paste(box, (shares[:, 1] >= 0.5).astype(np.float32), (300, 200))[0].full(200, 300)
    assert iou(pasted, mask) >= least
    assert iou(pasted, mask) > iou(hard, mask)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1000),
    box=st.tuples(st.floats(-20, 30), st.floats(-20, 30), st.floats(1, 60), st.floats(1, 60)),
)
def test_shares_are_exact_areas(seed: int, box: tuple[float, float, float, float]) -> None:
    class_map = np.random.default_rng(seed).integers(0, CHANNELS, (31, 43)).astype(np.uint8)
    x0, y0, width, height = box
    shares = area_shares(class_map[None], np.array([[x0, y0, x0 + width, y0 + height]]))[0, 0]
    across = _overlaps(x0, width, 43)
    down = _overlaps(y0, height, 31)
    for channel in range(1, CHANNELS):
        expected = down @ (class_map == channel) @ across.T / (width * height / MAP_SIDE**2)
        np.testing.assert_allclose(shares[channel], expected, atol=1e-4)
    np.testing.assert_allclose(shares.sum(axis=0), 1, atol=1e-5)


def _overlaps(start: float, length: float, pixels: int) -> NDArray[np.float64]:
    """(MAP_SIDE, pixels): how much of each pixel lies in each cell."""
    edges = start + length * np.arange(MAP_SIDE + 1) / MAP_SIDE
    low = np.maximum(edges[:-1, None], np.arange(pixels))
    overlaps: NDArray[np.float64] = np.clip(np.minimum(edges[1:, None], np.arange(pixels) + 1) - low, 0, None)
    return overlaps


def block(x: int, y: int, width: int, height: int) -> PatchMask:
    return PatchMask(x, y, np.ones((height, width), bool))


@pytest.fixture
def street() -> AmodalSample:
    """A person before a car before a second person, and a pole between the first two."""
    objects = (
        AmodalObject(Label.PERSON, block(10, 10, 4, 20), 1),
        AmodalObject(Label.VEHICLE, block(8, 16, 24, 12), 2),
        AmodalObject(Label.PERSON, block(20, 8, 4, 20), 3),
    )
    return AmodalSample(np.zeros((40, 50, 3), np.uint8), objects, static=((1, block(26, 0, 2, 40)),))


def test_layers_name_the_nearest_before_and_the_nearest_behind(street: AmodalSample) -> None:
    whole = (0, 0, 50, 40)
    first, car_layers, last = object_layers(street, [whole] * 3)

    assert not first.class_maps[Layer.OCCLUDER].any()
    assert first.class_maps[Layer.OCCLUDED][20, 11] == Label.VEHICLE
    assert car_layers.class_maps[Layer.OCCLUDER][20, 11] == Label.PERSON
    assert car_layers.class_maps[Layer.OCCLUDER][20, 26] == STATIC_CHANNEL
    assert car_layers.class_maps[Layer.OCCLUDED][20, 21] == Label.PERSON
    assert last.class_maps[Layer.OCCLUDER][20, 21] == Label.VEHICLE
    assert not last.class_maps[Layer.OCCLUDED].any()


def test_what_is_seen_is_what_nothing_hides(street: AmodalSample) -> None:
    masks = visible_masks(street)
    assert [mask.area for mask in masks] == [80, 24 * 12 - 4 * 12 - 2 * 12, 32]
    for layers, mask in zip(object_layers(street, [(0, 0, 50, 40)] * 3), masks, strict=True):
        np.testing.assert_array_equal(layers.class_maps[Layer.VISIBLE] > 0, mask.full(40, 50))


def test_a_window_cuts_without_moving(street: AmodalSample) -> None:
    window = (9, 12, 30, 30)
    small = object_layers(street, [window] * 3)[1]
    large = object_layers(street, [(0, 0, 50, 40)] * 3)[1]
    np.testing.assert_array_equal(small.class_maps, large.class_maps[:, 12:30, 9:30])
    roi = np.array([[10.5, 13.25, 29.0, 29.5]])
    np.testing.assert_allclose(soft_targets(small, roi), soft_targets(large, roi), atol=1e-6)


def test_what_lies_outside_the_frame_is_background(street: AmodalSample) -> None:
    layers = object_layers(street, [(0, 0, 50, 40)] * 3)[0]
    targets = soft_targets(layers, np.array([[-20.0, -20.0, 0.0, 0.0]]))
    assert targets.shape == (1, len(Layer), CHANNELS, MAP_SIDE, MAP_SIDE)
    np.testing.assert_allclose(targets[:, :, 0], 1)
