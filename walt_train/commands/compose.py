"""`walt-train compose`: composites of clip art as an amodal COCO data set."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

import cv2
from tqdm import tqdm

from walt_edge.contract.errors import UsageError
from walt_train.clipart.settings import ORDERS, PLACEMENTS, ComposeSettings
from walt_train.data.coco import ANNOTATIONS
from walt_train.data.composites import CompositeSamples
from walt_train.data.preview import contact_sheet
from walt_train.data.sample import SPLITS
from walt_train.data.write import OutputError, write_samples

_PREVIEW = "preview.png"
_PREVIEW_COUNT = 8
_DEFAULT = ComposeSettings()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's options."""
    add = parser.add_argument
    add("--clipart", type=Path, required=True, metavar="DIR", help="of walt-edge mine or walt-loop store --export")
    add("--count", type=int, default=100, metavar="N", help="how many composites (%(default)s)")
    add("--seed", type=int, default=0, metavar="S", help="same seed, same pixels and layers (%(default)s)")
    add("--out", type=Path, required=True, metavar="DIR", help="gets images/, annotations.json and preview.png")
    add("--order", default=_DEFAULT.order, choices=ORDERS, help="which object is nearer (%(default)s)")
    add(
        "--placement",
        default=_DEFAULT.placement,
        choices=PLACEMENTS,
        help="where they were seen, anywhere on the ground at the right scale, or half and half (%(default)s)",
    )
    add("--crop-chance", type=float, default=0.0, metavar="P", help="of a window instead of the frame (%(default)s)")
    add("--split", default="all", choices=SPLITS, help="by object and time (%(default)s)")
    add("--preview", type=Path, metavar="FILE.png", help=f"the sheet to look at (default: {_PREVIEW} in --out)")


def run(args: argparse.Namespace) -> int:
    """Composes; returns the exit status."""
    if args.count < 1:
        raise UsageError(f"{args.count} composites: give --count 1 or more")
    settings = ComposeSettings(order=args.order, placement=args.placement, crop_chance=args.crop_chance)
    samples = CompositeSamples(
        args.clipart, split=args.split, per_epoch=args.count, seed=args.seed, settings=settings
    )
    info = {
        "description": "CWALT: clip art composited over the camera's own plates, with exact amodal layers",
        "seed": args.seed,
        "split": args.split,
        "settings": dataclasses.asdict(settings),
    }
    with tqdm(total=args.count, unit="composite", disable=not sys.stderr.isatty()) as bar:
        for written in write_samples(args.out, samples, info):
            bar.update(written - bar.n)
    _write_preview(args.preview or args.out / _PREVIEW, samples)
    sys.stdout.write(f"{args.count} composites in {args.out / ANNOTATIONS}\n")
    return 0


def _write_preview(path: Path, samples: CompositeSamples) -> None:
    sheet = contact_sheet([samples.sample(0, index) for index in range(min(_PREVIEW_COUNT, len(samples)))])
    done, data = cv2.imencode(".png", sheet)
    try:
        if done:
            path.write_bytes(data.tobytes())
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}; give another --preview") from error
