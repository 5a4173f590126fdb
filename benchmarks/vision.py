"""How good and how fast the eyes are that need no weights.

    python -m benchmarks.vision --out docs/benchmarks/vision.json

Quality on rendered streets, whose amodal truth is exact: of the crops that were chosen as seen whole, how many show
an object that is (occlusion fraction at most 2%, area at least 1,024 px, inside the frame), and how well their
silhouettes cover the amodal truth. Speed on the same frames, one core, by stage, against what one pass of cv2.absdiff
over the frame costs (memory-bound: nothing that looks at every pixel can be faster).
"""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.report import Report, arguments
from benchmarks.streets import read_truth, render, true_mask
from walt_edge.camera import Frame, open_camera
from walt_edge.contract.masks import PatchMask, decode_rle
from walt_edge.contract.messages import CropHeader
from walt_edge.privacy.anonymiser import Anonymiser, SealedEnvelope
from walt_edge.vision.motion import find_motion
from walt_edge.vision.plate import Plate, SampleBuffer
from walt_edge.vision.settings import WatchSettings
from walt_edge.vision.silhouettes import find_silhouettes
from walt_edge.watching.watcher import Watcher

FPS = 10.0
WHOLE_FRACTION = 0.02
AREA_MIN_PX = WatchSettings().area_min_px
STREETS = ((51, "street"), (52, "street"), (53, "busy"))  # none of them was looked at while the eyes were made


@dataclass(frozen=True, slots=True)
class Judged:
    """A chosen crop against the truth.

    Attributes:
        whole: The object was seen whole.
        iou: Of the silhouette and the amodal mask; 0 where there is no object.
        right_label: The class is right.
        track: The true track, or -1.
        note: What it was, for --verbose.
    """

    whole: bool
    iou: float
    right_label: bool
    track: int
    note: str = ""


def main() -> None:
    """Renders, measures, prints a table, writes JSON."""
    parser = arguments(__doc__)
    parser.add_argument(
        "--streets", type=Path, nargs="*", help="folders of walt-train rwalt (default: renders three)"
    )
    parser.add_argument("--frames", type=int, help="of each street (900; 250 with --quick)")
    parser.add_argument("--verbose", action="store_true", help="print every crop that is wrong")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    count = args.frames or (250 if args.quick else 900)
    report = Report("vision", {"frames": count, "size": "640x360"})
    with tempfile.TemporaryDirectory() as scratch:
        folders = args.streets or [
            render(Path(scratch) / f"street-{seed}-{preset}", seed, preset, count) for seed, preset in STREETS
        ]
        judged: list[Judged] = []
        for folder in folders:
            found, possible, step_ms = mine(folder)
            _quality(report, folder.name, found, possible, verbose=args.verbose)
            report.add(
                f"{folder.name}: a frame through the whole chain, median",
                np.median(step_ms),
                "ms",
                target=35,
                better="lower",
            )
            judged += found
        if len(folders) > 1:
            _quality(report, "all streets", judged, None, verbose=False)
        _stages(report, folders[0])
    report.finish(args.out)


def mine(street: Path) -> tuple[list[Judged], set[int], list[float]]:
    """Watches a street as a live camera would be.

    Returns:
        The chosen crops against the truth; the true tracks that were seen whole while moving; milliseconds a frame.
    """
    truth = read_truth(street)
    watcher = Watcher(site="bench", device="bench", camera="street", anonymiser=Anonymiser())
    step_ms: list[float] = []
    sealed: list[SealedEnvelope] = []
    began = -1
    for frame in frames(street):
        start = time.perf_counter()
        step = watcher.step(frame)
        if step.frame is None:
            began = -1
        else:
            began = step.frame.index if began < 0 else began
            step_ms.append(1e3 * (time.perf_counter() - start))
        sealed += step.sealed
    sealed += watcher.finish()
    headers = [one.envelope.header for one in sealed if isinstance(one.envelope.header, CropHeader)]
    judged = [judge(header, truth[round(header.captured.media_time_s * FPS)]) for header in headers]
    return judged, _possible(truth, max(0, began)), step_ms


def frames(street: Path) -> Iterator[Frame]:
    """The street's frames in order."""
    with open_camera(str(street / "images"), fps=FPS) as camera:
        while (frame := camera.read(timeout_s=10)) is not None:
            yield frame


