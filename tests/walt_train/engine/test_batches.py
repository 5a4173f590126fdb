from dataclasses import replace

import msgspec
import numpy as np
import pytest
import torch

from tests.walt_train.engine.shapes import SCENE, Shapes, drawn_sample, tiny_recipe
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import PatchMask
from walt_train.data.sample import AmodalObject, AmodalSample
from walt_train.engine.batches import StepBatches, Steps, step_loader, survey
from walt_train.engine.examples import make_example
from walt_train.engine.segments import Segment
from walt_train.engine.views import PAD_LEVEL
from walt_train.model.branches.branch import Layer
from walt_train.recipes import Recipe


@pytest.fixture
def recipe() -> Recipe:
    """Without shifts."""
    recipe = tiny_recipe()
    return msgspec.structs.replace(recipe, training=msgspec.structs.replace(recipe.training, shift_chance=0.0))


def flat(batch: dict[str, object]) -> list[torch.Tensor]:
    parts: list[torch.Tensor] = []
    for value in batch.values():
        parts += value if isinstance(value, list) else [value]  # type: ignore[list-item]
    return parts


def same(one: dict[str, object], other: dict[str, object]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(flat(one), flat(other), strict=True))


def test_a_batch_depends_on_the_step_alone(recipe: Recipe) -> None:
    batches = StepBatches(Shapes(), SCENE, recipe, seed=7)
    fifth = batches[5]
    assert same(fifth, StepBatches(Shapes(), SCENE, recipe, seed=7)[5])
    assert not same(fifth, batches[4])
    assert not same(fifth, StepBatches(Shapes(), SCENE, recipe, seed=8)[5])


def test_an_epoch_shows_every_picture_once_whatever_the_processes(recipe: Recipe) -> None:
    alone = [StepBatches(Shapes(), SCENE, recipe, seed=0)[step]["pictures"] for step in range(4)]
    pair = [
        StepBatches(Shapes(), SCENE, recipe, seed=0, rank=rank, segments=(Segment(0, 2),))[step]["pictures"]
        for step in range(2)
        for rank in range(2)
    ]
    shown = {picture.numpy().tobytes() for batch in alone for picture in batch}
    assert len(shown) == len(Shapes())
    assert all(torch.equal(one, other) for one, other in zip(alone, pair, strict=True))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_loader_goes_on_where_it_is_told(recipe: Recipe, workers: int) -> None:
    batches = StepBatches(Shapes(), SCENE, recipe, seed=0)
    loader = step_loader(batches, workers=workers)
    assert isinstance(loader.sampler, Steps)
    loader.sampler.skip(4)
    rest = list(loader)
    assert len(rest) == 2
    assert same(rest[0], batches[4])


def test_boxes_and_rois_are_in_pixels_of_the_input(recipe: Recipe) -> None:
    sample = drawn_sample(1)
    example = make_example(sample, SCENE, recipe, np.random.default_rng(0))
    assert example.picture.shape == (64, 96, 3)
    np.testing.assert_allclose(example.boxes[0] * 2, sample.objects[0].amodal.box_xyxy)
    assert example.targets.shape[:2] == (len(example.rois), len(Layer))
    np.testing.assert_allclose(example.targets.sum(axis=2), 1, atol=1e-5)
    covered = 1 - example.targets[:, Layer.AMODAL, 0]
    assert (covered.mean(axis=(1, 2)) > 0.4).all()


def test_what_cannot_be_seen_is_not_asked_for(recipe: Recipe) -> None:
    wall = AmodalObject(Label.VEHICLE, PatchMask(40, 20, np.ones((60, 80), bool)), 1)
    hidden = AmodalObject(Label.PERSON, PatchMask(60, 30, np.ones((40, 12), bool)), 2)
    half = AmodalObject(Label.PERSON, PatchMask(110, 30, np.ones((40, 20), bool)), 3)
    speck = AmodalObject(Label.PERSON, PatchMask(5, 5, np.ones((4, 4), bool)), 4)
    sample = replace(drawn_sample(1), objects=(wall, hidden, half, speck))
    example = make_example(sample, SCENE, recipe, np.random.default_rng(0))
    assert len(example.boxes) == 2
    np.testing.assert_allclose(example.boxes * 2, [[40, 20, 120, 80], [110, 30, 130, 70]])
    # To find them is no mistake either.
    np.testing.assert_allclose(example.ignored * 2, [[60, 30, 72, 70], [5, 5, 9, 9]])
    for box, label in zip(example.roi_visible * 2, example.roi_labels, strict=True):
        assert box.tolist() == ([40, 20, 120, 80] if label == Label.VEHICLE else [120, 30, 130, 70])
    seen = msgspec.structs.replace(recipe, network=msgspec.structs.replace(recipe.network, box_target="visible"))
    modal = make_example(sample, SCENE, seen, np.random.default_rng(0))
    np.testing.assert_allclose(modal.boxes * 2, [[40, 20, 120, 80], [120, 30, 130, 70]])
    np.testing.assert_allclose(modal.ignored * 2, [[5, 5, 9, 9]])


