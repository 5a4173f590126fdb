"""Bundles for tests that do not look inside the model."""

from __future__ import annotations

from walt_edge.contract.bundle import BundleManifest, Lineage
from walt_edge.contract.labels import Label

FILES = {
    "model.onnx": b"a model " * 20,
    "licence.txt": b"its licence",
    "golden/0.png": b"a picture",
    "golden/0.json": b"its answer",
}


def manifest(name: str = "demo-1") -> BundleManifest:
    """A manifest that goes with FILES."""
    lineage = Lineage(checkpoint_sha256="1" * 64, data_sha256="2" * 64, recipe="demo", seed=1, steps=300)
    return BundleManifest(
        name=name,
        size_wh=(320, 192),
        labels=[Label.PERSON, Label.VEHICLE],
        score_threshold=0.5,
        candidates=30,
        pictures=1,
        outputs=["boxes", "scores", "labels", "maps"],
        precision="float32",
        opset=20,
        operators=[],
        parameters=1000,
        gflops=0.9,
        parity={"boxes": 1e-4},
        lineage=lineage,
        golden=["golden/0.png"],
        files={},
        walt_version="0.1.0",
        versions={"torch": "2.14.1"},
    )
