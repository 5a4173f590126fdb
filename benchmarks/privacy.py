"""How many heads and number plates the anonymiser covers, by their size, and how long it takes.

    python -m benchmarks.privacy --out docs/benchmarks/privacy.json

The promise is that no pixel reaches a disk or a wire that the anonymiser has not passed; this is how much it finds.
A head counts as filled when at least 95% of its visible pixels are, a number plate when at least 90% are.

`street`: people of a rendered street, whose heads are known exactly. `outlines given`: the silhouettes are the
rendered ones; `as it runs`: the watcher's own, after it has learned the plate. People who stand in one place are
counted by themselves: who stood there before the plate was learned is in it, has no silhouette, and is found by
their swaying alone. `plates`: one is sent every ten seconds; a head of somebody who stands at that time is shown
when a tenth of its visible pixels are not filled, and are like the head rather than like the empty ground.

`composited`: walkers with faces over a real ground (`benchmarks.composited`), in clothes that the ground hides,
stepping out from behind posts. `no outline` are the moments in which the eyes have none of them: before the first
one, and while it is lost. `alone`: each frame by itself, without the hold-over.

`signs`: lettered signs of known place pasted aslant on the lower parts of vehicles: rendered ones, and those of a
real road where it lies beside the checkout.

`with CenterFace`: where `walt-edge models pull centerface` was run.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks import privacy_cost, privacy_signs, privacy_walkers
from benchmarks.privacy_recorder import Given, Recorder
from benchmarks.report import Report, arguments
from benchmarks.streets import read_truth, render, true_mask
from walt_edge.camera import open_camera
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import Mask, PatchMask, Rle, decode_rle
from walt_edge.contract.messages import PlateHeader
from walt_edge.overview import decode_image
from walt_edge.privacy.anonymiser import FILL_BGR, Anonymiser, FaceDetector, SealedEnvelope
from walt_edge.privacy.faces import find_faces
from walt_edge.vision.sightings import Sighting
from walt_edge.watching.watcher import Watcher, WatchSettings

FILLED = 0.95
BINS_PX = (0.0, 6.0, 9.0, 13.0, 1e9)
LOOK_EVERY = 5
SHOWN = 0.1  # of a head's visible pixels: a rim is nobody's face
GROUND_LEVEL = 20  # grey levels: what is nearer to the empty ground is that
FILL_LEVEL = 12  # grey levels: what JPEG does to the fill colour
PLATE_EVERY_S = 10.0
_EARS, _SHOULDERS = (3, 4), (5, 6)


@dataclass(frozen=True, slots=True)
class Head:
    """The visible pixels of a rendered person's head, its diameter, and whether the person walks all the time."""

    visible: PatchMask
    diameter_px: float
    walks: bool


@dataclass(frozen=True, slots=True)
class StandingHead:
    """Where a plate may show a standing head: a window, the head in it, the plate's pixels, and the frame's."""

    window: tuple[slice, slice]
    mask: Mask
    sent: NDArray[np.int16]
    seen: NDArray[np.int16]

    def shown(self, ground: NDArray[np.int16]) -> bool:
        """Whether the plate shows it; the ground is (H, W, 3) and negative where it was never seen."""
        behind = ground[self.window]
        from_head, from_ground = (np.abs(self.sent - other).max(axis=2) for other in (self.seen, behind))
        own = (from_head < from_ground) & (from_ground > GROUND_LEVEL)
        own &= np.abs(self.sent - np.array(FILL_BGR)).max(axis=2) > FILL_LEVEL
        return bool(own[self.mask].mean() >= SHOWN)


