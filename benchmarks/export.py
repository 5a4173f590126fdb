"""How fast an exported network is: beside torch, beside mmdet's Mask R-CNN, and beside what the processor can do.

    python -m benchmarks.export --out docs/benchmarks/export.json

All look at the same frames of 640x384 in turns, with the same number of threads. The network is `walt_edge_small`
with weights borrowed from the packaged model (`benchmarks.edge_net`), so that nothing but the repository is needed.
Its cost is the highest that it can have: its candidates are forced to the 30 that its mask heads can look at, and 10
of them are objects that it believes in, whose masks are put into the frame. mmdet's Mask R-CNN R50 has weights at
random (`walt_train.model.mm_adapter.peer`), 1,000 proposals and 10 objects as well.

torch.compile is given the whole network. It compiles what lies between the operators whose number of results depends
on what is seen; those (two suppressions and what is below the least score) fall back to torch itself, and so does the
Python between the pieces. How many pieces there are and how long they took is printed.

INT8 is calibrated on the frames and judged on the golden pictures that they were cut from: enough for its speed.

The physical limit is a chain of 3x3 convolutions of 64 channels in ONNX Runtime, measured in the same run.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch._dynamo.utils import counters
from tqdm import tqdm
from walt_export.errors import ExportError
from walt_export.half import round_weights
from walt_export.onnx import export_onnx
from walt_export.quantize import quantize

from benchmarks.edge_net import (
    Eager,
    Image,
    borrowed_net,
    count_candidates,
    count_objects,
    force_candidates,
    frames_with,
    golden_picture,
    packaged,
)
from benchmarks.report import Report, arguments
from walt_edge.contract.bundle import Bundle
from walt_edge.contract.errors import WaltError
from walt_edge.runtimes.network import Network, look
from walt_edge.runtimes.session import open_session, require_runtime
from walt_edge.runtimes.walt_onnx import WaltOnnx
from walt_train.engine.checkpoint import load_model
from walt_train.model.cost import measure_gflops
from walt_train.model.mm_adapter.peer import MaskRcnnPeer
from walt_train.model.waltnet import WaltNet

Call = Callable[[Image], object]
OBJECTS: Final = 10
EAGER: Final = "torch eager"
COMPILED: Final = "torch.compile"
FP32: Final = "ONNX Runtime FP32"
HALF: Final = "ONNX Runtime, weights stored in half"
INT8: Final = "ONNX Runtime INT8"
WHOLE: Final = "ONNX Runtime FP32 with letterbox and masks in the frame"
PEER: Final = "mmdet Mask R-CNN R50 with masks in the frame"
LIMIT: Final = "chain of 3x3 convolutions"
_CHAIN = {"length": 8, "channels": 64, "height": 96, "width": 160}
_WARM_UP = 2
_REST_S = 0.05
"""Before each call: threads of the one before it wait in a loop for more work, and take a core until they give up."""
_JUDGED_THREADS = 2
"""The targets are stated for so many cores."""


def main() -> int:
    """Measures, prints a table, writes JSON."""
    args = _arguments()
    try:
        _run(args)
    except WaltError as error:
        sys.stderr.write(f"benchmarks.export: {error}\n")
        return error.exit_code
    return 0


def _arguments() -> argparse.Namespace:
    parser = arguments(__doc__)
    add = parser.add_argument
    add("--threads", type=int, default=_JUDGED_THREADS, help="of every contestant (default: %(default)s)")
    add("--rounds", type=int, help="calls of every contestant (30; 3 with --quick)")
    add("--checkpoint", type=Path, metavar="FILE", help="another network of 640x384 instead of the borrowed weights")
    return parser.parse_args()


def _run(args: argparse.Namespace) -> None:
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(args.threads)
    rounds = args.rounds or (3 if args.quick else 30)
    bundle = packaged()
    net = force_candidates(borrowed_net(bundle) if args.checkpoint is None else load_model(args.checkpoint)[0])
    if net.network.input_wh != bundle.manifest.size_wh:
        raise WaltError(f"the network takes {net.network.input_wh}, expected {bundle.manifest.size_wh}: give another")
    frames = frames_with(Eager(net), bundle, OBJECTS)
    if not frames:
        raise WaltError(f"no frame in which the network finds {OBJECTS} objects: give another --checkpoint or none")
    report = Report("export", {"threads": args.threads, "rounds": rounds, "frames": len(frames), "size": "640x384"})
    _add_facts(report, net, bundle, frames)
    calls = _contestants(report, net, bundle, frames, args)
    times_ms = in_turns(calls, frames, rounds)
    _add_times(report, times_ms)
    _add_ratios(report, times_ms, judged=args.threads == _JUDGED_THREADS)
    _add_limit(report, times_ms, measure_gflops(net))
    report.finish(args.out)


def _add_facts(report: Report, net: WaltNet, bundle: Bundle, frames: Sequence[Image]) -> None:
    report.add("operations of a frame with all candidates", measure_gflops(net), "GFLOPs", better="lower")
    found = [count_objects(Eager(net), frame, bundle) for frame in frames]
    report.add("objects found in a frame, mean", np.mean(found))
    report.add(
        "candidates that the mask heads look at, mean", np.mean([count_candidates(net, one) for one in frames])
    )


def _contestants(
    report: Report, net: WaltNet, bundle: Bundle, frames: Sequence[Image], args: argparse.Namespace
) -> dict[str, Call]:
    """Everybody who can take part on this machine; who cannot is named on stderr with the reason."""
    model = export_onnx(net)

    def opened(data: bytes) -> WaltOnnx:
        return WaltOnnx(data, size_wh=net.network.input_wh, device="cpu", threads=args.threads)

    plain = opened(model)
    calls: dict[str, Call] = {EAGER: Eager(net), FP32: plain, HALF: opened(export_onnx(round_weights(net)))}
    calls[WHOLE] = _whole(plain, bundle)
    quantized = _quantized(report, model, bundle, frames)
    if quantized is not None:
        calls[INT8] = opened(quantized)
    if args.quick:
        _left_out(COMPILED, "it compiles for longer than a quick run")
    else:
        calls[COMPILED] = _compiled(report, net, frames)
    calls |= _on_gpu(net, model)
    calls[PEER] = _peer(report, frames)
    calls[LIMIT] = _chain(args.threads)
    return calls


def _whole(network: Network, bundle: Bundle) -> Call:
    manifest = bundle.manifest
    return lambda frame: look(network, frame, size_wh=manifest.size_wh, score_threshold=manifest.score_threshold)


def _quantized(report: Report, model: bytes, bundle: Bundle, frames: Sequence[Image]) -> bytes | None:
    """The INT8 model, or None where none passes the export's own gate."""
    manifest = bundle.manifest
    judges = {name: golden_picture(bundle, name) for name in manifest.golden}
    try:
        found = quantize(model, frames, judges, size_wh=manifest.size_wh, score_threshold=manifest.score_threshold)
    except ExportError as error:
        _left_out(INT8, str(error))
        return None
    report.add("INT8: mean IoU with the FP32 masks", found.parity.mask_iou)
    report.add("INT8: parts left in float", len(found.in_float), better="lower")
    return found.model


