"""`walt-export CHECKPOINT --out BUNDLE`: export a trained network and all that an agent needs to trust it."""

from __future__ import annotations

import argparse
import logging
import os
from pathlib import Path

from walt_edge.contract.bundle import SUFFIX
from walt_edge.contract.errors import UsageError
from walt_edge.contract.files import check_out

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
        "--golden", type=Path, metavar="FOLDER", help="golden pictures, *.png (default: golden beside the checkpoint)"
    )
    add(
        "--weights",
        choices=("auto", "float32", "float16"),
        default="auto",
        help="how they are stored; auto: float16 where that keeps an edge network's file below 12 MB (%(default)s)",
    )
    add("--trt", action="store_true", help="for TensorRT")


def run(args: argparse.Namespace) -> int:
    """Exports; prints one line at the end."""
    if args.trt:
        raise UsageError("TensorRT is not built yet, a later version brings it: leave out --trt for an ONNX bundle")
    checkpoint = args.checkpoint or newest_checkpoint(Path(os.environ.get("WALT_HOME") or "walt"))
    folder = checkpoint if checkpoint.is_dir() else checkpoint.parent
    out = args.out or folder / f"model{SUFFIX}"
    check_out(out)
    from walt_export.bundle import make_bundle  # torch takes seconds: not before it is clear that it is needed

    manifest, sha256 = make_bundle(checkpoint, out, golden=args.golden, weights=args.weights)
    figures = ", ".join(f"{name} {value:g}" for name, value in manifest.parity.items())
    print(f"{manifest.name} of {checkpoint}: {out}, sha256 {sha256[:12]}; against torch: {figures}")  # noqa: T201
    return 0


def newest_checkpoint(home: Path) -> Path:
    """The checkpoint under a folder that was written last; raises UsageError if there is none."""
    found = sorted(home.rglob("checkpoint.pt"), key=lambda path: (path.stat().st_mtime_ns, path))
    if not found:
        raise UsageError(f"no checkpoint.pt under {home}: give CHECKPOINT, or make one with walt-train")
    _log.info("the newest checkpoint under %s is %s", home, found[-1])
    return found[-1]
