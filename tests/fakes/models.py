"""Models whose behaviour is written in their bundle, and bundles of them."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.bundles import FILES, manifest
from walt_edge.contract.bundle import Bundle, BundleManifest, write_bundle
from walt_edge.contract.errors import WaltError
from walt_edge.contract.instances import AmodalInstances
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import PatchMask


class ScriptedGoldenError(WaltError):
    """The script says that this machine disagrees."""


@dataclass(eq=False)
class ScriptedModel:
    """Sees one person in every frame, unless its script says otherwise.

    `golden`: "disagrees"; `predict`: "raises", "slow" or "moody", which raises on every third frame (after `begin`
    frames, 0 by default).
    """

    manifest: BundleManifest
    sha256: str
    script: Mapping[str, Any]
    most_pictures: int = 0
    looked: int = 0
    golden_checked: list[float] = field(default_factory=list)
    seen: list[NDArray[np.uint8]] = field(default_factory=list)

    def predict(self, image_bgr: NDArray[np.uint8], /) -> AmodalInstances:
        self.looked += 1
        self.seen.append(image_bgr)
        if self.looked > self.script.get("begin", 0):
            if self.script.get("predict") == "raises":
                raise ValueError("the network gives up")
            if self.script.get("predict") == "moody" and self.looked % 3 == 0:
                raise ValueError("the network gives up now and then")
            if self.script.get("predict") == "slow":
                end_s = time.perf_counter() + 0.012
                while time.perf_counter() < end_s:
                    pass
        mask = PatchMask(10, 20, np.ones((30, 12), bool))
        nothing = PatchMask(0, 0, np.zeros((0, 0), bool))
        return AmodalInstances(
            (image_bgr.shape[1], image_bgr.shape[0]),
            np.array([[10, 20, 22, 50]], np.float32),
            np.array([Label.PERSON], np.int64),
            np.array([0.9], np.float32),
            (mask,),
            (nothing,),
            (nothing,),
        )

    def predict_many(self, images_bgr: Sequence[NDArray[np.uint8]], /) -> list[AmodalInstances]:
        return [self.predict(image_bgr) for image_bgr in images_bgr]

    def check_golden(self) -> None:
        self.golden_checked.append(time.monotonic())
        if self.script.get("golden") == "disagrees":
            raise ScriptedGoldenError("golden/0.png disagrees on this machine:\nan IoU of 0.3")


def write_scripted(path: Path, name: str = "demo-1", **script: Any) -> Path:
    """Writes the bundle of a scripted model; returns its path."""
    # The name is in the model too, so that another name is another model.
    write_bundle(path, manifest(name), FILES | {"model.onnx": json.dumps({"name": name, **script}).encode()})
    return path


def load_scripted(path: Path) -> ScriptedModel:
    """Opens such a bundle as the real loader does; `load`: "raises" is what a runtime makes of a wrong graph."""
    bundle = Bundle.read(path)
    script = json.loads(bundle.files["model.onnx"])
    if script.get("load") == "raises":
        raise RuntimeError("no such operator")
    return ScriptedModel(bundle.manifest, bundle.sha256, script)
