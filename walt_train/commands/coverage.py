"""`walt-train coverage`: a picture of where clip art stood and of where composites put it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.errors import UsageError
from walt_edge.contract.files import write_whole
from walt_train.clipart.coverage import clips_stood, composites_put, covered_share, draw_coverage, ground_area
from walt_train.clipart.material import load_material
from walt_train.clipart.settings import PLACEMENTS, ComposeSettings
from walt_train.data.write import OutputError

_DRAWS = 300


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's options."""
    add = parser.add_argument
    add("--clipart", type=Path, required=True, metavar="DIR", help="of walt-edge mine or walt-train mine")
    add("--out", type=Path, required=True, metavar="FILE.png", help="gets the picture")
    add("--draws", type=int, default=_DRAWS, metavar="N", help="composites to draw, unpainted (%(default)s)")
    add("--seed", type=int, default=0, metavar="S", help="of these (%(default)s)")
    add("--placement", default="mixed", choices=PLACEMENTS, help="of the picture's right half (%(default)s)")


def run(args: argparse.Namespace) -> int:
    """Draws; prints the figures; returns the exit status."""
    if args.draws < 1:
        raise UsageError(f"{args.draws} composites: give --draws 1 or more")
    if args.out.suffix.lower() != ".png":
        raise UsageError(f"--out {args.out}: give a name that ends in .png")
    material = load_material(args.clipart)
    stood = clips_stood(material)
    ground = ground_area(stood)
    put = {
        placement: composites_put(material, ComposeSettings(placement=placement), args.draws, args.seed)
        for placement in dict.fromkeys(("original", "mixed", args.placement))
    }
    shares = ", ".join(f"{name} {covered_share(one, ground):.0%}" for name, one in put.items())
    figures = f"ground covered by {args.draws} composites: {shares}"
    objects = len({cutout.object_id for cutout in material.cutouts})
    picture = draw_coverage(
        material.backdrops[0].image_bgr,
        [
            (f"where clip art stood: {len(material.cutouts)} clips of {objects} objects", stood),
            (f"where composites put it: placement {args.placement}", put[args.placement]),
        ],
        ground,
        f"Coverage of camera {material.camera}",
        figures,
    )
    _write(args.out, picture)
    sys.stdout.write(f"{figures}: {args.out}\n")
    return 0


def _write(path: Path, picture: NDArray[np.uint8]) -> None:
    done, data = cv2.imencode(".png", picture)
    assert done
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, data.tobytes())
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}; give another --out") from error