def test_an_object_of_one_pixel_at_the_border_gives_whole_numbers(recipe: Recipe) -> None:
    sliver = AmodalObject(Label.PERSON, PatchMask(191, 20, np.ones((60, 1), bool)), 1)
    sample = replace(drawn_sample(1), objects=(sliver,))
    for seed in range(20):
        example = make_example(sample, SCENE, recipe, np.random.default_rng(seed))
        assert len(example.rois) > 0
        assert (example.rois[:, 2:] > example.rois[:, :2]).all()
        assert np.isfinite(example.targets).all()


def test_an_empty_picture_is_an_example(recipe: Recipe) -> None:
    sample = AmodalSample(np.zeros((128, 192, 3), np.uint8), ())
    example = make_example(sample, SCENE, recipe, np.random.default_rng(0))
    assert example.boxes.shape == (0, 4)
    assert example.rois.shape == (0, 4)
    assert example.targets.shape[0] == 0


def test_a_crowd_gives_no_more_rois_than_the_recipe_says(recipe: Recipe) -> None:
    crowd = replace(drawn_sample(1), objects=drawn_sample(2, 9).objects)
    example = make_example(crowd, SCENE, recipe, np.random.default_rng(0))
    assert len(example.boxes) > recipe.training.rois
    assert len(example.rois) == recipe.training.rois


def test_the_survey_finds_the_scene_and_the_sizes(recipe: Recipe) -> None:
    network, scene = survey(Shapes(60), recipe)
    np.testing.assert_array_equal(scene, SCENE)
    people, vehicles = (8.0, 22.0), (34.0, 14.0)
    for half in (people, vehicles):
        assert any(np.allclose(half, anchor, rtol=0.1) for anchor in network.anchors_wh)
    fixed = msgspec.structs.replace(recipe.network, anchors_wh=((3.0, 4.0),))
    assert survey(Shapes(), msgspec.structs.replace(recipe, network=fixed))[0] == fixed


def test_anchors_are_as_large_as_windows_make_objects(recipe: Recipe) -> None:
    training = msgspec.structs.replace(recipe.training, window_chance=1.0, window=(0.5, 0.5))
    plain, _ = survey(Shapes(60), recipe)
    windowed, _ = survey(Shapes(60), msgspec.structs.replace(recipe, training=training))
    growth = np.median(np.array(windowed.anchors_wh)) / np.median(np.array(plain.anchors_wh))
    assert 1.4 < growth < 2.1  # twice, but for what the window's sides cut off


def test_a_moved_picture_takes_its_scene_and_its_layers_along(recipe: Recipe) -> None:
    training = msgspec.structs.replace(recipe.training, shift_chance=1.0, shift=0.4, roi_jitter=0.0, rois=9)
    moving = msgspec.structs.replace(recipe, training=training)
    cut = 0
    for seed in range(12):
        example = make_example(drawn_sample(seed), SCENE, moving, np.random.default_rng(seed))
        empty = example.scene[..., 0] == PAD_LEVEL
        assert empty.any()
        np.testing.assert_array_equal(example.picture[empty], PAD_LEVEL)
        edges = example.boxes / [96, 64, 96, 64]
        assert ((edges >= 0) & (edges <= 1)).all()
        cut += int(((edges == 0) | (edges == 1)).any())
        for box in example.boxes.astype(int):
            seen = example.picture[box[1] : box[3], box[0] : box[2]]
            background = example.scene[box[1] : box[3], box[0] : box[2]]
            assert (seen != background).any()
    assert cut >= 3
