"""How long a composite takes, and how near that is to moving its bytes.

    python -m benchmarks.compose --out docs/benchmarks/compose.json

The work that the released code does 1.4 times a second on one core, to disk: a 960x540 picture with 30 objects of
about 120x95 pixels, blended, with every object's amodal, visible, occluder and occluded masks; here in memory, from
drawn clip art that is decoded already. Twice: as in the paper (`original` places, `random` order), and moved over the
ground by depth with harmonised colours. Beside it, in the same run: a plain compositor that blends and masks whole
frames in float32, as one would write it first; and the limit: the bytes that any such compositor reads and writes, at
this machine's copying speed. Processor time of one core, so that what else runs on the machine counts less.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.report import Report, arguments
from walt_edge.contract.labels import Label
from walt_train.clipart.compose import compose
from walt_train.clipart.light import light_maps
from walt_train.clipart.material import Material
from walt_train.clipart.pieces import Backdrop, Cutout, soft_edge
from walt_train.clipart.settings import TRAINING, ComposeSettings
from walt_train.data.layers import encode_patch, sample_layers
from walt_train.data.sample import AmodalSample

FRAME_WH = (960, 540)
OBJECTS = 30
OBJECT_WH = (120, 95)
RELEASED_PER_S = 1.4
PAPER = ComposeSettings(order="random", placement="original", objects=(36, 36))
MOVED = ComposeSettings(order="depth", placement="spread", objects=(33, 33))
"""Of what is drawn some finds no place or hardly shows; 30 and a little more remain."""
HOURS = (9, 12, 17)
_ROWS = (200, FRAME_WH[1] - 1)


def main() -> None:
    """Measures, prints a table, writes JSON."""
    args = arguments(__doc__).parse_args()
    cv2.setNumThreads(1)
    count = 100 if args.quick else 500
    facts = {"seed": args.seed, "composites": count, "size": "960x540", "objects": OBJECTS, "object": "120x95"}
    report = Report("compose", facts)
    material = draw_material(args.seed)
    for name, settings, target in (("original + random", PAPER, 150), ("spread + depth + harmonised", MOVED, 60)):
        samples = [compose(material, settings, args.seed, 0, index) for index in range(20)]
        shown = np.mean([len(sample.objects) for sample in samples])
        report.add(f"{name}: objects in a composite, mean", shown, "", target=OBJECTS, better="higher")
        make = partial(compose, material, settings, args.seed, 0)
        ours = _median_ms(partial(_with_layers, make), count)
        report.add(f"{name}: picture and all layers", 1e3 / ours, "a second", target=target, better="higher")
        pixels = _median_ms(make, count)
        report.add(f"{name}: of that picture and amodal masks", pixels, "ms", better="lower")
        limit = np.mean([_bytes_moved(sample) for sample in samples]) / _copy_bytes_per_ms()
        report.add(f"{name}: limit, its bytes at copying speed", limit, "ms", better="lower")
        report.add(f"{name}: share of the limit", limit / ours, "", better="higher")
    report.add("the released code, to disk", RELEASED_PER_S, "a second")
    plain = _median_ms(lambda i: plain_composite(samples[i % 20], material), max(5, count // 20))
    report.add("plain compositor: whole frames in float32", 1e3 / plain, "a second", better="higher")
    encoded = _median_ms(lambda i: _encode(samples[i % 20]), max(5, count // 10))
    report.add("four run-length encoded masks an object, for files only", encoded, "ms", better="lower")
    trained = [compose(material, TRAINING, args.seed, 0, index) for index in range(count)]
    report.add("truncated objects in training windows", truncated_share(trained), "", target=0.15, better="higher")
    report.finish(args.out)


def draw_material(seed: int) -> Material:
    """Ellipses of random pixels over plates of three hours: 300 objects that grow with their row as a street's do."""
    rng = np.random.default_rng(seed)
    plates = [rng.integers(0, 256 - 40 * dark, (*FRAME_WH[::-1], 3), dtype=np.uint8) for dark in range(len(HOURS))]
    lights = light_maps(plates)
    backdrops = tuple(
        Backdrop(plate, str(hour), hour, 0, light) for plate, hour, light in zip(plates, HOURS, lights, strict=True)
    )
    cutouts = tuple(_draw_cutout(rng, number, backdrops) for number in range(300))
    return Material("bench", FRAME_WH, cutouts, backdrops)


def _draw_cutout(rng: np.random.Generator, number: int, backdrops: tuple[Backdrop, ...]) -> Cutout:
    row = int(rng.integers(*_ROWS))
    share = 0.75 + 0.5 * (row - _ROWS[0]) / (_ROWS[1] - _ROWS[0])
    width, height = (round(side * share * rng.uniform(0.9, 1.1)) for side in OBJECT_WH)
    left = int(rng.integers(1, FRAME_WH[0] - width))
    mask = np.zeros((height + 2, width + 2), np.uint8)
    cv2.ellipse(mask, (width // 2 + 1, height // 2 + 1), (width // 2 - 1, height // 2 - 1), 0, 0, 360, 1, -1)
    seen = backdrops[number % len(backdrops)]
    box = (left, row - height, left + width, row)
    assert seen.light is not None
    return Cutout(
        image_bgr=rng.integers(0, 256, (*mask.shape, 3), dtype=np.uint8),
        alpha=soft_edge(mask.astype(bool)),
        box_xyxy=box,
        xy=(left - 1, row - height - 1),
        label=Label.PERSON if number % 2 else Label.VEHICLE,
        object_id=number + 1,
        plate_id=seen.plate_id,
        hour=seen.hour,
        seen_us=number,
        light=seen.light.at(box),
    )


def truncated_share(samples: Sequence[AmodalSample]) -> float:
    """Of the objects, how many touch the picture's border."""
    cut = []
    for sample in samples:
        height, width = sample.image_bgr.shape[:2]
        for thing in sample.objects:
            x0, y0, x1, y1 = thing.amodal.box_xyxy
            cut.append(x0 <= 0 or y0 <= 0 or x1 >= width or y1 >= height)
    return float(np.mean(cut))


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


def _with_layers(make: Callable[[int], AmodalSample], index: int) -> None:
    sample_layers(make(index))


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
