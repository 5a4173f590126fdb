"""Makes the pictures of the documentation's concepts, by the commands that a person would use, of a rendered street.

    python -m benchmarks.concepts --out docs/pictures/concepts

It is no benchmark: nothing is measured. Some minutes on two cores.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2

_SEED, _FRAMES, _SIZE = 4, 1500, "800x450"
_WIDE_PX = 1400
_QUALITY = 84


def main() -> int:
    """Renders, mines and composites; keeps one picture of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="gets the pictures")
    parser.add_argument(
        "--work", type=Path, metavar="DIR", help="keeps what they are made of, and goes on from there"
    )
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="walt-concepts-") as folder:
        work = args.work or Path(folder)
        work.mkdir(parents=True, exist_ok=True)
        args.out.mkdir(parents=True, exist_ok=True)
        _make(work)
        _keep(work / "clipart" / "overview.jpg", args.out / "whole.jpg")
        _keep(work / "composites" / "preview.png", args.out / "composites.jpg")
    return 0


def _make(work: Path) -> None:
    film, clipart = work / "street.mp4", work / "clipart"
    render = ["walt-train", "rwalt", "--seed", str(_SEED), "--frames", str(_FRAMES), "--size", _SIZE, "--no-images"]
    steps = {
        film: [*render, "--out", str(work / "street"), "--video", str(film), "--light", "day"],
        clipart: ["walt-edge", "mine", "--input", str(film), "--out", str(clipart)],
        work / "composites": ["walt-train", "compose", "--clipart", str(clipart), "--count", "6", "--seed", "3"],
    }
    for made, words in steps.items():
        if not made.exists():
            ours = [] if "--out" in words else ["--out", str(made)]
            subprocess.run([Path(sys.executable).with_name(words[0]), *words[1:], *ours], check=True)


def _keep(source: Path, path: Path) -> None:
    picture = cv2.imread(str(source))
    assert picture is not None, source
    scale = min(1.0, _WIDE_PX / picture.shape[1])
    small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(path), small, (cv2.IMWRITE_JPEG_QUALITY, _QUALITY))


if __name__ == "__main__":
    sys.exit(main())
