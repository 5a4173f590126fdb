"""From a checkpoint to a bundle: export, proof, golden answers, one file."""

from __future__ import annotations

import hashlib
import importlib.metadata
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray

from walt_edge.contract.bundle import (
    LICENCE,
    MODEL,
    Bundle,
    BundleManifest,
    Limits,
    Lineage,
    Precision,
    answer_name,
)
from walt_edge.contract.labels import Label
from walt_edge.contract.predictions import Predictions, frame_prediction
from walt_edge.runtimes.network import Network, look
from walt_edge.runtimes.walt_onnx import WaltOnnx
from walt_export.errors import ExportError
from walt_export.half import Judged, in_half, round_weights, rounding_figures
from walt_export.onnx import GraphOptions, export_onnx
from walt_export.parity import TorchNetwork, check_parity
from walt_export.quantize import (
    CALIBRATION,
    Quantized,
    QuantizedParity,
    Target,
    answers,
    compare,
    halves,
    quantize,
    read_calibration,
)
from walt_export.resize import at_size
from walt_export.restate import restated
from walt_train.engine.checkpoint import CheckpointManifest, load_model
from walt_train.engine.plan import CHECKPOINT
from walt_train.model.cost import measure_gflops
from walt_train.model.waltnet import WaltNet

GOLDEN = "golden"
_PACKAGE = "walt-amodal"
_MADE_WITH = ("numpy", "onnx", "onnxruntime", "onnxscript", "torch", "torchvision")
_log = logging.getLogger(__name__)

Picture = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """What can be asked of an export.

    Attributes:
        precision: How weights are stored; `auto` rounds them to float16 where that keeps an edge network's file
            small; int8 also makes most of the network compute with 8-bit integers.
        graph: What the graph gives; None: what an agent reads, one picture at a time.
        size_wh: Another input than the one it was trained at, pixels.
        golden: Folder of the golden pictures; None takes `golden` beside the checkpoint.
        calibration: Folder of the pictures that int8 is calibrated on; None takes `calibration` beside it.
        licence: File with the weights' licence; None takes this package's.
        limits: What a device may give it; None promises nothing.
    """

    precision: Precision | Literal["auto"] = "auto"
    graph: GraphOptions | None = None
    size_wh: tuple[int, int] | None = None
    golden: Path | None = None
    calibration: Path | None = None
    licence: Path | None = None
    limits: Limits | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Export:
    """An export that passed its gate.

    Attributes:
        manifest: Of the bundle.
        files: All that goes into the bundle beside it, by name: `write_bundle(out, made.manifest, made.files)`.
        network: The trained network as it was exported, in torch.
        float_model: The graph in float, of which int8 was made.
        pictures: The golden ones by name.
        calibration: Folder of the pictures that int8 is calibrated on.
        quantized: How int8 came about; None without it.
    """

    manifest: BundleManifest
    files: Mapping[str, bytes]
    network: TorchNetwork
    float_model: bytes
    pictures: Mapping[str, Picture]
    calibration: Path
    quantized: Quantized | None

    @property
    def judged(self) -> Judged:
        """How pictures are judged."""
        return {"size_wh": self.manifest.size_wh, "score_threshold": self.manifest.score_threshold}

    def tensorrt_model(self) -> bytes:
        """The graph for TensorRT's own choice of kernels: int8 is written otherwise for it.

        Raises:
            ExportError: No such int8 keeps the masks.
        """
        if self.quantized is None:
            return self.float_model
        return _quantized(self.float_model, self.pictures, self.calibration, self.judged, "tensorrt").model

    def agreement(self, network: Network) -> QuantizedParity:
        """How far another runtime agrees with torch on the golden pictures, without judging it."""
        expected = answers(self.network, self.pictures, **self.judged)
        return compare(expected, network, self.pictures)


