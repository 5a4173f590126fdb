"""How many number plates are covered, by their height, and what vehicles lose by that."""

from __future__ import annotations

import itertools
import string
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.report import Report
from benchmarks.signs import lettered
from benchmarks.streets import read_truth, true_mask
from walt_edge.camera import open_camera
from walt_edge.capture.stills import find_stills, read_still
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import PatchMask
from walt_edge.privacy.anonymiser import Anonymiser
from walt_edge.privacy.number_plates import WIDTH_MIN_PX, number_plates
from walt_edge.vision.sightings import Reason, Sighting
from walt_edge.watching.watcher import Watcher

ROAD = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "cameras" / "arterial" / "frames"
FILLED = 0.9
BINS_PX = (0.0, 6.0, 8.0, 10.0, 14.0, 20.0, 1e9)
WIDTHS = (0.14, 0.3)  # of a sign in one line, as parts of the vehicle's width
ANGLES_DEG = (-12.0, 12.0)
LOOK_EVERY = 10
_SIGNS = string.ascii_uppercase + string.digits
_WIDE_PX = (130, 190, 280, 400)  # vehicles are made as wide as these

Cut = tuple[NDArray[np.uint8], PatchMask]
"""A vehicle's picture and its mask in it."""


def measure(report: Report, street: Path, seed: int, *, quick: bool) -> None:
    """Adds the rows of both kinds of vehicles."""
    _measure(report, "rendered", _rendered(street), seed)
    if ROAD.is_dir():
        _measure(report, "a real road's", _driven(200 if quick else 499), seed)


def _measure(report: Report, name: str, vehicles: Iterator[Cut], seed: int) -> None:
    random = np.random.default_rng(seed)
    done: dict[int, list[bool]] = defaultdict(list)
    bare: list[float] = []
    for number, (bgr, patch) in enumerate(vehicles):
        picture, mask = _resized(bgr, patch, _WIDE_PX[number % len(_WIDE_PX)])
        sighting = Sighting(PatchMask.from_full(mask), Label.VEHICLE, 0.9, (0.0, 0.0))
        bare.append(float(_covered(picture, sighting)[mask].mean()))
        pasted = _pasted(picture, sighting.silhouette, random)
        if pasted is not None:
            signed, sign, height_px = pasted
            size = int(np.searchsorted(BINS_PX, height_px)) - 1
            done[size].append(float(_covered(signed, sighting)[sign].mean()) >= FILLED)
    for size in sorted(done):
        low, high = BINS_PX[size], BINS_PX[size + 1]
        what = f"{low:g}-{high:g} px" if high < 1e6 else f"{low:g} px and more"
        report.add(f"signs on {name} vehicles, {what} high (n = {len(done[size])})", 100 * np.mean(done[size]), "%")
    if bare:
        report.add(f"of {name} vehicles filled without one", 100 * np.mean(bare), "%", better="lower")


def _covered(bgr: NDArray[np.uint8], sighting: Sighting) -> NDArray[np.bool_]:
    filled = np.zeros(bgr.shape[:2], bool)
    for patch in number_plates(bgr, sighting):
        filled |= patch.full(*filled.shape)
    return filled


def _resized(bgr: NDArray[np.uint8], patch: PatchMask, width: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The vehicle that wide, in its surroundings."""
    scale = (width + 2) / patch.mask.shape[1]
    size = round(bgr.shape[1] * scale), round(bgr.shape[0] * scale)
    mask = cv2.resize(patch.full(*bgr.shape[:2]).astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
    return np.asarray(cv2.resize(bgr, size, interpolation=cv2.INTER_CUBIC), np.uint8), mask


def _pasted(
    bgr: NDArray[np.uint8], vehicle: PatchMask, random: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.bool_], float] | None:
    """A sign where signs are, as a camera shows it; None if it does not lie on the vehicle."""
    height, width = vehicle.mask.shape
    x = random.uniform(0.2, 0.8) * width
    rows = np.flatnonzero(vehicle.mask[:, int(x)])
    if not rows.size:
        return None
    centre = vehicle.x + x, vehicle.y + rows[-1] - random.uniform(0.1, 0.35) * height
    text = "".join(random.choice(list(_SIGNS), 7))
    two_lines = bool(random.random() < 0.25)
    sign_px = random.uniform(*WIDTHS) * width
    layer = bgr.copy()
    angle = random.uniform(*ANGLES_DEG)
    truth = lettered(
        layer, centre, sign_px, angle, text, two_lines=two_lines, squeeze=float(random.uniform(-0.15, 0.15))
    )
    if not truth.any() or float(vehicle.full(*truth.shape)[truth].mean()) < 0.98:
        return None
    # In the vehicle's light, soft as the picture is, with its noise, and compressed.
    light = random.uniform(0.45, 1.0)
    mixed = np.where(truth[..., None], cv2.GaussianBlur(layer.astype(np.float32) * light, (0, 0), 0.6), layer)
    mixed = np.clip(mixed + random.normal(0, 2.0, mixed.shape), 0, 255).astype(np.uint8)
    _, data = cv2.imencode(".jpg", mixed, [cv2.IMWRITE_JPEG_QUALITY, 80])
    high = sign_px * (0.3 if two_lines else 1 / 4.7)
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8), truth, high


def _rendered(street: Path) -> Iterator[Cut]:
    truth, stills = read_truth(street), find_stills(street / "images")
    for index in range(0, len(stills), LOOK_EVERY):
        bgr = read_still(stills[index])
        for annotation in truth[index]:
            if annotation["category_id"] == Label.VEHICLE and annotation["occlusion_fraction"] < 0.1:
                yield from _cut(bgr, _mask(annotation))


def _mask(annotation: dict[str, Any]) -> PatchMask:
    return true_mask(annotation, "visible_segmentation")


def _driven(frames: int) -> Iterator[Cut]:
    """Vehicles of the real road that seem whole."""
    watcher = Watcher(site="bench", device="bench", camera="road", anonymiser=Anonymiser(), delay_s=0)
    with open_camera(str(ROAD), fps=25) as camera:
        film = list(itertools.islice(iter(lambda: camera.read(10), None), frames))
    watcher.prepare(film)
    for frame in film:
        step = watcher.step(frame)
        if frame.index % LOOK_EVERY == 0:
            for one in step.sightings:
                doubtful = {Reason.MERGED, Reason.NEIGHBOUR, Reason.BORDER, Reason.FRAGMENT}.intersection(one.reasons)
                if one.label is not Label.PERSON and not doubtful:
                    yield from _cut(frame.bgr, one.silhouette)


def _cut(bgr: NDArray[np.uint8], vehicle: PatchMask) -> Iterator[Cut]:
    """The vehicle with a margin, if it is so large that enlarging it makes a picture and not a blur."""
    vehicle = vehicle.tight()
    height, width = vehicle.mask.shape
    if width < WIDTH_MIN_PX / 2 or width < 0.8 * height:
        return
    x0, y0 = max(0, vehicle.x - 8), max(0, vehicle.y - 8)
    x1, y1 = min(bgr.shape[1], vehicle.x + width + 8), min(bgr.shape[0], vehicle.y + height + 8)
    yield bgr[y0:y1, x0:x1].copy(), PatchMask(vehicle.x - x0, vehicle.y - y0, vehicle.mask)
