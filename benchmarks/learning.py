"""What the loop learns: generation 1 against generation 0 on later time, whose truth took part in nothing.

    python -m benchmarks.learning --out docs/benchmarks/learning.json

For each street: render it, mine its first part (`walt-edge mine`), train on composites of what was seen whole
(`walt-train`), export, and evaluate both generations on the rendered truth of the street's later part.
The floor is a `motion` that takes the silhouette of what moves for the whole object. Inference is set beside the
machine's own speed at convolutions, measured in the same run.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from benchmarks.report import Report, arguments
from walt_edge import Detector
from walt_edge.contract.clipart import read_clipart

FIRST, LATER, SIZE = 2400, 480, "768x432"
GAIN_TARGET = 5.0
_PASSES = 40


def main() -> None:
    """Measures, prints a table, writes JSON."""
    parser = arguments(__doc__)
    parser.add_argument("--streets", type=int, nargs="+", default=[5], metavar="SEED", help="which streets (5)")
    parser.add_argument("--steps", type=int, metavar="N", help="optimiser steps (the recipe's)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave what was made there")
    args = parser.parse_args()
    first, later = (240, 60) if args.quick else (FIRST, LATER)
    steps = 5 if args.quick else args.steps
    report = Report("learning", {"seed": args.seed, "frames": first, "later frames": later})
    with tempfile.TemporaryDirectory() as folder:
        for street in args.streets:
            root = (args.keep or Path(folder)) / str(street)
            _learn(report, root, street, args.seed, (first, later), steps)
            _compare(report, root, street, is_quick=args.quick)
        _time(report, root)
    report.finish(args.out)


def _learn(report: Report, root: Path, street: int, seed: int, frames: tuple[int, int], steps: int | None) -> None:
    """From pictures to a bundle, by the commands that people use."""
    first, later = frames
    look = ["--seed", str(street), "--light", "day", "--size", SIZE]
    _call("walt-train", "rwalt", *look, "--frames", str(first), "--out", str(root / "first"))
    # Two frames a second from there on: what judges has to be many things, not many pictures.
    truth = ["--fps", "2", "--skip", str(first // 5), "--frames", str(later)]
    _call("walt-train", "rwalt", *look, *truth, "--out", str(root / "later"))
    _call("walt-edge", "mine", "--input", str(root / "first" / "images"), "--fps", "10", "--out", str(root / "clips"))
    clips = read_clipart(root / "clips").clips
    report.add(f"street {street}: clips", len(clips))
    report.add(f"street {street}: objects that they show", len({clip.header.track_id for clip in clips}))
    words = ["--data", str(root / "clips"), "--seed", str(seed), "--gpus", "0", "--out", str(root / "model")]
    took_s = _call("walt-train", *words, *([] if steps is None else ["--steps", str(steps)]))
    curve = _read(root / "model" / "curves.json")
    report.add(f"street {street}: training", took_s, "s", better="lower")
    report.add(f"street {street}: optimiser steps", len(curve))
    report.add(
        f"street {street}: loss, mean of the first tenth",
        _mean_loss(curve[: max(1, len(curve) // 10)]),
        better="lower",
    )
    report.add(
        f"street {street}: loss, mean of the last tenth",
        _mean_loss(curve[-max(1, len(curve) // 10) :]),
        better="lower",
    )
    bundle = ["--out", str(root / "street.walt")]
    report.add(f"street {street}: export", _call("walt-export", str(root / "model"), *bundle), "s", better="lower")


def _compare(report: Report, root: Path, street: int, *, is_quick: bool) -> None:
    motion, model = root / "motion.json", root / "model.json"
    data = ["--data", str(root / "later")]
    _call("walt-train", "evaluate", "--model", "motion", *data, "--out", str(motion))
    words = ["--model", str(root / "street.walt"), *data, "--out", str(model), "--against", str(motion)]
    _call("walt-train", "evaluate", *words)
    before, after = _read(motion), _read(model)
    for gamma in ("0.01", "0.5"):
        old, new = (one["result"]["at_gamma"][gamma] for one in (before, after))
        what = f"street {street}, γ = {gamma}, {new['cases']} cases of {new['objects']} objects"
        for kind in ("box", "mask"):
            if old[f"{kind}_iou"] is None:
                continue
            report.add(f"{what}: {kind} IoU, generation 0", old[f"{kind}_iou"], "points")
            report.add(f"{what}: {kind} IoU, generation 1", new[f"{kind}_iou"], "points")
            goal = GAIN_TARGET if (kind, gamma, is_quick) == ("mask", "0.5", False) else None
            report.add(f"{what}: {kind} gain", new[f"{kind}_iou"] - old[f"{kind}_iou"], "points", target=goal)
            low = _interval(after, float(gamma), kind)
            if low is not None:
                report.add(f"{what}: {kind} gain, lower end of 95 %", low, "points")
    for name, one in (("0", before), ("1", after)):
        wrong = one["result"]["false_boxes"] / one["result"]["frames"]
        report.add(f"street {street}: false boxes a frame, generation {name}", wrong, better="lower")


def _time(report: Report, root: Path) -> None:
    """One thread: a frame through the model, and the floor that the machine's own convolutions set."""
    detector = Detector.load(root / "street.walt", device="cpu", threads=1)
    picture = cv2.imread(str(min((root / "later" / "images").iterdir())))
    assert picture is not None
    frame_ms = _median_ms(lambda: detector.predict(np.asarray(picture, np.uint8)))
    gflops = detector.manifest.gflops
    floor_ms = gflops / _gflops_a_second() * 1e3
    report.add("the model's cost with all candidates", gflops, "GFLOP", target=1.0, better="lower")
    report.add("the model's weights", detector.manifest.parameters, better="lower")
    report.add(f"a {SIZE} frame, one thread, median", frame_ms, "ms", better="lower")
    report.add("floor: its operations at the speed of one large convolution", floor_ms, "ms", better="lower")
    report.add("share of the floor", 100 * floor_ms / frame_ms, "%")


def _gflops_a_second() -> float:
    """What one thread reaches on a 3x3 convolution of 64 channels, multiply and add counted as two."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    layer = torch.nn.Conv2d(64, 64, 3, padding=1)
    x = torch.randn(1, 64, 96, 160)
    with torch.no_grad():
        took_ms = _median_ms(lambda: layer(x))
    torch.set_num_threads(threads)
    return 2 * 64 * 64 * 9 * 96 * 160 / (took_ms * 1e6)


def _median_ms(work: Any) -> float:
    work()
    taken = []
    for _ in range(_PASSES):
        start_s = time.perf_counter()
        work()
        taken.append(1e3 * (time.perf_counter() - start_s))
    return float(np.median(taken))


def _call(program: str, *words: str) -> float:
    """Runs one of our programs to its end; returns the seconds it took."""
    start_s = time.monotonic()
    subprocess.run([str(Path(sys.executable).with_name(program)), *words], check=True, stdout=sys.stderr)
    return time.monotonic() - start_s


def _read(path: Path) -> Any:
    return json.loads(path.read_text())


def _mean_loss(rows: list[dict[str, float]]) -> float:
    return sum(row["loss"] for row in rows) / len(rows)


def _interval(evaluation: Any, gamma: float, kind: str) -> float | None:
    """Lower end of the paired difference's 95 % interval; None with fewer than two objects."""
    for found in evaluation["differences"]:
        if found["band"] == {"low": gamma, "high": 0.9} and found[f"{kind}_interval"] is not None:
            return float(found[f"{kind}_interval"][0])
    return None


if __name__ == "__main__":
    main()
