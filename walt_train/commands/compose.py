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
from walt_train.data.ahead import Composites, compose_to_disk
from walt_train.data.coco import ANNOTATIONS
from walt_train.data.composites import CompositeSamples
from walt_train.data.preview import contact_sheet
from walt_train.data.sample import SPLITS
from walt_train.data.write import OutputError

_PREVIEW = "preview.png"
_PREVIEW_COUNT = 8
_DEFAULT = ComposeSettings()
_HELP = {
    "cluster": "that an object stands near one that is there already (%(default)s)",
    "crop": "of a window instead of the frame, which cuts objects as a border does (%(default)s)",
    "frame": "of a real frame with the moving things erased as background, where there are any (%(default)s)",
    "shadow": "how much light a contact shadow takes at most, 0 to 0.5 (%(default)s)",
    "harmonise": "bring colours from the light an object was seen in to that of its new place (yes)",
    "workers": "processes, or ray, ray:N, ray:HOST:PORT; the result is the same (%(default)s: this one)",
    "sure": "draw a clip the more often, the surer it is that nothing hides a part of it (yes)",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's options."""
    add = parser.add_argument
    add("--clipart", type=Path, required=True, metavar="DIR", help="of walt-edge mine, walt-train mine or the store")
    add("--count", type=int, default=100, metavar="N", help="how many composites (%(default)s)")
    add("--seed", type=int, default=0, metavar="S", help="same seed, same pixels and layers (%(default)s)")
    add("--out", type=Path, required=True, metavar="DIR", help="gets images/, annotations.json and preview.png")
    add("--split", default="all", choices=SPLITS, help="by object and time (%(default)s)")
    add("--preview", type=Path, metavar="FILE.png", help=f"the sheet to look at (default: {_PREVIEW} in --out)")
    add("--workers", default="0", metavar="N", help=_HELP["workers"])
    _add_settings(parser)


def _add_settings(parser: argparse.ArgumentParser) -> None:
    paper = "as in the paper: --order random --placement original --no-harmonise --shadow 0"
    add = parser.add_argument_group("how they are made", paper).add_argument
    add("--order", default=_DEFAULT.order, choices=ORDERS, help="which object is nearer (%(default)s)")
    add(
        "--placement",
        default=_DEFAULT.placement,
        choices=PLACEMENTS,
        help="where they were seen, anywhere on the ground at the right scale, or half and half (%(default)s)",
    )
    few, many = _DEFAULT.objects
    add(
        "--objects",
        nargs=2,
        type=int,
        default=(few, many),
        metavar=("MIN", "MAX"),
        help=f"fewest and most that are tried in a composite, such as 10 30 ({few} {many})",
    )
    add("--cluster-chance", type=float, default=_DEFAULT.cluster_chance, metavar="P", help=_HELP["cluster"])
    add("--crop-chance", type=float, default=_DEFAULT.crop_chance, metavar="P", help=_HELP["crop"])
    add("--frame-chance", type=float, default=_DEFAULT.frame_chance, metavar="P", help=_HELP["frame"])
    add("--shadow", type=float, default=_DEFAULT.shadow, metavar="S", help=_HELP["shadow"])
    add("--harmonise", action=argparse.BooleanOptionalAction, default=_DEFAULT.harmonise, help=_HELP["harmonise"])
    add("--by-confidence", action=argparse.BooleanOptionalAction, default=_DEFAULT.by_confidence, help=_HELP["sure"])


def run(args: argparse.Namespace) -> int:
    """Composes; returns the exit status."""
    if args.count < 1:
        raise UsageError(f"{args.count} composites: give --count 1 or more")
    settings = ComposeSettings(
        order=args.order,
        placement=args.placement,
        objects=(args.objects[0], args.objects[1]),
        cluster_chance=args.cluster_chance,
        crop_chance=args.crop_chance,
        frame_chance=args.frame_chance,
        harmonise=args.harmonise,
        by_confidence=args.by_confidence,
        shadow=args.shadow,
    )
    composites = Composites(args.clipart, args.count, args.seed, args.split, settings)
    info = {
        "description": "CWALT: clip art composited over the camera's own plates, with exact amodal layers",
        "seed": args.seed,
        "split": args.split,
        "settings": dataclasses.asdict(settings),
    }
    with tqdm(total=args.count, unit="composite", disable=not sys.stderr.isatty()) as bar:
        for written in compose_to_disk(composites, args.out, info, workers=args.workers):
            bar.update(written - bar.n)
    _write_preview(args.preview or args.out / _PREVIEW, composites.open())
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