class Plates:
    """The heads in the plates sent, and the empty ground to tell them from."""

    def __init__(self) -> None:
        self._heads: list[StandingHead] = []
        self._ground: NDArray[np.int16] = np.zeros(0, np.int16)
        self._filled: list[float] = []

    def see(self, bgr: NDArray[np.uint8], annotations: list[dict[str, Any]]) -> None:
        """Takes the ground from a frame, wherever nothing movable is near."""
        if not self._ground.size:
            self._ground = np.full(bgr.shape, -1000, np.int16)
        near = cv2.dilate(_given(bgr, annotations).moving.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
        self._ground[~near] = bgr[~near]

    def take(
        self, sealed: Sequence[SealedEnvelope], bgr: NDArray[np.uint8], annotations: list[dict[str, Any]]
    ) -> None:
        """Notes the heads of who stands in a frame, in the plates sent with it."""
        for one in sealed:
            if not isinstance(one.envelope.header, PlateHeader):
                continue
            picture = decode_image(one).astype(np.int16)
            self._filled.append(float(1 - decode_rle(one.envelope.header.known).mean()))
            for head in _heads(annotations, bgr.shape[:2]):
                if not head.walks:
                    x0, y0, x1, y1 = head.visible.box_xyxy
                    window = (slice(y0, y1), slice(x0, x1))
                    seen = bgr[window].astype(np.int16)
                    self._heads.append(StandingHead(window, head.visible.mask, picture[window], seen))

    def report(self, report: Report) -> None:
        """Adds the rows."""
        shown = sum(head.shown(self._ground) for head in self._heads)
        what = f"plates: heads shown of people who stand (n = {len(self._heads)} in {len(self._filled)} plates)"
        report.add(what, shown, target=0, better="lower")
        report.add("plates: unknown or filled", 100 * np.mean(self._filled), "%", better="lower")


class Tally:
    """Heads by way of working and size."""

    def __init__(self) -> None:
        self._walking: dict[tuple[str, int], list[bool]] = defaultdict(list)
        self._standing: dict[str, list[bool]] = defaultdict(list)
        self._ms: dict[str, list[float]] = defaultdict(list)
        self._share: dict[str, list[float]] = defaultdict(list)

    def take(self, way: str, anonymiser: Anonymiser, given: Given, heads: list[Head]) -> None:
        """Anonymises one frame and counts its heads."""
        began = time.perf_counter()
        image = given.anonymised(anonymiser)
        self._ms[way].append(1e3 * (time.perf_counter() - began))
        filled = image.filled
        self._share[way].append(float(filled.mean()))
        for head in heads:
            x0, y0, x1, y1 = head.visible.box_xyxy
            done = bool(filled[y0:y1, x0:x1][head.visible.mask].mean() >= FILLED)
            size = int(np.searchsorted(BINS_PX, head.diameter_px)) - 1
            (self._walking[way, size] if head.walks else self._standing[way]).append(done)

    def report(self, report: Report) -> None:
        """Adds the rows of every way."""
        for way, times in self._ms.items():
            for size in range(len(BINS_PX) - 1):
                _add_share(report, f"{way}: heads of {_range(size)}, walking", self._walking[way, size])
            _add_share(report, f"{way}: heads of any size, standing", self._standing[way])
            report.add(f"{way}: of the picture filled", 100 * np.mean(self._share[way]), "%", better="lower")
            report.add(f"{way}: a frame, median", np.median(times), "ms", better="lower")


def _add_share(report: Report, what: str, done: list[bool]) -> None:
    if done:
        report.add(f"{what} (n = {len(done)})", 100 * np.mean(done), "%")


def _range(size: int) -> str:
    low, high = BINS_PX[size], BINS_PX[size + 1]
    return f"{low:g}-{high:g} px" if high < 1e6 else f"{low:g} px and more"


def main() -> None:
    """Renders, measures, prints a table, writes JSON."""
    parser = arguments(__doc__)
    parser.add_argument("--preset", default="street", help="of the rendered street: street or busy")
    parser.add_argument("--street", type=Path, help="a folder that walt-train rwalt wrote (default: renders one)")
    args = parser.parse_args()
    frames = 250 if args.quick else 600
    report = Report("privacy", {"seed": args.seed, "preset": args.preset, "frames": frames})
    faces = find_faces()
    privacy_cost.measure(report, args.seed)
    privacy_walkers.measure(report, args.seed, faces, quick=args.quick)
    with tempfile.TemporaryDirectory() as scratch:
        street = args.street or render(Path(scratch), args.seed, args.preset, frames)
        privacy_signs.measure(report, street, args.seed, quick=args.quick)
        for measured in _measure(street, faces):
            measured.report(report)
    report.finish(args.out)


def _measure(street: Path, faces: FaceDetector | None) -> tuple[Tally, Plates]:
    tally, plates, recorder = Tally(), Plates(), Recorder()
    settings = WatchSettings(publish_s=PLATE_EVERY_S)
    watcher = Watcher(site="bench", device="walt-bench", camera="street", anonymiser=recorder, settings=settings)
    truth = read_truth(street)
    with open_camera(str(street), fps=10) as camera:
        while (frame := camera.read(timeout_s=1)) is not None:
            people = truth[frame.index]
            step = watcher.step(frame)
            plates.take(step.sealed, frame.bgr, people)
            if frame.index % LOOK_EVERY == 0:
                plates.see(frame.bgr, people)
            if step.frame is not None and step.frame.index % LOOK_EVERY == 0:
                _look(tally, recorder.given, truth[step.frame.index], faces)
            last = frame.bgr, people
    plates.take(watcher.finish(), *last)
    return tally, plates


def _look(tally: Tally, given: Given, people: list[dict[str, Any]], faces: FaceDetector | None) -> None:
    """Counts one frame's heads in all ways."""
    bgr = given.bgr
    heads = list(_heads(people, bgr.shape[:2]))
    for way, content in {"as it runs": given, "outlines given": _given(bgr, people)}.items():
        tally.take(way, Anonymiser(), content, heads)
        if faces is not None:
            alone = dataclasses.replace(content, also=None)
            tally.take(f"{way}, with CenterFace", Anonymiser(faces), alone, heads)


def _visible(annotation: dict[str, Any]) -> PatchMask:
    return true_mask(annotation, "visible_segmentation")


def _given(bgr: NDArray[np.uint8], annotations: list[dict[str, Any]]) -> Given:
    """What perfect eyes would hand to the anonymiser."""
    moving = np.zeros(bgr.shape[:2], dtype=bool)
    sightings = []
    for annotation in annotations:
        silhouette = _visible(annotation)
        if silhouette.area:
            sightings.append(Sighting(silhouette, Label(annotation["category_id"]), 1.0, (0.0, 0.0)))
            moving |= silhouette.full(*bgr.shape[:2])
    return Given(bgr, sightings, moving, ())


def _heads(annotations: list[dict[str, Any]], shape: tuple[int, ...]) -> Iterator[Head]:
    """Heads of which at least half is visible: discs around the ears' middle, half-way to the shoulders."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    for annotation in annotations:
        if annotation["category_id"] != Label.PERSON:
            continue
        points = np.array(annotation["keypoints"], dtype=float).reshape(-1, 3)[:, :2]
        centre, neck = points[list(_EARS)].mean(axis=0), points[list(_SHOULDERS)].mean(axis=0)
        radius = float(np.hypot(*(neck - centre))) / 2
        disc = (x + 0.5 - centre[0]) ** 2 + (y + 0.5 - centre[1]) ** 2 <= radius**2
        whole = int((disc & decode_rle(msgspec.convert(annotation["segmentation"], Rle))).sum())
        seen = disc & _visible(annotation).full(shape[0], shape[1])
        if whole and seen.sum() >= whole / 2:
            yield Head(PatchMask.from_full(seen), 2 * radius, annotation["stationary"] is None)


if __name__ == "__main__":
    main()
