"""How right SWALT's truth is, on rendered streets whose truth is exact.

    python -m benchmarks.swalt --out docs/benchmarks/swalt.json

Objects stand at a red light while others pass before them. Once the timeline is made of exact visible masks, once of
what motion sees (or a bundle: `--detector`), and each standing object that SWALT is sure of is compared with the
exact amodal mask of its class, in all frames of its stay. A truth may be small but has to be right, so how much of
what exact masks give was found stands beside it. The streets are those nobody tuned on; `--seeds` takes others.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.report import Report, arguments
from walt_edge.contract.instances import AmodalInstances
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import Mask, PatchMask
from walt_edge.vision.plate import Image
from walt_train.data import open_samples
from walt_train.data.layers import sample_layers
from walt_train.metrics.bootstrap import mean_intervals
from walt_train.metrics.matching import Truth
from walt_train.metrics.swalt import StillObject, SwaltSettings, Timeline, still_objects
from walt_train.metrics.swalt_frames import hidden_frames
from walt_train.metrics.swalt_refine import passers, refined
from walt_train.metrics.swalt_static import learned_static
from walt_train.metrics.swalt_watch import MOTION, MOTION_STEADY, learned_ground, seen_by_motion
from walt_train.rwalt.dataset import Output, write_dataset
from walt_train.rwalt.street import StreetConfig

FPS = 1.0
JUDGING = (9005, 9006, 9007, 9008, 9009)
"""Looked at once, at the end; 9000 to 9001 were seen before the last change."""
SAME_IOU = 0.8
PARKED = 0.95
"""Who stands for this part of the timeline or more is ground to eyes that see motion."""


@dataclass(frozen=True, slots=True, eq=False)
class Watched:
    """A street and all that is known of it.

    Attributes:
        pictures: As JPEG files.
        truths: Of each frame.
        visible: Exact visible masks as a perfect detector gives them.
        static: (H, W) exact poles and trees.
    """

    pictures: list[NDArray[np.uint8]]
    truths: list[Truth]
    visible: list[AmodalInstances]
    static: Mask

    def read(self, places: Sequence[int]) -> Iterator[Image]:
        """The pictures of some frames."""
        for place in places:
            yield np.asarray(cv2.imdecode(self.pictures[place], cv2.IMREAD_COLOR), np.uint8)


@dataclass(frozen=True, slots=True)
class Judged:
    """One standing object against the exact truth.

    Attributes:
        label: What it was taken for.
        iou: Mean over the frames of its stay, 0 where nothing of that class stands there.
        cases: Frames in which something passes before it.
    """

    label: Label
    iou: float
    cases: int


@dataclass(slots=True)
class Outcome:
    """What one kind of eyes gave on all streets."""

    judged: list[Judged] = field(default_factory=list)
    found: int = 0
    possible: int = 0


def main() -> None:
    """Renders, fuses, compares, prints a table, writes JSON."""
    parser = arguments(__doc__)
    parser.add_argument(
        "--seeds", type=int, nargs="+", metavar="S", help="of the streets (9005 to 9009; two if --quick)"
    )
    parser.add_argument("--frames", type=int, metavar="N", help="of each, one a second (500; 150 if --quick)")
    parser.add_argument("--detector", type=Path, metavar="BUNDLE", help="judges what this sees as well")
    parser.add_argument("--verbose", action="store_true", help="prints every object")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    seeds = args.seeds or (JUDGING[:2] if args.quick else JUDGING)
    frames = args.frames or (150 if args.quick else 500)
    report = Report("swalt", {"seeds": " ".join(map(str, seeds)), "frames": frames, "fps": FPS, "size": "640x360"})
    outcomes: dict[str, Outcome] = {}
    for seed in tqdm(seeds, unit="street", disable=None):
        _street(args, watched(seed, frames), outcomes)
    _report(report, outcomes)
    report.finish(args.out)


def watched(seed: int, frames: int) -> Watched:
    """Renders a street."""
    config = StreetConfig(seed=seed, frames=frames, fps=FPS)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for _ in tqdm(
            write_dataset(config, Output(folder, "jpg"), workers=1), total=frames, leave=False, disable=None
        ):
            pass
        files = sorted((folder / "images").iterdir())
        street = Watched(
            [np.frombuffer(path.read_bytes(), np.uint8) for path in files], [], [], np.zeros((360, 640), bool)
        )
        samples = open_samples(folder, split="all")
        for index in range(len(samples)):
            sample = samples.sample(0, index)
            street.truths.append(Truth.of(sample))
            layers = zip(sample.objects, sample_layers(sample), strict=True)
            street.visible.append(perfect([(one.label, layer.visible) for one, layer in layers], samples.frame_wh))
            for _, mask in sample.static:
                np.logical_or(street.static, mask.full(*street.static.shape), out=street.static)
    return street


def perfect(things: Sequence[tuple[Label, PatchMask]], frame_wh: tuple[int, int]) -> AmodalInstances:
    """Exact visible masks, as a detector gives its own."""
    shown = [(label, mask) for label, mask in things if mask.area]
    labels = [int(label) for label, _ in shown]
    return AmodalInstances.of_masks(frame_wh, labels, [1.0] * len(shown), [mask for _, mask in shown])


# -- one street -------------------------------------------------------------------------------------------


def _street(args: argparse.Namespace, street: Watched, outcomes: dict[str, Outcome]) -> None:
    exact = timeline(street.visible)
    known = still_objects(exact, SwaltSettings(), static=street.static)
    _note(args, outcomes, "exact visible masks, static things given", street, exact, known, known)
    learned = still_objects(exact, SwaltSettings(), static=learned_static(exact))
    _note(args, outcomes, "exact visible masks, static things learned", street, exact, learned, known)
    count = len(street.pictures)
    eyes = {MOTION: seen_by_motion(street.read, count, FPS)}
    if args.detector is not None:
        eyes[args.detector.name] = seen_by_bundle(args.detector, street)
    ground = learned_ground(street.read, count)
    for name, seen in eyes.items():
        line = timeline(seen)
        settings = SwaltSettings(steady=MOTION_STEADY) if name == MOTION else SwaltSettings()
        fused = still_objects(line, settings, static=learned_static(line))
        _note(args, outcomes, f"{name}, not refined", street, line, fused, known)
        portraits = refined(fused, street.read, ground)
        before = passers(portraits, line, street.read)
        _note(args, outcomes, name, street, line, [one.thing for one in portraits], known, before)


def seen_by_bundle(path: Path, street: Watched) -> list[AmodalInstances]:
    """What a bundle's model sees."""
    from walt_edge.detector import Detector  # the runtime comes with an extra of its own

    detector = Detector.load(path)
    return [detector.predict(bgr) for bgr in street.read(range(len(street.pictures)))]