def _compiled(report: Report, net: WaltNet, frames: Sequence[Image]) -> Call:
    """The network behind torch.compile; says how long it took, and into how many pieces it fell."""
    counters.clear()
    inner = torch.compile(net.forward)

    def call(frame: Image) -> object:
        with torch.no_grad():
            return inner(torch.from_numpy(frame[None]))

    # An old cache would make the time a lie.
    with tempfile.TemporaryDirectory() as cache, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
        start_s = time.perf_counter()
        for frame in frames:
            call(frame)
        report.add("torch.compile: time to compile", time.perf_counter() - start_s, "s", better="lower")
        del os.environ["TORCHINDUCTOR_CACHE_DIR"]
    report.add("torch.compile: compiled pieces", counters["stats"]["unique_graphs"], better="lower")
    for reason, count in counters["graph_break"].items():
        lines = [line.strip() for line in reason.splitlines() if "Explanation:" in line]
        tqdm.write(f"  torch.compile falls back {count} times: {(lines or [reason])[0]}", file=sys.stderr)
    return call


def _on_gpu(net: WaltNet, model: bytes) -> dict[str, Call]:
    calls: dict[str, Call] = {}
    if torch.cuda.is_available():
        calls["torch eager, GPU"] = Eager(net, "cuda")
    else:
        _left_out("torch eager, GPU", "torch sees no GPU")
    if "CUDAExecutionProvider" in require_runtime().get_available_providers():
        calls["ONNX Runtime FP32, CUDA provider"] = WaltOnnx(model, size_wh=net.network.input_wh)
    else:
        _left_out("ONNX Runtime FP32, CUDA provider", "this ONNX Runtime has none (pip install 'walt-amodal[gpu]')")
    return calls


