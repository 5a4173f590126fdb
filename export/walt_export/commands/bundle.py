"""`walt-export CHECKPOINT --out BUNDLE`: export a trained network and all that an agent needs to trust it."""

from __future__ import annotations

import argparse
import logging
import math
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import msgspec

from walt_edge.contract.bundle import SUFFIX, TENSORRT_MODEL, TENSORRT_RECIPE, Bundle, Limits, write_bundle
from walt_edge.contract.errors import UsageError
from walt_edge.contract.files import check_out, write_whole
from walt_edge.packaged import GENERAL, named_model
from walt_edge.runtimes.tensorrt.recipe import BuildRecipe, encode
from walt_edge.runtimes.tensorrt.recipe import Precision as TensorrtPrecision
from walt_export.errors import ExportError

if TYPE_CHECKING:
    from walt_export.bundle import Export, ExportOptions
    from walt_export.parity import ParityError

_OPSETS = (18, 19, 20, 21)
_MOST_PICTURES = 8
"""That a TensorRT engine is built for where the graph takes any number."""
_ENGINES: Mapping[str, TensorrtPrecision] = MappingProxyType(
    {"auto": "fp16", "float32": "fp32", "float16": "fp16", "int8": "int8"}
)
_log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    add = parser.add_argument
    add(
        "checkpoint",
        nargs="?",
        type=Path,
        metavar="CHECKPOINT",
        help="what walt-train wrote, the file or its folder (default: the newest under WALT_HOME); with --int8 also "
        "a bundle in float, or `general`: the package's own",
    )
    add(
        "--out", type=Path, metavar="BUNDLE", help=f"the bundle's file (default: model{SUFFIX} beside the checkpoint)"
    )
    add(
        "--trt", action="store_true", help="also for TensorRT: graph, build recipe, and the engine if it can be built"
    )
    precision = parser.add_mutually_exclusive_group()
    for name, words in (
        ("float32", "weights as they were trained"),
        ("float16", "weights stored in half precision"),
        ("int8", "compute with 8-bit integers as far as masks allow"),
    ):
        flags = [f"--{name}"] if name == "int8" else [f"--fp{name[-2:]}", f"--{name}"]
        precision.add_argument(*flags, dest="precision", action="store_const", const=name, help=words)
    parser.set_defaults(precision="auto")
    add("--opset", type=int, choices=_OPSETS, default=20, help="ONNX operator set (%(default)s)")
    add("--dynamic-batch", action="store_true", help="the graph takes any number of pictures at once")
    add("--paste", action="store_true", help="the graph gives masks of the whole input too")
    add("--size", type=_size, metavar="WxH", help="another input size than it was trained at, multiples of 32")
    add("--golden", type=Path, metavar="FOLDER", help="golden pictures, *.png (default: beside the checkpoint)")
    add("--calibrate", type=Path, metavar="FOLDER", help="pictures for --int8 (default: calibration beside it)")
    add("--max-latency-ms", type=_positive, metavar="MS", help="a device that is slower does not take it (p99)")
    add("--max-memory-mb", type=_positive, metavar="MB", help="nor one on which it needs more memory")
    add("--licence", type=Path, metavar="FILE", help="the weights' licence (default: this package's)")


def run(args: argparse.Namespace) -> int:
    """Exports; prints a line, and one more for each step that was asked for."""
    checkpoint = args.checkpoint or newest_checkpoint(Path(os.environ.get("WALT_HOME") or "walt"))
    if checkpoint == Path(GENERAL) or checkpoint.suffix == SUFFIX:
        return _quantize(named_model(checkpoint), args)
    folder = checkpoint if checkpoint.is_dir() else checkpoint.parent
    out = args.out or folder / f"model{SUFFIX}"
    check_out(out)
    # torch takes seconds: not before it is clear that it is needed
    from walt_export.bundle import export
    from walt_export.parity import ParityError

    try:
        made = export(checkpoint, _options(args))
    except ParityError as error:
        raise _drawn(error, out) from error
    files, tensorrt = dict(made.files), None
    if args.trt:
        tensorrt = _for_tensorrt(made, args)
        files |= {TENSORRT_MODEL: tensorrt[0], TENSORRT_RECIPE: encode(tensorrt[1])}
    write_bundle(out, made.manifest, files)
    print(_line(made, checkpoint, out))  # noqa: T201
    for attempt in made.quantized.attempts if made.quantized else ():
        print(f"int8: {attempt}")  # noqa: T201
    if tensorrt is not None:
        _tensorrt(made, *tensorrt, out)
    return 0


