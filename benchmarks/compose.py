"""How long a composite takes, and how near that is to moving its bytes.

    python -m benchmarks.compose --out docs/benchmarks/compose.json

The work that the released code takes 0.73 s for on one core (a 960x540 picture with 30 objects: blending them and
making every object's amodal, visible, occluder and occluded masks), from drawn clip art that is decoded already.
Beside it, in the same run: a plain compositor that blends and masks whole frames in float32, as one would write it
first; and the limit: the bytes that any such compositor reads and writes, at this machine's copying speed. Processor
time of one core, so that what else runs on the machine counts less.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.report import Report, arguments
from walt_edge.contract.labels import Label
from walt_train.clipart.compose import compose
from walt_train.clipart.material import Material
from walt_train.clipart.pieces import Backdrop, Cutout, soft_edge
from walt_train.clipart.settings import ComposeSettings
from walt_train.data.layers import encode_patch, sample_layers
from walt_train.data.sample import AmodalSample

FRAME_WH = (960, 540)
OBJECTS = 30
RELEASED_MS = 730.0
FASTER = 100


def main() -> None:
    """Measures, prints a table, writes JSON."""
    args = arguments(__doc__).parse_args()
    cv2.setNumThreads(1)
    count = 100 if args.quick else 500
    report = Report("compose", {"seed": args.seed, "composites": count, "size": "960x540", "objects": OBJECTS})
    material = draw_material(args.seed)
    settings = ComposeSettings(order="random", placement="original", objects=(OBJECTS, OBJECTS))
    samples = [compose(material, settings, args.seed, 0, index) for index in range(20)]
    report.add("objects in a composite, mean", np.mean([len(sample.objects) for sample in samples]), "", target=25)
    ours = _median_ms(lambda i: sample_layers(compose(material, settings, args.seed, 0, i)), count)
    report.add("a composite with all its layers, median", ours, "ms", target=RELEASED_MS / FASTER, better="lower")
    pixels = _median_ms(lambda i: compose(material, settings, args.seed, 0, i), count)
    report.add("of that: picture and amodal masks", pixels, "ms", better="lower")
    trained = ComposeSettings(objects=(OBJECTS, OBJECTS))
    moved = _median_ms(lambda i: sample_layers(compose(material, trained, args.seed, 0, i)), count)
    report.add("in depth order, half of the objects moved and scaled", moved, "ms", better="lower")
    plain = _median_ms(lambda i: plain_composite(samples[i % 20], material), max(5, count // 20))
    report.add("plain compositor: whole frames in float32", plain, "ms", better="lower")
    report.add("times faster than the plain one", plain / ours, "", better="higher")
    encoded = _median_ms(lambda i: _encode(samples[i % 20]), max(5, count // 10))
    report.add("four run-length encoded masks an object, for files only", encoded, "ms", better="lower")
    limit = np.mean([_bytes_moved(sample) for sample in samples]) / _copy_bytes_per_ms()
    report.add("limit: its bytes at copying speed", limit, "ms", better="lower")
    report.add("share of the limit", limit / ours, "", better="higher")
    report.finish(args.out)


def draw_material(seed: int) -> Material:
    """Ellipses of random pixels on a random plate: 300 objects of the sizes that a street shows."""
    rng = np.random.default_rng(seed)
    cutouts = []
    for number in range(300):
        height = int(rng.integers(40, 140))
        width = height * 2 // 5 if number % 2 else height * 8 // 5
        left, top = int(rng.integers(1, FRAME_WH[0] - width)), int(rng.integers(1, FRAME_WH[1] - height))
        mask = np.zeros((height + 2, width + 2), np.uint8)
        cv2.ellipse(mask, (width // 2 + 1, height // 2 + 1), (width // 2 - 1, height // 2 - 1), 0, 0, 360, 1, -1)
        cutouts.append(
            Cutout(
                image_bgr=rng.integers(0, 256, (*mask.shape, 3), dtype=np.uint8),
                alpha=soft_edge(mask.astype(bool)),
                box_xyxy=(left, top, left + width, top + height),
                xy=(left - 1, top - 1),
                label=Label.PERSON if number % 2 else Label.VEHICLE,
                object_id=number + 1,
                plate_id="",
                hour=12,
                seen_us=number,
            )
        )
    plate = rng.integers(0, 256, (*FRAME_WH[::-1], 3), dtype=np.uint8)
    return Material("bench", FRAME_WH, tuple(cutouts), (Backdrop(plate, "", 12, 0),))


def plain_composite(sample: AmodalSample, material: Material) -> tuple[NDArray[np.uint8], list[NDArray[np.bool_]]]:
    """The same objects in the same order: alpha over the whole frame in float32, then every layer as a whole mask."""
    height, width = FRAME_WH[::-1]
    canvas = material.backdrops[0].image_bgr.astype(np.float32)
    by_object = {cutout.object_id: cutout for cutout in material.cutouts}
    amodal = []
    for thing in reversed(sample.objects):
        cutout = by_object[thing.track_id]
        x, y = cutout.xy
        h, w = cutout.alpha.shape
        alpha, colour = np.zeros((height, width, 1), np.float32), np.zeros((height, width, 3), np.float32)
        alpha[y : y + h, x : x + w, 0] = cutout.alpha / np.float32(255)
        colour[y : y + h, x : x + w] = cutout.image_bgr
        canvas = canvas * (1 - alpha) + colour * alpha
        amodal.append(alpha[..., 0] >= 0.5)
    layers = []
    for place, mask in enumerate(amodal):
        nearer = np.any([np.zeros_like(mask), *amodal[place + 1 :]], axis=0)
        farther = np.any([np.zeros_like(mask), *amodal[:place]], axis=0)
        layers += [mask & ~nearer, nearer & mask, farther & mask]
    return np.rint(canvas).astype(np.uint8), layers


def _encode(sample: AmodalSample) -> None:
    for layers in sample_layers(sample):
        for patch in (layers.amodal, layers.visible, layers.occluder, layers.occluded):
            encode_patch(patch, FRAME_WH)


def _bytes_moved(sample: AmodalSample) -> float:
    """Read and written at least once: the plate and the result; of each object its colours, its alpha, what is under
    it and what comes of it; and its four masks.
    """  # noqa: D205
    frame = 2 * 3 * FRAME_WH[0] * FRAME_WH[1]
    patches = sum(thing.amodal.mask.size for thing in sample.objects)
    return frame + patches * (3 + 1 + 3 + 3) + patches * 4


def _copy_bytes_per_ms() -> float:
    """Bytes read and written a millisecond by copying an array that no cache holds."""
    source = np.ones(64 << 20, dtype=np.uint8)
    target = np.empty_like(source)
    return 2 * source.size / _median_ms(lambda _: np.copyto(target, source), 9)


def _median_ms(work: Callable[[int], object], count: int) -> float:
    times = []
    for index in range(count):
        start = time.thread_time()
        work(index)
        times.append(1e3 * (time.thread_time() - start))
    return float(np.median(times))


if __name__ == "__main__":
    main()
