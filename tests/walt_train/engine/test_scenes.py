"""Empty scenes: learned from what objects leave free, one for each camera of many."""

from __future__ import annotations

from dataclasses import replace

import cv2
import msgspec
import numpy as np
import pytest
import torch

from tests.walt_train.engine.shapes import FRAME_WH, Shapes, tiny_recipe
from walt_train.data.mixture import MixedSamples
from walt_train.data.sample import AmodalSample, SamplesAround
from walt_train.engine.batches import StepBatches, survey
from walt_train.engine.scenes import SceneSamples, beside_scenes, show_scene
from walt_train.engine.validate import predict_frame
from walt_train.model.waltnet import WaltNet
from walt_train.recipes import Recipe


class Larger(SamplesAround):
    """The same camera's neighbour: a brighter scene in twice the size."""

    @property
    def frame_wh(self) -> tuple[int, int]:
        return 2 * FRAME_WH[0], 2 * FRAME_WH[1]

    def sample(self, epoch: int, index: int) -> AmodalSample:
        sample = self._samples.sample(epoch, index)
        return replace(sample, image_bgr=cv2.resize(sample.image_bgr, self.frame_wh) // 2 + 120, objects=())


def site(steps: int = 6) -> Recipe:
    recipe = tiny_recipe(steps)
    return msgspec.structs.replace(recipe, network=msgspec.structs.replace(recipe.network, position=False))


def test_a_scene_is_what_objects_leave_free() -> None:
    samples = SceneSamples(Shapes(40))
    scene = samples.scene.astype(int)
    covered = np.ones(scene.shape[:2], bool)
    seen = []
    for index in np.unique(np.linspace(0, 39, 12).astype(int)):
        sample = Shapes(40).sample(0, int(index))
        own = np.zeros_like(covered)
        for thing in sample.objects:
            own |= thing.amodal.full(*own.shape)
        covered &= own
        seen.append(np.where(own[..., None], np.nan, sample.image_bgr))
    free = ~covered
    assert free.mean() > 0.9
    np.testing.assert_allclose(scene[free], np.nanmean(np.stack(seen), axis=0)[free], atol=1)


def test_every_camera_of_many_is_shown_its_own_scene() -> None:
    cameras = Shapes(8), Larger(Shapes(8))
    mixed = beside_scenes(MixedSamples(cameras, 16))
    own = [SceneSamples(camera).scene for camera in cameras]
    for index in range(16):
        sample = mixed.sample(0, index)
        assert sample.scene_bgr is not None
        np.testing.assert_array_equal(sample.scene_bgr, own[index % 2])
        np.testing.assert_array_equal(sample.image_bgr, cameras[index % 2].sample(0, index // 2).image_bgr)
    assert mixed.sha256 == MixedSamples(cameras, 16).sha256, "a scene is learned from the data, it is none"


def test_batches_of_many_cameras_carry_their_scenes() -> None:
    recipe = site()
    training = msgspec.structs.replace(recipe.training, shift_chance=0.0, batch=8)
    recipe = msgspec.structs.replace(recipe, training=training)
    mixed = beside_scenes(MixedSamples([Shapes(8), Larger(Shapes(8))], 16))
    network, scene = survey(mixed, recipe)
    assert scene is None
    recipe = msgspec.structs.replace(recipe, network=network)
    means = StepBatches(mixed, scene, recipe, seed=0)[0]["scenes"].float().mean(dim=(1, 2, 3))
    first, second = (SceneSamples(camera).scene.mean() for camera in (Shapes(8), Larger(Shapes(8))))
    shown = [abs(mean - second) < abs(mean - first) for mean in means.tolist()]
    assert set(shown) == {False, True}, "pictures of both cameras"
    np.testing.assert_allclose(means, np.where(shown, second, first), atol=1)


def test_a_scene_with_the_sample_counts_as_one_that_the_network_keeps() -> None:
    network, _ = survey(Shapes(8), site())
    torch.manual_seed(0)
    network = msgspec.structs.replace(network, score_floor=0.0)
    net = WaltNet(network).eval()
    sample, scene = Shapes(8).sample(0, 0), SceneSamples(Shapes(8)).scene
    beside = predict_frame(net, replace(sample, scene_bgr=scene), 0.0)
    without = predict_frame(net, sample, 0.0)
    show_scene(net, scene)
    kept = predict_frame(net, sample, 0.0)
    np.testing.assert_array_equal(beside.scores, kept.scores)
    np.testing.assert_array_equal(beside.boxes_xyxy, kept.boxes_xyxy)
    with pytest.raises(AssertionError):
        np.testing.assert_array_equal(without.scores, kept.scores)