def _peer(report: Report, frames: Sequence[Image]) -> Call:
    peer = MaskRcnnPeer(OBJECTS)
    counts = peer.count(frames[0])
    report.add("mmdet Mask R-CNN R50: proposals that its box head looks at", counts.proposals)
    report.add("mmdet Mask R-CNN R50: objects that its mask head looks at", counts.mask_rois)
    return peer


def _chain(threads: int) -> Call:
    """Convolutions one after the other, so that what ONNX Runtime does before and after them weighs little."""
    channels, shape = _CHAIN["channels"], [1, _CHAIN["channels"], _CHAIN["height"], _CHAIN["width"]]
    noise = np.random.default_rng(0)
    weight = (noise.standard_normal((channels, channels, 3, 3)) / (3 * channels**0.5)).astype(np.float32)
    names = [f"x{index}" for index in range(_CHAIN["length"] + 1)]
    nodes = [
        helper.make_node("Conv", [one, "weight"], [other], pads=[1] * 4) for one, other in itertools.pairwise(names)
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in (names[0], names[-1])]
    graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:], [numpy_helper.from_array(weight, "weight")])
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    session = open_session(model.SerializeToString(), device="cpu", threads=threads)
    x = noise.standard_normal(shape).astype(np.float32)
    return lambda frame: session.run(None, {names[0]: x})


def chain_gflops() -> float:
    """Of one run of the chain."""
    cells = _CHAIN["height"] * _CHAIN["width"]
    return 2e-9 * _CHAIN["length"] * cells * 9 * _CHAIN["channels"] ** 2


def in_turns(calls: Mapping[str, Call], frames: Sequence[Image], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of every call: each looks at the same frame once a round, and another one begins each round."""
    names = list(calls)
    for name in names:
        for _ in range(_WARM_UP):
            calls[name](frames[0])
    times_ms: dict[str, list[float]] = {name: [] for name in names}
    for round_ in tqdm(range(rounds), desc="rounds", disable=not sys.stderr.isatty()):
        frame = frames[round_ % len(frames)]
        first = round_ % len(names)
        for name in (*names[first:], *names[:first]):
            time.sleep(_REST_S)
            start_s = time.perf_counter()
            calls[name](frame)
            times_ms[name].append(1e3 * (time.perf_counter() - start_s))
    return times_ms


def _add_times(report: Report, times_ms: Mapping[str, Sequence[float]]) -> None:
    for name, found in times_ms.items():
        if name != LIMIT:
            low, high = np.percentile(found, (25, 75))
            report.add(f"{name}, median", np.median(found), "ms", better="lower")
            report.add(f"{name}, between its quartiles", high - low, "ms", better="lower")


def _add_ratios(report: Report, times_ms: Mapping[str, Sequence[float]], *, judged: bool) -> None:
    def faster(one: str, than: str, target: float | None) -> None:
        # Of the same round, so that whatever else the machine did met both.
        ratio = np.median(np.divide(times_ms[than], times_ms[one]))
        report.add(f"{one}: times as fast as {than}", ratio, target=target if judged else None)

    faster(FP32, EAGER, 1.3)
    for name in (HALF, INT8, COMPILED):
        if name in times_ms:
            faster(name, EAGER, None)
    faster(WHOLE, PEER, 8.0)
    whole = np.median(times_ms[WHOLE])
    report.add(f"picture to {OBJECTS} objects' masks", whole, "ms", target=100.0 if judged else None, better="lower")
    if not judged:
        tqdm.write(f"  targets are for {_JUDGED_THREADS} threads: none is judged here", file=sys.stderr)


def _add_limit(report: Report, times_ms: Mapping[str, Sequence[float]], gflops: float) -> None:
    rate = chain_gflops() / (np.median(times_ms[LIMIT]) / 1e3)
    least_ms = 1e3 * gflops / rate
    report.add("3x3 convolutions in ONNX Runtime (the processor's limit)", rate, "GFLOP/s")
    report.add("least time of the network's operations at that limit", least_ms, "ms", better="lower")
    report.add(f"{FP32}: share of the limit", 100 * least_ms / np.median(times_ms[FP32]), "%")


def _left_out(name: str, reason: str) -> None:
    tqdm.write(f"  {name} is left out: {reason}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
