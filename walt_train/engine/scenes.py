"""The empty scene of every camera, for a network that is shown what differs from it."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from walt_edge.runtimes.onnx_detector import letterbox
from walt_train.data.mixture import MixedSamples
from walt_train.data.sample import AmodalSample, Samples, SamplesAround
from walt_train.model.waltnet import WaltNet

_LOOKED_AT = 12
"""Samples of one camera of many that its empty scene is taken from."""

Picture = NDArray[np.uint8]


class Scene:
    """The mean of what objects leave free, over samples of one size."""

    def __init__(self, frame_wh: tuple[int, int]) -> None:
        width, height = frame_wh
        self._levels = np.zeros((height, width, 3), np.float64)
        self._counts = np.zeros((height, width, 1), np.float64)

    def add(self, sample: AmodalSample) -> None:
        """Looks at one of them."""
        free = np.ones_like(self._counts)
        for thing in sample.objects:
            x0, y0, x1, y1 = thing.amodal.box_xyxy
            # Where objects always stand, what is seen of them has to do.
            free[y0:y1, x0:x1][thing.amodal.mask] = 1e-6
        self._levels += sample.image_bgr * free
        self._counts += free

    def mean(self) -> Picture:
        """(H, W, 3) uint8 BGR."""
        return (self._levels / self._counts).round().astype(np.uint8)


class SceneSamples(SamplesAround):
    """One camera's samples, each with its empty scene, which is learned from them when it is first asked for."""

    @property
    def inner(self) -> Samples:
        """The samples alone."""
        return self._samples

    @functools.cached_property
    def scene(self) -> Picture:
        """(H, W, 3) uint8 BGR: the mean of what objects leave free in some of the samples."""
        scene = Scene(self.frame_wh)
        for index in np.unique(np.linspace(0, len(self) - 1, _LOOKED_AT).astype(int)):
            scene.add(self._samples.sample(0, int(index)))
        return scene.mean()

    def sample(self, epoch: int, index: int) -> AmodalSample:
        """Sample `index` of `epoch`, with the scene."""
        return replace(self._samples.sample(epoch, index), scene_bgr=self.scene)


def beside_scenes(samples: Samples) -> Samples:
    """The same samples, each beside the empty scene of its own data set."""
    if isinstance(samples, MixedSamples):
        return MixedSamples([beside_scenes(part) for part in samples.parts], len(samples))
    return SceneSamples(samples)


def show_scene(net: WaltNet, scene_bgr: Picture) -> None:
    """Gives a network that is shown an empty scene that of the camera which it looks through from now on."""
    width, height = net.network.input_wh
    plate = torch.from_numpy(letterbox(scene_bgr, (height, width))[0]).permute(2, 0, 1)
    net.input.plate.copy_(plate)
