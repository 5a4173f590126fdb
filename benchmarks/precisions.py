"""What each precision of an exported network costs and gives: size, latency, agreement with float32, and the truth.

    python -m benchmarks.precisions --out docs/benchmarks/precisions.json

A street that no network was trained on is rendered with exact truth. Its first frames calibrate INT8, the later ones
judge every precision twice: does it see what float32 sees (`walt_export.quantize.gate`), and how well do its amodal
masks fit the true ones. INT8 is tried with nothing in float, then with one part more at a time, as the export does
until its gate passes; which of them the export takes is said, and is held to the gate's limits.

Without --checkpoint it is the packaged model, whose weights are stored in halves: float32 then means widened.
Networks run in turns on the same frames, warm; the latency is the median. TensorRT's variant runs here in ONNX
Runtime, which shows what it loses, not how fast it is.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, cycle, repeat
from pathlib import Path
from statistics import median
from typing import Final

import numpy as np
import onnx
from numpy.typing import NDArray
from tqdm import tqdm
from walt_export.half import round_weights
from walt_export.onnx import export_onnx
from walt_export.quantize import Quantized, QuantizedParity, compare, quantize
from walt_export.quantize.gate import F1, MASK_IOU, answers
from walt_export.quantize.graph import activations_of, rewrite, widen
from walt_export.quantize.layers import PARTS, Layers
from walt_export.quantize.ranges import measure

from benchmarks.grounds import Street
from benchmarks.report import Report, arguments
from walt_edge.contract.bundle import MODEL, Bundle
from walt_edge.contract.errors import WaltError
from walt_edge.contract.instances import AmodalInstances
from walt_edge.packaged import general_model
from walt_edge.runtimes.network import look
from walt_edge.runtimes.onnx_detector import letterbox
from walt_edge.runtimes.walt_onnx import WaltOnnx
from walt_train.data import open_samples
from walt_train.data.sample import AmodalSample
from walt_train.engine.checkpoint import load_model
from walt_train.metrics.amodal_iou import AmodalIou, evaluate_frames

FLOAT32: Final = "float32"
FLOAT16: Final = "float16 stored"
TENSORRT: Final = "INT8 for TensorRT"
STREET: Final = Street(9311, preset="busy", size="768x432")
_FPS: Final = "0.2"
"""A frame in five seconds: other people and cars in each."""
_WARM: Final = 2

Image = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Subject:
    """A network in every precision.

    Attributes:
        name: As its bundle has it.
        models: ONNX files by name; `FLOAT32` first.
        size_wh: Their input, pixels.
        score_threshold: From which an instance counts.
    """

    name: str
    models: dict[str, bytes]
    size_wh: tuple[int, int]
    score_threshold: float


@dataclass(frozen=True, slots=True)
class Precision:
    """What was measured of one of them.

    Attributes:
        file_bytes: Size of the ONNX file.
        milliseconds: Median latency by number of threads.
        parity: Agreement with float32.
        truth: Its masks against the true ones.
    """

    file_bytes: int
    milliseconds: dict[int, float]
    parity: QuantizedParity
    truth: AmodalIou


def main() -> int:
    """Renders, exports, measures."""
    parser = arguments(__doc__)
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help="what walt-train wrote (the packaged model)")
    args = parser.parse_args()
    try:
        return _run(args)
    except WaltError as error:
        sys.stderr.write(f"benchmarks.precisions: {error}\n")
        return error.exit_code


def _run(args: argparse.Namespace) -> int:
    calibrating, judging, rounds = (8, 6, 5) if args.quick else (24, 72, 40)
    floats = _packaged() if args.checkpoint is None else _of_checkpoint(args.checkpoint)
    with tempfile.TemporaryDirectory() as folder:
        STREET.render(Path(folder), calibrating + judging, "--fps", _FPS)
        street = open_samples(Path(folder), split="all")
        samples = [street.sample(0, index) for index in range(len(street))]
    frames, judges = [sample.image_bgr for sample in samples[:calibrating]], samples[calibrating:]
    subject = replace(floats, models={**floats.models, **_quantized(floats, frames)})
    facts = {"street": STREET.seed, "calibrating": calibrating, "judging": judging, "rounds": rounds}
    report = Report("precisions", {**facts, "network": floats.name})
    for name, found in measure_precisions(subject, judges, rounds=rounds).items():
        _add(report, name, found)
    _hold(report, _taken(subject, frames, judges))
    report.finish(args.out)
    return 0


def measure_precisions(
    subject: Subject, judges: Sequence[AmodalSample], *, rounds: int, threads: Sequence[int] = (1, 2)
) -> dict[str, Precision]:
    """Measures every precision on the same pictures.

    Args:
        subject: The network.
        judges: Pictures with truth, none of which calibrated.
        rounds: How often each precision is timed.
        threads: Numbers of threads to time with.
    """
    times = {count: _latencies(subject, [one.image_bgr for one in judges], rounds, count) for count in threads}
    pictures = {sample.name: sample.image_bgr for sample in judges}
    float32 = _opened(subject.models[FLOAT32], subject, 1)
    expected = answers(float32, pictures, size_wh=subject.size_wh, score_threshold=subject.score_threshold)
    found = {}
    for name, model in tqdm(subject.models.items(), desc="judged", disable=not sys.stderr.isatty()):
        network = _opened(model, subject, 1)
        found[name] = Precision(
            file_bytes=len(model),
            milliseconds={count: times[count][name] for count in threads},
            parity=compare(expected, network, pictures),
            truth=evaluate_frames(_looked(network, subject, judges), score_threshold=subject.score_threshold),
        )
    return found


def _packaged() -> Subject:
    bundle = Bundle.read(general_model())
    stored = bundle.files[MODEL]
    model = onnx.load_from_string(stored)
    widen(model)
    wide: bytes = model.SerializeToString(deterministic=True)
    manifest = bundle.manifest
    return Subject(manifest.name, {FLOAT32: wide, FLOAT16: stored}, manifest.size_wh, manifest.score_threshold)


def _of_checkpoint(file: Path) -> Subject:
    net, manifest = load_model(file)
    models = {FLOAT32: export_onnx(net), FLOAT16: export_onnx(round_weights(net))}
    name = f"{manifest.recipe.name[:31]}-{hashlib.sha256(file.read_bytes()).hexdigest()[:8]}"
    return Subject(name, models, manifest.size_wh, manifest.score_threshold)


def _quantized(floats: Subject, frames: Sequence[Image]) -> dict[str, bytes]:
    """INT8 with nothing in float, with one part more at a time, and as TensorRT wants it.

    Quantised from stored halves: what stays in float stays as small.
    """
    model = onnx.load_from_string(floats.models[FLOAT16])
    widen(model)
    fitting = [letterbox(frame, floats.size_wh[::-1])[0] for frame in frames]
    seen = measure(model, activations_of(model), fitting)
    present = [part for part in PARTS if Layers.of(model.graph).parts[part]]
    found = {
        _named(tuple(present[:count])): rewrite(model, seen, target="onnxruntime", in_float=present[:count])
        for count in range(len(present) + 1)
    }
    return found | {TENSORRT: rewrite(model, seen, target="tensorrt")}


def _named(in_float: Sequence[str]) -> str:
    if not in_float:
        return "INT8"
    return f"INT8, float: {in_float[0]}" + (f" to {in_float[-1]}" if len(in_float) > 1 else "")


def _latencies(subject: Subject, pictures: Sequence[Image], rounds: int, threads: int) -> dict[str, float]:
    """Median milliseconds of each model on one letterboxed picture after another; all take turns."""
    fitting = [letterbox(picture, subject.size_wh[::-1])[0] for picture in pictures]
    networks = {name: _opened(model, subject, threads) for name, model in subject.models.items()}
    taken: dict[str, list[float]] = {name: [] for name in networks}
    shown = chain(repeat(fitting[0], _WARM), cycle(fitting))
    for _ in tqdm(range(rounds + _WARM), desc=f"{threads} threads", disable=not sys.stderr.isatty()):
        picture = next(shown)
        for name, network in networks.items():
            began = time.perf_counter()
            network(picture)
            taken[name].append(1000 * (time.perf_counter() - began))
    return {name: median(values[_WARM:]) for name, values in taken.items()}


def _looked(
    network: WaltOnnx, subject: Subject, judges: Sequence[AmodalSample]
) -> Iterator[tuple[AmodalInstances, AmodalSample]]:
    for sample in judges:
        yield look(network, sample.image_bgr, size_wh=subject.size_wh, score_threshold=0.0), sample


def _taken(subject: Subject, frames: Sequence[Image], judges: Sequence[AmodalSample]) -> Quantized:
    """What the export would take."""
    return quantize(
        subject.models[FLOAT16],
        frames,
        {sample.name: sample.image_bgr for sample in judges},
        size_wh=subject.size_wh,
        score_threshold=subject.score_threshold,
    )


def _add(report: Report, name: str, found: Precision) -> None:
    report.add(f"{name}: ONNX file", found.file_bytes / 1e6, "MB", better="lower")
    for threads, value in found.milliseconds.items():
        report.add(f"{name}: latency, {threads} thread{'s' * (threads > 1)}", value, "ms", better="lower")
    total = found.truth.total
    report.add(f"{name}: true amodal mask IoU of {total.cases} objects", total.mask_iou or 0.0, "points")
    report.add(f"{name}: recall", total.recall or 0.0)
    if name != FLOAT32:
        report.add(f"{name}: mask IoU with float32", found.parity.mask_iou)
        report.add(f"{name}: instance F1 with float32", found.parity.f1)


def _hold(report: Report, taken: Quantized) -> None:
    report.facts["taken by the export"] = _named(taken.in_float)
    report.add("what the export takes: mask IoU with float32", taken.parity.mask_iou, target=MASK_IOU)
    report.add("what the export takes: instance F1 with float32", taken.parity.f1, target=F1)


def _opened(model: bytes, subject: Subject, threads: int) -> WaltOnnx:
    return WaltOnnx(model, size_wh=subject.size_wh, device="cpu", threads=threads)


if __name__ == "__main__":
    sys.exit(main())
