"""What the selector keeps of a day that offers several times what its budget allows, against who comes first.

    python -m benchmarks.selection --out docs/benchmarks/selection.json

Simulated: crops of four hours on a street. Most come along two lanes, alike, and in waves; few come elsewhere or in
other poses; how surely and sharply they are seen varies. Each policy has the same budget of bytes an hour. What a
collection is worth is the sum over its crops of worth x novelty in the order taken (`walt_edge.selecting.novelty`).
Hindsight knows all offers of an hour beforehand and takes the best first.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.report import Report, arguments
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import encode_rle
from walt_edge.contract.messages import Clock, CropHeader, Moment, Origin
from walt_edge.privacy.anonymiser import Anonymiser, SealedEnvelope, seal
from walt_edge.selecting.novelty import Likeness, Novelty
from walt_edge.selecting.selector import Selector, SelectorSettings
from walt_edge.watching.views import worth_of_header

FRAME_WH = (640, 384)
START_US = 1_790_000_000_000_000
HOUR_S = 3600.0
SETTINGS = SelectorSettings()


@dataclass(frozen=True, slots=True)
class Kept:
    """What a policy kept.

    Attributes:
        value: Sum of worth x novelty.
        size_bytes: Of all crops.
        cells: How many cells of the three tables of novelty hold at least one.
        crops: How many.
    """

    value: float
    size_bytes: int
    cells: int
    crops: int


def main() -> None:
    """Measures, prints a table, writes JSON."""
    args = arguments(__doc__).parse_args()
    offers = day(count=1_500 if args.quick else 12_000, hours=4.0, seed=args.seed)
    total = sum(len(one.data) for one in offers)
    report = Report("selection", {"seed": args.seed, "offers": len(offers)})
    for times in (2, 8):
        settings = replace(SETTINGS, bytes_per_hour=int(total / 4 / times))
        ours, first = selected(offers, settings), first_come(offers, settings)
        best = hindsight(offers, settings)
        name = f"{times} times the budget offered"
        gain = (ours.value / ours.size_bytes) / (first.value / first.size_bytes)
        report.add(f"{name}: value a byte against first come", gain, target=1.25 if times == 8 else None)
        report.add(f"{name}: value against hindsight's", ours.value / best.value, target=0.8)
        report.add(f"{name}: first come against hindsight's", first.value / best.value)
        report.add(f"{name}: cells covered against first come", ours.cells / first.cells)
        report.add(f"{name}: of the budget used", ours.size_bytes / (4 * settings.bytes_per_hour), target=0.9)
    start_s = time.perf_counter()
    selected(offers, SETTINGS)
    took_us = 1e6 * (time.perf_counter() - start_s) / len(offers)
    report.add("one admission", took_us, "us", better="lower", target=2_000)
    report.finish(args.out)


def day(count: int, hours: float, seed: int) -> list[SealedEnvelope]:
    """Sealed crops in order of time: waves along two lanes, some elsewhere."""
    chance = np.random.default_rng(seed)
    moments = np.sort(_waves(chance, count, hours))
    anonymiser = Anonymiser()
    return [_crop(chance, anonymiser, number, float(at_s)) for number, at_s in enumerate(moments)]


def selected(offers: Iterable[SealedEnvelope], settings: SelectorSettings) -> Kept:
    """What the selector keeps."""
    selector = Selector(settings)
    return appraise([one for one in offers if selector.admit(one).taken], settings)


def first_come(offers: Iterable[SealedEnvelope], settings: SelectorSettings) -> Kept:
    """What is kept if every crop is taken for which the hour has room."""
    kept: list[SealedEnvelope] = []
    spent: dict[int, int] = {}
    for one in offers:
        hour = _hour_of(one)
        if spent.get(hour, 0) + len(one.data) <= settings.bytes_per_hour:
            spent[hour] = spent.get(hour, 0) + len(one.data)
            kept.append(one)
    return appraise(kept, settings)


def hindsight(offers: Sequence[SealedEnvelope], settings: SelectorSettings) -> Kept:
    """What is kept by who knows each hour beforehand: greedily, by value, with what was kept before in mind."""
    kept: list[SealedEnvelope] = []
    novelty = Novelty(settings.half_life_s, settings.alike)
    for hour in sorted({_hour_of(one) for one in offers}):
        waiting = {one.id: one for one in offers if _hour_of(one) == hour}
        facts = {one.id: (_worth(one), _likeness(one)) for one in waiting.values()}
        room = settings.bytes_per_hour
        bounds = {id_: worth * novelty(like, 0.0) for id_, (worth, like) in facts.items()}
        while waiting:
            # Lazily: a value only ever falls, so the first whose fresh value still leads is the best.
            id_ = max(bounds, key=bounds.__getitem__)
            worth, like = facts[id_]
            fresh = worth * novelty(like, 0.0)
            if fresh < bounds[id_] - 1e-9:
                bounds[id_] = fresh
                continue
            one = waiting.pop(id_)
            del bounds[id_]
            if len(one.data) <= room:
                room -= len(one.data)
                novelty.add(like, 0.0)
                kept.append(one)
    return appraise(kept, settings)


def appraise(kept: Sequence[SealedEnvelope], settings: SelectorSettings) -> Kept:
    """What a collection is worth, in the order given."""
    novelty, value, cells = Novelty(settings.half_life_s, settings.alike), 0.0, set[str]()
    for one in kept:
        like = _likeness(one)
        value += _worth(one) * novelty(like, 0.0)
        novelty.add(like, 0.0)
        cells.update(like.cells)
    return Kept(value, sum(len(one.data) for one in kept), len(cells), len(kept))


def _waves(chance: np.random.Generator, count: int, hours: float) -> list[float]:
    """Times in seconds: a rate that swells every twenty minutes, highest in each hour's beginning."""
    found: list[float] = []
    while len(found) < count:
        at_s = float(chance.uniform(0, hours * HOUR_S))
        swell = 0.5 + 0.5 * math.cos(2 * math.pi * at_s / 1200)
        rush = math.exp(-(at_s % HOUR_S) / 1500)
        if chance.uniform() < 0.2 + 0.4 * swell + 0.4 * rush:
            found.append(at_s)
    return found


