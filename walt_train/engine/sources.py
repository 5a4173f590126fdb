"""Which crops a data set is made of."""

from __future__ import annotations

from typing import Literal

from walt_train.data.composites import CompositeSamples
from walt_train.data.mixture import MixedSamples
from walt_train.data.sample import Samples
from walt_train.engine.learned import Part
from walt_train.engine.scenes import SceneSamples


def parts_of(samples: Samples, role: Literal["train", "validation"]) -> list[Part]:
    """The data sets in a data set, in their order."""
    if isinstance(samples, SceneSamples):
        return parts_of(samples.inner, role)
    if isinstance(samples, MixedSamples):
        return [part for inner in samples.parts for part in parts_of(inner, role)]
    if not isinstance(samples, CompositeSamples):
        return [Part(role=role, data_sha256=samples.sha256)]
    material = samples.material
    crops = [cutout.crop for cutout in material.cutouts]
    return [
        Part(
            role=role,
            data_sha256=samples.sha256,
            camera=material.camera,
            clipart_sha256=samples.clipart_sha256,
            crops=tuple(sorted(set(crops) - {""})),
            plates=tuple(sorted({backdrop.plate_id for backdrop in material.backdrops})),
            unnamed=crops.count(""),
        )
    ]