def export(checkpoint: Path, options: ExportOptions | None = None) -> Export:
    """Exports a checkpoint and proves that it answers as before; writes nothing.

    Args:
        checkpoint: The file, or the folder that holds `checkpoint.pt`.
        options: What is asked for.

    Raises:
        CheckpointError: Missing, corrupt, or not made by `walt-train`.
        ExportError: No golden pictures, no empty scene, a size that cannot be, or the graph differs from the network.
    """
    options = options or ExportOptions()
    file = checkpoint / CHECKPOINT if checkpoint.is_dir() else checkpoint
    net, source = load_model(file)
    _refuse_without_scene(net, source.recipe.name, file)
    files = read_golden(options.golden or file.parent / GOLDEN) | {LICENCE: _licence(options.licence)}
    pictures = {name: _decoded(name, data) for name, data in files.items() if name != LICENCE}
    net = at_size(net, options.size_wh)
    precision = _precision(options.precision, source.parameters)
    judged: Judged = {"size_wh": net.network.input_wh, "score_threshold": source.score_threshold}

    stored = round_weights(net) if precision == "float16" else net
    model = float_model = export_onnx(stored, options.graph)
    figures = check_parity(TorchNetwork(stored), _opened(model, net), pictures, **judged).figures()
    if stored is not net:
        figures |= rounding_figures(TorchNetwork(net), TorchNetwork(stored), list(pictures.values()), **judged)
    quantized, calibration = None, options.calibration or file.parent / CALIBRATION
    if precision == "int8":
        quantized = _quantized(model, pictures, calibration, judged, "onnxruntime")
        model, figures = quantized.model, figures | quantized.parity.figures()
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    manifest = _manifest(net, source, sha256, onnx.load_from_string(model), precision, figures, list(pictures))
    if options.limits is not None:
        manifest = msgspec.structs.replace(manifest, limits=options.limits)
    files |= {MODEL: model, **golden_answers(_opened(model, net), manifest, pictures)}
    return Export(manifest, files, TorchNetwork(stored), float_model, pictures, calibration, quantized)


def _refuse_without_scene(net: WaltNet, recipe: str, file: Path) -> None:
    """A network of many cameras looks through none: before grey it would answer alike everywhere, and wrongly."""
    if net.input.lacks_scene:
        raise ExportError(
            f"{file} learned many cameras and holds the empty scene of none: let it learn on with one camera's data "
            f"(walt-train --data CLIPART --recipe {recipe} --start {file} --out DIR), then export that"
        )


def quantize_bundle(bundle: Bundle, calibration: Path) -> tuple[BundleManifest, dict[str, bytes], Quantized]:
    """Has the network of a bundle compute with 8-bit integers, without its checkpoint: it is held against itself.

    Args:
        bundle: As it was exported, in float.
        calibration: Folder of the pictures to calibrate and, a quarter of them, to judge on.

    Returns:
        What `write_bundle` takes, and how it came about.

    Raises:
        ExportError: It is in integers already, has no golden pictures, or no int8 keeps its masks.
    """
    manifest = bundle.manifest
    if manifest.precision == "int8":
        raise ExportError(f"{manifest.name} is int8 already: give the bundle that it was made of")
    pictures = golden_pictures(bundle)
    if not pictures:
        raise ExportError(f"{manifest.name} has no golden pictures to judge int8 on: export its checkpoint")
    judged: Judged = {"size_wh": manifest.size_wh, "score_threshold": manifest.score_threshold}
    made = _quantized(bundle.files[MODEL], pictures, calibration, judged, "onnxruntime")
    described = msgspec.structs.replace(
        manifest,
        precision="int8",
        parity=manifest.parity | made.parity.figures(),
        **made_with(),
    )
    # What TensorRT builds of is another graph, which would not give these answers.
    kept = {name: bundle.files[name] for name in (LICENCE, *manifest.golden)}
    network = WaltOnnx(made.model, size_wh=manifest.size_wh, device="cpu", threads=1)
    return described, kept | {MODEL: made.model, **golden_answers(network, described, pictures)}, made


def read_golden(folder: Path) -> dict[str, bytes]:
    """The golden pictures of a folder by their name in a bundle; raises ExportError if there are none."""
    paths = sorted(folder.glob("*.png")) if folder.is_dir() else []
    if not paths:
        raise ExportError(f"no golden pictures (*.png) in {folder}: walt-train writes them; or give --golden FOLDER")
    try:
        return {f"{GOLDEN}/{path.name}": path.read_bytes() for path in paths}
    except OSError as error:
        raise ExportError(f"cannot read the golden pictures in {folder}: {error.strerror}") from error


