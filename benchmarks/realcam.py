"""Real people on a real camera: mined, trained on and judged there, against a detector that somebody else trained.

    python -m benchmarks.realcam --out docs/benchmarks/realcam.json
    python -m benchmarks.realcam --split judge --truth BOXES.json --out FILE.json

The recording is `../shared/data/cameras/plaza/vtest.avi`; without it there is nothing to measure. Clip art is mined
in one stretch of it, a network is trained on composites alone, from random weights, and full-body boxes drawn by hand
judge it in another stretch: one pass over each frame, one score threshold, which is chosen on composites. Who is
missed counts 0. `develop` mines frames 230-529 and judges by our own boxes on frames 0-229; `judge` mines frames
0-529 and asks for boxes of later ones.

The peers see the same frames in the same run. Their threshold is chosen on drawn frames of the mined stretch, which
favours them: our network never sees a drawn box.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.report import Report, arguments
from walt_edge.contract.clipart import FILE_NAME, Plate, read_clipart, write_clipart
from walt_edge.contract.errors import WaltError
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import decode_rle
from walt_edge.runtimes import Teacher
from walt_edge.watching.tracking import iou_matrix
from walt_train.data.sample import AmodalSample
from walt_train.engine.launch import calm_threads
from walt_train.engine.plan import Fit
from walt_train.metrics.box_truth import BoxJudgement, BoxTruth, ScoredBoxes, box_table, judge_boxes, read_box_truth
from walt_train.recipes import Network, Recipe, SmallBackbone, Training, WaltBranch

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT.parent / "shared" / "data"
RECORDING = DATA / "cameras" / "plaza" / "vtest.avi"
DETECTOR = DATA / "models" / "yolox_nano.onnx"
OWN_TRUTH = ROOT / "benchmarks" / "truth" / "plaza.json"

Image = NDArray[np.uint8]
Looks = Callable[[Image], ScoredBoxes]

_PARTS = 3
_TILE_WH, _TILES_ROW = (320, 320), 60
_SAME_IOU = 0.6
_GRID = tuple(round(0.05 * step, 2) for step in range(2, 20))


class RealcamError(WaltError):
    """There is nothing to judge."""


@dataclass(frozen=True, slots=True)
class Split:
    """Frames of the recording, half-open.

    Attributes:
        mined: The stretch that clip art comes from.
        judged: The stretch whose drawn frames judge.
        targets: Least IoU in full view and at each hidden share, most false boxes; None: none is asked for.
    """

    mined: tuple[int, int]
    judged: tuple[int, int]
    targets: tuple[float, dict[float, float], int] | None = None


SPLITS = {
    "develop": Split((230, 530), (0, 230)),
    "judge": Split((0, 530), (530, 795), (0.70, {0.3: 0.55, 0.5: 0.50}, 100)),
}


def main() -> None:
    """Measures, prints a table, writes JSON."""
    args = _arguments()
    calm_threads()
    split = SPLITS[args.split]
    if not RECORDING.is_file():
        raise SystemExit(f"skipped: {RECORDING} is not on this machine")
    drawn = read_box_truth(args.truth)
    judged, known = _within(drawn, split.judged), _within(read_box_truth(OWN_TRUTH), split.mined)
    if not judged.frames:
        raise RealcamError(f"{args.truth} has no frame of {split.judged[0]} to {split.judged[1] - 1}: give --truth")
    frames = _read_frames({frame.frame for frame in (*judged.frames, *known.frames)})
    facts = {
        "split": args.split,
        "mined": f"{split.mined[0]}-{split.mined[1] - 1}",
        "drawn frames": len(judged.frames),
    }
    report = Report("realcam", {"seed": args.seed, **facts})
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.keep or Path(temporary)
        _mine(split.mined, folder / "clipart", report)
        for name, placement in (("walt", "mixed"), *((("original", "original"),) if args.ablate else ())):
            recipe = _recipe(args.steps, placement)
            _measure_walt(
                report, name, Fit((folder / "clipart",), recipe, args.seed, folder / name), judged, frames, split
            )
    _measure_peers(report, judged, known, frames)
    report.finish(args.out)


def _arguments() -> argparse.Namespace:
    parser = arguments(__doc__)
    parser.add_argument("--split", choices=tuple(SPLITS), default="develop", help="what is mined, what judges")
    parser.add_argument("--truth", type=Path, default=OWN_TRUTH, metavar="FILE", help="boxes drawn by hand (our own)")
    parser.add_argument("--steps", type=int, default=900, metavar="N", help="optimiser steps (%(default)s)")
    parser.add_argument("--ablate", action="store_true", help="train again with objects at their own places only")
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="leave what was made there; a training goes on there"
    )
    args = parser.parse_args()
    args.steps = 6 if args.quick else args.steps
    return args


def _recipe(steps: int, placement: str) -> Recipe:
    """0.45 million parameters and 1 GFLOP, which see people of 70 px as large as 31 px."""
    return Recipe(
        name="realcam",
        network=Network(
            input_wh=(352, 256),
            backbone=SmallBackbone(stem=12, stages=(16, 32, 64, 96), blocks=(1, 1, 1, 1)),
            branch=WaltBranch(width=24, quality=False),
            feature_channels=32,
            box_width=96,
        ),
        training=Training(steps=steps, batch=6, learning_rate=2e-3, compose={"placement": placement}),
    )


def _within(truth: BoxTruth, stretch: tuple[int, int]) -> BoxTruth:
    frames = [frame for frame in truth.frames if stretch[0] <= frame.frame < stretch[1]]
    return msgspec.structs.replace(truth, frames=frames)


def _read_frames(wanted: set[int]) -> dict[int, Image]:
    """The frames of these numbers, raw: they stay in memory."""
    video, found = cv2.VideoCapture(str(RECORDING)), {}
    try:
        for number in range(max(wanted) + 1):
            is_read, picture = video.read()
            if not is_read:
                raise RealcamError(f"{RECORDING} ends before frame {number}")
            if number in wanted:
                found[number] = np.asarray(picture, np.uint8)
    finally:
        video.release()
    return found


def _mine(stretch: tuple[int, int], folder: Path, report: Report) -> None:
    """Clips of the whole stretch, and the plate of that part of it in which most of the ground was seen.

    Where people wait for long, the plate of the whole stretch has a hole, which another part's plate fills.
    """
    if not (folder / FILE_NAME).is_file():
        began = time.monotonic()
        _call_mine(folder, *stretch)
        parts = [folder / f"part-{part}" for part in range(_PARTS)]
        for part, bounds in zip(
            parts, itertools.pairwise(np.linspace(*stretch, _PARTS + 1).astype(int)), strict=True
        ):
            _call_mine(part, *bounds)
        clearest = max(parts, key=lambda part: _known(read_clipart(part).plates[-1]))
        extra = _of_part(read_clipart(clearest).plates[-1], clearest.name)
        whole = read_clipart(folder)
        write_clipart(folder, msgspec.structs.replace(whole, plates=[*whole.plates, extra]))
        report.facts["minutes of mining"] = round((time.monotonic() - began) / 60, 2)
    clipart = read_clipart(folder)
    report.add("clips", len(clipart.clips))
    report.add("objects they show", len({clip.header.track_id for clip in clipart.clips}))
    report.add("static things found", len(clipart.static))
    for plate in clipart.plates:
        report.add("share of the ground that a plate knows", _known(plate))


def _call_mine(folder: Path, start: int, stop: int) -> None:
    teacher = ["--detector", str(DETECTOR)] if DETECTOR.is_file() else []
    command = ["mine", "--input", str(RECORDING), "--camera", "plaza", "--out", str(folder)]
    command += ["--start-frame", str(start), "--frames", str(stop - start), *teacher]
    subprocess.run([str(Path(sys.executable).parent / "walt-edge"), *command], check=True, stdout=sys.stderr)


def _of_part(plate: Plate, part: str) -> Plate:
    """As if the device had been started anew: of one boot and hour only the newest plate counts."""
    captured = plate.header.captured
    boot = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{captured.boot_id} {part}"))
    header = msgspec.structs.replace(plate.header, captured=msgspec.structs.replace(captured, boot_id=boot))
    return msgspec.structs.replace(plate, header=header, image=f"{part}/{plate.image}")


def _known(plate: Plate) -> float:
    return float(decode_rle(plate.header.known).mean())


def _measure_walt(
    report: Report, name: str, wanted: Fit, judged: BoxTruth, frames: Mapping[int, Image], split: Split
) -> None:
    from walt_train.engine.checkpoint import load_model
    from walt_train.engine.fit import fit
    from walt_train.engine.validate import predict_frame

    began = time.monotonic()
    net, manifest = load_model(fit(wanted))
    report.facts[f"{name}: minutes of training"] = round((time.monotonic() - began) / 60, 2)
    report.facts[f"{name}: steps"] = wanted.recipe.training.steps
    report.add(f"{name}: parameters", manifest.parameters / 1e6, "million", better="lower")
    report.add(f"{name}: one pass", manifest.gflops, "GFLOPs", better="lower")

    def look(picture: Image) -> ScoredBoxes:
        return ScoredBoxes.of(predict_frame(net, AmodalSample(picture, ()), 0.0))

    found = _look_at(look, judged, frames)
    judgement = judge_boxes(judged, found, threshold=manifest.score_threshold)
    _add(report, name, judgement, split if name == "walt" else None)


def _measure_peers(report: Report, judged: BoxTruth, known: BoxTruth, frames: Mapping[int, Image]) -> None:
    if not DETECTOR.is_file():
        report.facts["peers"] = f"skipped: {DETECTOR.name} is not on this machine"
        return
    from walt_edge.runtimes.onnx_detector import OnnxDetector

    detector = OnnxDetector(DETECTOR)
    for name, tiles in (("yolox_nano, whole frame", False), ("yolox_nano, five tiles", True)):

        def look(picture: Image, *, tiles: bool = tiles) -> ScoredBoxes:
            return _look_by_tiles(detector, picture) if tiles else _people(detector, picture)

        threshold = _best_threshold(known, _look_at(look, known, frames))
        _add(report, name, judge_boxes(judged, _look_at(look, judged, frames), threshold=threshold), None)


def _look_at(look: Looks, truth: BoxTruth, frames: Mapping[int, Image]) -> dict[int, ScoredBoxes]:
    return {
        frame.frame: look(frames[frame.frame])
        for frame in tqdm(truth.frames, desc="looking", unit=" frames", disable=None)
    }


def _people(detector: Teacher, picture: Image) -> ScoredBoxes:
    seen = detector(picture)
    people = np.array([label is Label.PERSON for label in seen.labels], bool)
    return ScoredBoxes(seen.boxes_xyxy[people], seen.scores[people], (picture.shape[1], picture.shape[0]))


def _look_by_tiles(detector: Teacher, picture: Image) -> ScoredBoxes:
    """Four tiles beside each other and the whole frame; of boxes that cover the same, the surest."""
    size_wh = picture.shape[1], picture.shape[0]
    parts, moves = [_people(detector, picture)], [[0, 0, 0, 0]]
    for left in np.linspace(0, size_wh[0] - _TILE_WH[0], 4).astype(int).tolist():
        rows = slice(_TILES_ROW, _TILES_ROW + _TILE_WH[1])
        parts.append(_people(detector, np.ascontiguousarray(picture[rows, left : left + _TILE_WH[0]])))
        moves.append([left, _TILES_ROW, left, _TILES_ROW])
    boxes = np.concatenate([part.boxes_xyxy + np.array(move) for part, move in zip(parts, moves, strict=True)])
    scores = np.concatenate([part.scores for part in parts])
    ious, kept = iou_matrix(boxes, boxes), list[int]()
    for index in np.argsort(-scores, kind="stable").tolist():
        if (ious[index, kept] < _SAME_IOU).all():
            kept.append(index)
    return ScoredBoxes(boxes[kept], scores[kept], size_wh)


def _best_threshold(known: BoxTruth, found: Mapping[int, ScoredBoxes]) -> float:
    """The best F1 at IoU 0.5 on the drawn frames of the mined stretch."""

    def f1(threshold: float) -> float:
        judgement = judge_boxes(known, found, threshold=threshold)
        hits = judgement.predictions - judgement.false_boxes
        return 2 * hits / max(1, judgement.predictions + judgement.everybody.boxes)

    return max(_GRID, key=f1)


def _add(report: Report, name: str, judgement: BoxJudgement, split: Split | None) -> None:
    tqdm.write(f"{name}\n{box_table(judgement)}")
    targets = split.targets if split else None
    for what, row, target in _rows(judgement, targets):
        if row is not None:
            report.add(f"{name}: {what}, mean box IoU", row, "", target=target)
    most = targets[2] if targets else None
    report.add(f"{name}: false boxes", judgement.false_boxes, "boxes", target=most, better="lower")
    report.facts[f"{name}: threshold"] = round(judgement.threshold, 4)


def _rows(
    judgement: BoxJudgement, targets: tuple[float, dict[float, float], int] | None
) -> Iterator[tuple[str, float | None, float | None]]:
    full = judgement.full_view
    yield f"{full.boxes} people in full view", full.iou, targets[0] if targets else None
    for least, row in judgement.hidden.items():
        wanted = targets[1].get(least) if targets else None
        yield f"{row.boxes} people hidden by {least:.0%} or more", row.iou, wanted


if __name__ == "__main__":
    main()
