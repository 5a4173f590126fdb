"""`walt-loop demo`: the whole way on this machine, and a report of it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from walt_edge.contract.errors import UsageError
from walt_train.loop.demo.play import Demo, DemoConfig, check

# Fewer crops than one in so many frames of a rendered street mean that something is wrong.
_FRAMES_A_CROP = 100
# What a training asks for: of a rendered street, and of a film that may be short.
_LEAST_RENDERED = (50, 20)
_LEAST_FILMED = (12, 6)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's options."""
    add = parser.add_argument
    add("--out", type=Path, default=Path("demo-out"), metavar="DIR", help="replaced (default: %(default)s)")
    add("--video", type=Path, metavar="PATH", help="a video or a folder of frames (default: a rendered street)")
    add("--seed", type=int, default=5, metavar="S", help="of the rendered street (default: %(default)s)")
    add("--frames", type=int, default=2400, metavar="N", help="frames to render (default: %(default)s)")
    add("--size", default="768x432", metavar="WxH", help="of the rendered frames (default: %(default)s)")
    add("--later", type=int, default=400, metavar="N", help="frames of the second watch (%(default)s)")
    add("--truth", type=int, default=480, metavar="N", help="frames of later time that judge (%(default)s)")
    add("--steps", type=int, default=800, metavar="N", help="optimiser steps of the training (%(default)s)")
    add("--gain", type=float, default=5.0, metavar="P", help="points that the gate asks for (%(default)s)")
    add("--watch-only", action="store_true", help="stop at the store: no training, no model")
    add("--watch-s", type=float, default=270.0, metavar="S", help="watch no longer (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Plays the demo; non-zero if a station did not do its work."""
    if args.frames < 1 or args.watch_s <= 0:
        raise UsageError("--frames and --watch-s must be positive")
    if min(args.later, args.truth, args.steps) < 1:
        raise UsageError("--later, --truth and --steps must be positive")
    crops, tracks = _least(args)
    config = DemoConfig(
        out=args.out,
        video=args.video,
        seed=args.seed,
        frames=args.frames,
        size=args.size,
        watch_s=args.watch_s,
        least_crops=crops,
        least_tracks=tracks,
        later_frames=args.later,
        truth_frames=args.truth,
        learns=not args.watch_only,
        steps=args.steps,
        gain=args.gain,
    )
    report = Demo(config).run()
    ledger = report.ledger
    lines = [
        f"watched {ledger.frames_watched} frames, followed {ledger.objects_seen} objects, "
        f"stored {ledger.crops_stored} crops and {ledger.plates_stored} plates",
        f"report: {args.out / 'report.html'}",
    ]
    if report.truth is not None and report.truth.crops:
        low, high = report.truth.precision_95
        lines.insert(1, f"truly whole: {report.truth.precision:.1%} (95%: {low:.1%} to {high:.1%})")
    if report.learning is not None:
        lines.insert(-1, report.learning.says)
    sys.stdout.write("\n".join(lines) + "\n")
    check(report)
    return 0


def _least(args: argparse.Namespace) -> tuple[int, int]:
    """Crops, and objects that they show, below which the demo has failed."""
    if not args.watch_only:
        return _LEAST_FILMED if args.video else _LEAST_RENDERED
    return (1, 1) if args.video else (max(1, args.frames // _FRAMES_A_CROP), 1)