def timeline(seen: Sequence[AmodalInstances]) -> Timeline:
    """At the streets' pace."""
    return Timeline.of(seen, [round(1e6 * index / FPS) for index in range(len(seen))])


def _note(
    args: argparse.Namespace,
    outcomes: dict[str, Outcome],
    name: str,
    street: Watched,
    line: Timeline,
    objects: Sequence[StillObject],
    known: Sequence[StillObject],
    before: Sequence[PatchMask | None] | None = None,
) -> None:
    """Judges what one kind of eyes gave on one street."""
    outcome = outcomes.setdefault(name, Outcome())
    frames = hidden_frames(line, objects, SwaltSettings(), before=before)
    shown = [thing.track_id for frame in frames for thing in frame.objects]
    for place, thing in enumerate(objects):
        outcome.judged.append(judge(thing, line, street.truths, shown.count(place)))
        if args.verbose:
            tqdm.write(f"    {name}: {thing.amodal.box_xyxy} {outcome.judged[-1]}")
    came = [thing for thing in known if _stay_us(thing) < PARKED * line.times_us[-1]]
    outcome.possible += len(came)
    outcome.found += sum(any(_same(one, other) for other in objects) for one in came)


def judge(thing: StillObject, line: Timeline, truths: Sequence[Truth], cases: int) -> Judged:
    """Compares an object with the exact masks of its class, in all frames of its stay."""
    begin, end = np.searchsorted(line.times_us, thing.interval_us)
    ious = []
    for truth in truths[begin : end + 1]:
        own = [mask for mask, label in zip(truth.amodal, truth.labels, strict=True) if label == thing.label]
        ious.append(max((thing.amodal.iou(mask) for mask in own), default=0.0))
    return Judged(thing.label, float(np.mean(ious)), cases)


def _stay_us(thing: StillObject) -> int:
    return thing.interval_us[1] - thing.interval_us[0]


def _same(one: StillObject, other: StillObject) -> bool:
    meet = one.interval_us[0] <= other.interval_us[1] and other.interval_us[0] <= one.interval_us[1]
    return meet and one.label == other.label and one.amodal.iou(other.amodal) >= SAME_IOU


# -- figures ----------------------------------------------------------------------------------------------


def _report(report: Report, outcomes: Mapping[str, Outcome]) -> None:
    targets = {"exact visible masks, static things given": 0.99, MOTION: 0.90}
    for name, outcome in outcomes.items():
        ious = np.array([one.iou for one in outcome.judged])
        report.add(f"{name}: standing objects", len(ious))
        if len(ious):
            report.add(f"{name}: IoU with exact truth, mean over objects", ious.mean(), target=targets.get(name))
            for low, high in mean_intervals(ious[:, None], [str(place) for place in range(len(ious))], 0) or ():
                report.add(f"{name}: the same, lower end of 95% by object", low)
                report.add(f"{name}: the same, upper end", high)
            report.add(f"{name}: the worst object", ious.min())
            _by_label(report, name, outcome.judged)
        cases = np.array([one.cases for one in outcome.judged], float)
        report.add(f"{name}: frames with something before an object", cases.sum())
        if cases.sum():
            report.add(f"{name}: IoU, mean over these", float(ious @ cases / cases.sum()))
        report.add(f"{name}: found of {outcome.possible} that came or left", outcome.found / max(1, outcome.possible))


def _by_label(report: Report, name: str, judged: Sequence[Judged]) -> None:
    for label in Label:
        own = [one.iou for one in judged if one.label == label]
        if own:
            report.add(f"{name}: {label.title}s, mean over {len(own)}", np.mean(own))


if __name__ == "__main__":
    main()