def _quantize(path: Path, args: argparse.Namespace) -> int:
    """Of a bundle in float, one that computes with integers: the network itself stays as it was exported."""
    asked = {
        "--trt": args.trt,
        "--dynamic-batch": args.dynamic_batch,
        "--paste": args.paste,
        "--size": args.size,
        "--golden": args.golden,
        "--licence": args.licence,
    }
    wrong = [flag for flag, value in asked.items() if value]
    if args.precision != "int8" or wrong:
        raise UsageError(
            f"{path} is a bundle already, which can be made --int8 and nothing else: give its checkpoint"
            + (f" for {wrong[0]}" if wrong else "")
        )
    out = args.out or Path(f"{path.stem}-int8{SUFFIX}")
    check_out(out)
    from walt_export.bundle import quantize_bundle
    from walt_export.quantize import CALIBRATION

    manifest, files, made = quantize_bundle(Bundle.read(path), args.calibrate or path.parent / CALIBRATION)
    limits = _limits(args)
    write_bundle(out, manifest if limits is None else msgspec.structs.replace(manifest, limits=limits), files)
    megabytes = sum(map(len, files.values())) / 1e6
    print(f"{manifest.name} of {path}: {out}, int8, {megabytes:.1f} MB")  # noqa: T201
    for attempt in made.attempts:
        print(f"int8: {attempt}")  # noqa: T201
    return 0


def newest_checkpoint(home: Path) -> Path:
    """The checkpoint under a folder that was written last; raises UsageError if there is none."""
    found = sorted(home.rglob("checkpoint.pt"), key=lambda path: (path.stat().st_mtime_ns, path))
    if not found:
        raise UsageError(f"no checkpoint.pt under {home}: give CHECKPOINT, or make one with walt-train")
    _log.info("the newest checkpoint under %s is %s", home, found[-1])
    return found[-1]


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is no size: give WxH, for example 640x384")
    return int(width), int(height)


def _positive(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return value


def _limits(args: argparse.Namespace) -> Limits | None:
    limits = Limits(latency_ms=args.max_latency_ms, memory_mb=args.max_memory_mb)
    return None if limits == Limits() else limits


def _options(args: argparse.Namespace) -> ExportOptions:
    from walt_export.bundle import ExportOptions
    from walt_export.onnx import GraphOptions

    return ExportOptions(
        precision=args.precision,
        graph=GraphOptions(opset=args.opset, batch=args.dynamic_batch, paste=args.paste),
        size_wh=args.size,
        golden=args.golden,
        calibration=args.calibrate,
        licence=args.licence,
        limits=_limits(args),
    )


def _line(made: Export, checkpoint: Path, out: Path) -> str:
    manifest = made.manifest
    figures = ", ".join(f"{name} {value:g}" for name, value in manifest.parity.items())
    megabytes = sum(map(len, made.files.values())) / 1e6
    return (
        f"{manifest.name} of {checkpoint}: {out}, {manifest.precision}, {megabytes:.1f} MB; against torch: {figures}"
    )


def _drawn(error: ParityError, out: Path) -> ExportError:
    """The same refusal, which also says where it was drawn."""
    from walt_export.draw import draw_answers

    path = out.with_name(f"{out.stem}-refused.png")
    path.parent.mkdir(parents=True, exist_ok=True)
    before, after = error.answers
    write_whole(path, draw_answers(error.image, {"torch": before, "exported": after}, error.box_xyxy))
    return ExportError(f"{error.words}: not exported; drawn in {path}; report it")


def _for_tensorrt(made: Export, args: argparse.Namespace) -> tuple[bytes, BuildRecipe]:
    """What a device builds its engine of, in the bundle as in the folder beside it."""
    from walt_export.tensorrt.make import prepare

    most = _MOST_PICTURES if args.dynamic_batch else 1
    return prepare(
        made.tensorrt_model(),
        precision=_ENGINES[args.precision],
        size_wh=made.manifest.size_wh,
        batch=(1, 1, most),
    )


def _tensorrt(made: Export, model: bytes, recipe: BuildRecipe, out: Path) -> None:
    from walt_export.tensorrt.make import SUFFIX as TRT
    from walt_export.tensorrt.make import write_tensorrt

    outcome = write_tensorrt(model, recipe, out.with_suffix(TRT))
    print(outcome.words)  # noqa: T201
    if outcome.network is not None:
        print(f"the engine against torch: {made.agreement(outcome.network)}")  # noqa: T201
