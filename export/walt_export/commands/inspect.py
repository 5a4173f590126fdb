"""`walt-export inspect BUNDLE`: what a bundle says of itself, and what its network costs by part."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

import cv2

from walt_edge.contract.bundle import Bundle
from walt_edge.contract.errors import UsageError
from walt_edge.contract.files import check_out, write_whole
from walt_export.cost import measure_cost, read_model
from walt_export.cost_picture import draw_cost
from walt_export.description import Fact, cost_table, describe, measured_on
from walt_export.errors import ExportError

_RUNS = 5
_BOUND = "a frame with all candidates; functions (op) as if every object overlapped every other"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    add = parser.add_argument
    add("bundle", type=Path, metavar="BUNDLE", help="what walt-export wrote")
    add("--out", type=Path, metavar="PICTURE.png", help="the cost as bars (default: NAME.cost.png beside the bundle)")
    add("--threads", type=int, default=1, metavar="N", help="for one picture (default: %(default)s)")
    add(
        "--runs",
        type=int,
        default=_RUNS,
        metavar="N",
        help="of each golden picture, 0: no time (%(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Prints the description and the table of costs; draws them."""
    if args.threads < 1 or args.runs < 0:
        raise UsageError(f"--threads {args.threads} --runs {args.runs}: expected at least 1 thread and 0 runs")
    out = args.out or args.bundle.with_suffix(".cost.png")
    check_out(out)
    bundle = Bundle.read(args.bundle)
    _print_facts(describe(bundle, read_model(bundle)))
    costs, profile = measure_cost(bundle, threads=args.threads, runs=args.runs)
    how = "nothing measured" if profile is None else measured_on(profile)
    print(f"\ncost by part\n  GFLOPs: {_BOUND}\n  milliseconds: {how}\n")  # noqa: T201 - the answer
    for line in cost_table(costs):
        print(line)  # noqa: T201
    notes = (f"GFLOPs: {_BOUND}", f"milliseconds: {how}")
    written, data = cv2.imencode(".png", draw_cost(bundle.manifest.name, notes, costs))
    assert written
    try:
        write_whole(out, data.tobytes())
    except OSError as error:
        raise ExportError(f"cannot write {out}: {error.strerror}; give another --out") from error
    print(f"\npicture: {out}")  # noqa: T201
    return 0


def _print_facts(facts: Iterable[Fact]) -> None:
    for name, words in facts:
        print(f"{name:<11} {words}")  # noqa: T201
