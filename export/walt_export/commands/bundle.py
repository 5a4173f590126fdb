"""`walt-export CHECKPOINT --out BUNDLE`: export a trained network and all that an agent needs to trust it."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from walt_edge.contract.bundle import SUFFIX, write_bundle
from walt_edge.contract.errors import UsageError
from walt_edge.contract.files import check_out, write_whole
from walt_export.errors import ExportError

if TYPE_CHECKING:
    from walt_export.bundle import Export, ExportOptions
    from walt_export.parity import ParityError
    from walt_export.tensorrt.recipe import Precision as TensorrtPrecision

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
        help="what walt-train wrote, the file or its folder (default: the newest under WALT_HOME)",
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
    add("--licence", type=Path, metavar="FILE", help="the weights' licence (default: this package's)")


def run(args: argparse.Namespace) -> int:
    """Exports; prints a line, and one more for each step that was asked for."""
    checkpoint = args.checkpoint or newest_checkpoint(Path(os.environ.get("WALT_HOME") or "walt"))
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
    for_tensorrt = made.tensorrt_model() if args.trt else b""
    write_bundle(out, made.manifest, made.files)
    print(_line(made, checkpoint, out))  # noqa: T201
    for attempt in made.quantized.attempts if made.quantized else ():
        print(f"int8: {attempt}")  # noqa: T201
    if args.trt:
        _tensorrt(made, for_tensorrt, out, args)
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


def _tensorrt(made: Export, model: bytes, out: Path, args: argparse.Namespace) -> None:
    from walt_export.tensorrt.make import SUFFIX as TRT
    from walt_export.tensorrt.make import make_tensorrt

    most = _MOST_PICTURES if args.dynamic_batch else 1
    outcome = make_tensorrt(
        model,
        out.with_suffix(TRT),
        precision=_ENGINES[args.precision],
        size_wh=made.manifest.size_wh,
        batch=(1, 1, most),
    )
    print(outcome.words)  # noqa: T201
    if outcome.network is not None:
        print(f"the engine against torch: {made.agreement(outcome.network)}")  # noqa: T201