def golden_pictures(bundle: Bundle) -> dict[str, Picture]:
    """A bundle's golden pictures by their name in it, (H, W, 3) uint8 BGR; raises ExportError if one is none."""
    return {name: _decoded(name, bundle.files[name]) for name in bundle.manifest.golden}


def _precision(asked: Precision | Literal["auto"], parameters: int) -> Precision:
    if asked != "auto":
        return asked
    return "float16" if in_half(parameters) else "float32"


def _opened(model: bytes, net: WaltNet) -> WaltOnnx:
    # One thread: the answers are compared on other machines, and must not depend on this one's cores.
    return WaltOnnx(model, size_wh=net.network.input_wh, device="cpu", threads=1)


def _quantized(
    model: bytes, pictures: Mapping[str, Picture], folder: Path, judged: Judged, target: Target
) -> Quantized:
    calibrating, judges = halves(read_calibration(folder))
    return quantize(model, list(calibrating.values()), {**pictures, **judges}, **judged, target=target)


def _licence(file: Path | None) -> bytes:
    if file is not None:
        try:
            return file.read_bytes()
        except OSError as error:
            raise ExportError(f"cannot read the licence {file}: {error.strerror}") from error
    text = importlib.metadata.distribution(_PACKAGE).read_text("licenses/LICENSE")
    if not text:
        raise ExportError(f"{_PACKAGE} was installed without its licence: give --licence FILE")
    return text.encode()


def golden_answers(network: Network, manifest: BundleManifest, pictures: Mapping[str, Picture]) -> dict[str, bytes]:
    """ONNX Runtime's own answers, which every other machine has to repeat."""
    answers_by_name, shown = {}, 0
    for index, (name, picture) in enumerate(pictures.items()):
        size_wh, threshold = manifest.size_wh, manifest.score_threshold
        found = look(network, picture, size_wh=size_wh, score_threshold=threshold, strictly=True)
        if not len(found):
            _log.info("%s shows nothing that %s finds", name, manifest.name)
        frame = frame_prediction(found, index, name.rpartition("/")[2])
        shown += len(found)
        answers_by_name[answer_name(name)] = msgspec.json.encode(Predictions(model=manifest.name, frames=[frame]))
    if not shown:
        _log.warning("%s finds nothing in any golden picture: they prove less than they could", manifest.name)
    return answers_by_name


def _manifest(
    net: WaltNet,
    source: CheckpointManifest,
    sha256: str,
    model: onnx.ModelProto,
    precision: Precision,
    parity: dict[str, float],
    golden: list[str],
) -> BundleManifest:
    recipe = source.recipe
    return BundleManifest(
        name=f"{recipe.name[:31]}-{sha256[:8]}",
        size_wh=net.network.input_wh,
        labels=_labels(source.classes),
        score_threshold=source.score_threshold,
        candidates=net.network.candidates,
        pictures=model.graph.input[0].type.tensor_type.shape.dim[0].dim_value,
        outputs=[output.name for output in model.graph.output],
        precision=precision,
        opset=next(entry.version for entry in model.opset_import if not entry.domain),
        operators=[function.name for function in model.functions],
        parameters=source.parameters,
        gflops=round(measure_gflops(restated(net)), 4),
        parity=parity,
        lineage=Lineage(
            checkpoint_sha256=sha256,
            data_sha256=source.data_sha256,
            recipe=recipe.name,
            seed=source.seed,
            steps=recipe.training.steps,
            started=list(source.started),
        ),
        golden=golden,
        files={},
        **made_with(),
    )


def made_with() -> dict[str, Any]:
    """The fields of a manifest that say what wrote it."""
    versions = {name: importlib.metadata.version(name) for name in _MADE_WITH}
    return {"walt_version": importlib.metadata.version(_PACKAGE), "versions": versions}


def _labels(classes: list[str]) -> list[Label]:
    by_title = {label.title: label for label in Label}
    unknown = sorted(set(classes) - set(by_title))
    if unknown:
        raise ExportError(f"the checkpoint knows a class {unknown[0]!r}, this version {sorted(by_title)}: update it")
    return [by_title[title] for title in classes]


def _decoded(name: str, data: bytes) -> Picture:
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if picture is None:
        raise ExportError(f"the golden picture {name} cannot be decoded: train again, or give --golden FOLDER")
    return np.asarray(picture, np.uint8)
