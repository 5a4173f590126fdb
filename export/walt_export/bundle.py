"""From a checkpoint to a bundle: export, proof, golden answers, one file."""

from __future__ import annotations

import hashlib
import logging
from importlib.metadata import version
from pathlib import Path
from typing import TypedDict

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.bundle import MODEL, BundleManifest, Lineage, answer_name, write_bundle
from walt_edge.contract.labels import Label
from walt_edge.contract.predictions import Predictions, frame_prediction
from walt_edge.runtimes.network import Network, look
from walt_edge.runtimes.walt_onnx import WaltOnnx
from walt_export.errors import ExportError
from walt_export.half import Weights, in_half, round_weights, rounding_figures
from walt_export.onnx import OPSET, export_onnx
from walt_export.parity import TorchNetwork, check_parity
from walt_train.engine.checkpoint import CheckpointManifest, load_model
from walt_train.engine.plan import CHECKPOINT

GOLDEN = "golden"
_log = logging.getLogger(__name__)


class _Judged(TypedDict):
    size_wh: tuple[int, int]
    score_threshold: float


def make_bundle(
    checkpoint: Path, out: Path, *, golden: Path | None = None, weights: Weights = "auto"
) -> tuple[BundleManifest, str]:
    """Exports a checkpoint, proves that it answers as before, and writes the bundle.

    Args:
        checkpoint: The file, or the folder that holds `checkpoint.pt`.
        out: The bundle's file.
        golden: Folder of the golden pictures; None takes `golden` beside the checkpoint.
        weights: How they are stored; `auto` rounds them to float16 where that keeps an edge network's file small.

    Returns:
        The bundle's manifest and its sha256.

    Raises:
        CheckpointError: Missing, corrupt, or not made by `walt-train`.
        ExportError: No golden pictures, or the graph differs from the network.
        BundleError: It cannot be written.
    """
    file = checkpoint / CHECKPOINT if checkpoint.is_dir() else checkpoint
    net, source = load_model(file)
    golden_files = read_golden(golden or file.parent / GOLDEN)
    pictures = {name: _decoded(name, data) for name, data in golden_files.items()}
    stored = round_weights(net) if in_half(weights, source.parameters) else net
    model = export_onnx(stored)
    # One thread: the answers are compared on other machines, and must not depend on this one's cores.
    runtime = WaltOnnx(model, size_wh=source.size_wh, device="cpu", threads=1)
    judged: _Judged = {"size_wh": source.size_wh, "score_threshold": source.score_threshold}
    seen = list(pictures.values())
    figures = check_parity(TorchNetwork(stored), runtime, seen, **judged).figures()
    if stored is not net:
        figures |= rounding_figures(TorchNetwork(net), TorchNetwork(stored), seen, **judged)
    manifest = _manifest(source, hashlib.sha256(file.read_bytes()).hexdigest(), list(pictures), figures)
    files = {MODEL: model, **golden_files, **_answers(runtime, manifest, pictures)}
    return manifest, write_bundle(out, manifest, files)


def read_golden(folder: Path) -> dict[str, bytes]:
    """The golden pictures of a folder by their name in a bundle; raises ExportError if there are none."""
    paths = sorted(folder.glob("*.png")) if folder.is_dir() else []
    if not paths:
        raise ExportError(f"no golden pictures (*.png) in {folder}: walt-train writes them; or give --golden FOLDER")
    try:
        return {f"{GOLDEN}/{path.name}": path.read_bytes() for path in paths}
    except OSError as error:
        raise ExportError(f"cannot read the golden pictures in {folder}: {error.strerror}") from error


def _answers(network: Network, manifest: BundleManifest, pictures: dict[str, NDArray[np.uint8]]) -> dict[str, bytes]:
    """ONNX Runtime's own answers, which every other machine has to repeat."""
    answers = {}
    for index, (name, picture) in enumerate(pictures.items()):
        found = look(network, picture, size_wh=manifest.size_wh, score_threshold=manifest.score_threshold)
        if not len(found):
            _log.warning("%s shows nothing that %s finds: it proves less than it could", name, manifest.name)
        frame = frame_prediction(found, index, name.rpartition("/")[2])
        answers[answer_name(name)] = msgspec.json.encode(Predictions(model=manifest.name, frames=[frame]))
    return answers


def _manifest(
    source: CheckpointManifest, checkpoint_sha256: str, golden: list[str], parity: dict[str, float]
) -> BundleManifest:
    by_title = {label.title: label for label in Label}
    unknown = sorted(set(source.classes) - set(by_title))
    if unknown:
        raise ExportError(f"the checkpoint knows a class {unknown[0]!r}, this version {sorted(by_title)}: update it")
    recipe = source.recipe
    return BundleManifest(
        name=f"{recipe.name[:31]}-{checkpoint_sha256[:8]}",
        size_wh=source.size_wh,
        labels=[by_title[title] for title in source.classes],
        score_threshold=source.score_threshold,
        candidates=recipe.network.candidates,
        opset=OPSET,
        parameters=source.parameters,
        gflops=source.gflops,
        parity=parity,
        lineage=Lineage(
            checkpoint_sha256=checkpoint_sha256,
            data_sha256=source.data_sha256,
            recipe=recipe.name,
            seed=source.seed,
            steps=recipe.training.steps,
            started=list(source.started),
        ),
        golden=golden,
        files={},
        walt_version=version("walt-amodal"),
    )


def _decoded(name: str, data: bytes) -> NDArray[np.uint8]:
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if picture is None:
        raise ExportError(f"the golden picture {name} cannot be decoded: train again, or give --golden FOLDER")
    return np.asarray(picture, np.uint8)