def judge(header: CropHeader, annotations: list[dict[str, Any]]) -> Judged:
    """Finds the true object that a crop's mask fits best."""
    own = PatchMask(header.crop_xy[0], header.crop_xy[1], decode_rle(header.mask))
    best, best_iou = None, 0.0
    for annotation in annotations:
        if not _boxes_touch(annotation["bbox"], header.box_xyxy):
            continue
        amodal = true_mask(annotation)
        iou = own.iou(amodal)
        if iou > best_iou:
            best, best_iou = annotation, iou
    if best is None:
        return Judged(False, 0.0, False, -1, f"{_place(header)} is nothing")
    whole = _is_whole(best) and best_iou >= 0.5
    label = best["category_id"] == int(header.label)
    note = f"{_place(header)} occluded {best['occlusion_fraction']:.3f} area {best['area']} iou {best_iou:.2f}"
    return Judged(whole, best_iou, label, int(best["track_id"]), note)


def _place(header: CropHeader) -> str:
    box = ",".join(f"{value:.0f}" for value in header.box_xyxy)
    return f"frame {round(header.captured.media_time_s * FPS)} {header.label.title} {header.track_id} at {box}"


def _is_whole(annotation: dict[str, Any]) -> bool:
    return (
        annotation["occlusion_fraction"] <= WHOLE_FRACTION
        and annotation["area"] >= AREA_MIN_PX
        and not annotation["truncated"]
    )


def _boxes_touch(xywh: list[float], xyxy: tuple[float, ...]) -> bool:
    x, y, width, height = xywh
    return x < xyxy[2] and y < xyxy[3] and x + width > xyxy[0] and y + height > xyxy[1]


def _possible(truth: dict[int, list[dict[str, Any]]], began: int) -> set[int]:
    """True tracks that moved and were whole in at least five frames."""
    whole: dict[int, int] = defaultdict(int)
    for index, rows in truth.items():
        for annotation in rows:
            if index >= began and not annotation["stationary"] and _is_whole(annotation):
                whole[int(annotation["track_id"])] += 1
    return {track for track, count in whole.items() if count >= 5}


def _quality(report: Report, name: str, judged: list[Judged], possible: set[int] | None, *, verbose: bool) -> None:
    count = max(1, len(judged))
    whole = sum(j.whole for j in judged) / count
    ious = sum(j.iou for j in judged) / count
    right = sum(j.right_label for j in judged) / count
    report.add(f"{name}: precision of 'seen whole' (of {len(judged)})", whole, target=0.97)
    report.add(f"{name}: IoU with the amodal truth, mean", ious, target=0.85)
    report.add(f"{name}: right class", right)
    if possible is not None:
        got = {j.track for j in judged} & possible
        share = len(got) / max(1, len(possible))
        report.add(f"{name}: objects seen whole that gave a crop (of {len(possible)})", share)
    if verbose:
        for one in judged:
            if not one.whole or not one.right_label or one.iou < 0.75:
                print(name, one)


def _stages(report: Report, street: Path) -> None:
    settings = WatchSettings()
    pictures = [frame.bgr for frame in frames(street)][::8]
    buffer = SampleBuffer(0.0, settings.plate_samples)
    for index, picture in enumerate(pictures):
        buffer.offer(picture, float(index))
    plate = Plate.learn(buffer, settings)
    motions = [find_motion(picture, plate, settings) for picture in pictures]
    outlines = [find_silhouettes(motion, settings) for motion in motions]
    report.add("moving objects a frame, mean", np.mean([len(o) for o in outlines]))
    limit = _median_ms(lambda i: cv2.absdiff(pictures[i], plate.bgr), len(pictures))
    report.add("one pass over a frame (cv2.absdiff), median: the floor", limit, "ms", better="lower")
    stages: dict[str, Callable[[int], object]] = {
        "difference and shadows": lambda i: find_motion(pictures[i], plate, settings),
        "silhouettes": lambda i: find_silhouettes(motions[i], settings),
    }
    for name, stage in stages.items():
        report.add(f"stage {name}, median", _median_ms(stage, len(pictures)), "ms", better="lower")


def _median_ms(call: Callable[[int], object], count: int) -> float:
    times = []
    for index in range(count):
        start = time.perf_counter()
        call(index)
        times.append(1e3 * (time.perf_counter() - start))
    return float(np.median(times))


if __name__ == "__main__":
    main()