def _crop(chance: np.random.Generator, anonymiser: Anonymiser, number: int, at_s: float) -> SealedEnvelope:
    """One crop: three quarters in two lanes and of their shape, the others anywhere and of any."""
    lane = chance.uniform() < 0.75
    height = int(chance.integers(24, 56))
    width = height * 2 if lane else int(height * chance.uniform(0.4, 2.4))
    x = float(chance.uniform(0, FRAME_WH[0] - width))
    y = float(chance.choice((150, 260))) if lane else float(chance.uniform(60, FRAME_WH[1] - height))
    mask = np.ones((height, width), bool)
    if not lane:
        mask[: height // 2, : int(width * chance.uniform(0, 0.6))] = False
    bgr = chance.integers(90, 166, (height, width, 3), dtype=np.uint8)
    sharp, sure = float(chance.beta(3, 2)), float(chance.beta(4, 2))
    header = CropHeader(
        origin=Origin(site="s", device="d", camera="c", model="m", anonymiser="a", frame_wh=FRAME_WH),
        captured=Moment(
            utc_us=START_US + int(at_s * 1e6),
            boot_id="boot",
            monotonic_ns=int(at_s * 1e9),
            clock=Clock.SYNCHRONISED,
            media_time_s=at_s,
        ),
        box_xyxy=(x, y, x + width, y + height),
        label=Label.VEHICLE if lane or chance.uniform() < 0.5 else Label.PERSON,
        score=0.9,
        unoccluded_confidence=sure,
        confidence_parts={"blurred": sharp},
        track_id=number,
        stationary_us=None,
        ground_xy=(x + width / 2, y + height),
        crop_xy=(int(x), int(y)),
        mask=encode_rle(mask),
        plate="",
        holdout=False,
    )
    return seal(header, anonymiser(bgr, (), np.zeros((height, width), bool)))


def _hour_of(one: SealedEnvelope) -> int:
    # From the first offer on is near enough to the selector's own hours, which begin with it.
    return int(one.envelope.header.captured.media_time_s // HOUR_S)


def _worth(one: SealedEnvelope) -> float:
    header = one.envelope.header
    assert isinstance(header, CropHeader)
    return worth_of_header(header)


def _likeness(one: SealedEnvelope) -> Likeness:
    header = one.envelope.header
    assert isinstance(header, CropHeader)
    return Likeness.of(header)


if __name__ == "__main__":
    main()
