"""AP against COCO's own evaluation, and by occlusion on frames computed by hand."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tests.walt_train.metrics.boards import PERSON, VEHICLE, Box, found, truth
from walt_edge.contract.instances import AmodalInstances
from walt_edge.contract.labels import Label, coco_categories
from walt_edge.contract.masks import encode_rle
from walt_train.data.sample import AmodalSample
from walt_train.metrics.average_precision import PrecisionCollector, PrecisionRow

Pair = tuple[AmodalInstances, AmodalSample]


def rows(pairs: Sequence[Pair]) -> dict[tuple[str, float, float], PrecisionRow]:
    collector = PrecisionCollector()
    for one, other in pairs:
        collector.add(one, other)
    return {(row.label, row.band.low, row.band.high): row for row in collector.result()}


def random_pair(rng: np.random.Generator, name: str) -> Pair:
    """Objects side by side, none hidden, and predictions that miss them by little, by much, or are others'."""
    places = [(x, y) for x in (0, 80, 160, 240) for y in (0, 70, 140)]
    chosen = [places[i] for i in rng.permutation(len(places))[: rng.integers(0, 8)]]
    things: list[tuple[Label, Box]] = []
    guesses: list[tuple[Label, Box]] = []
    for x, y in chosen:
        label = Label(int(rng.integers(1, 3)))
        wide, high = (int(side) for side in rng.integers(36, 50, 2))
        things.append((label, (x, y, x + wide, y + high)))
        for _ in range(rng.integers(0, 3)):
            dx, dy, dw, dh = (int(step) for step in rng.integers(-6, 7, 4))
            left, top = max(0, x + dx), max(0, y + dy)
            guess = label if rng.uniform() < 0.9 else Label(3 - int(label))
            guesses.append((guess, (left, top, x + wide + dw, y + high + dh)))
    for _ in range(rng.integers(0, 3)):
        x, y = (int(corner) for corner in rng.integers(0, 120, 2))
        guesses.append((PERSON, (x, y, x + 60, y + 50)))
    scores = rng.uniform(size=len(guesses)).tolist()
    return found(*guesses, scores=scores), truth(*things, name=name)


def coco_stats(pairs: Sequence[Pair], kind: str, label: Label) -> tuple[float, float]:
    """AP and AP50 as pycocotools gives them."""
    images: list[dict[str, Any]] = []
    labels: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for index, (instances, sample) in enumerate(pairs, start=1):
        height, width = sample.image_bgr.shape[:2]
        images.append({"id": index, "width": width, "height": height})
        for thing in sample.objects:
            x0, y0, x1, y1 = thing.amodal.box_xyxy
            rle = encode_rle(thing.amodal.full(height, width)).coco()
            labels.append(
                {"id": len(labels) + 1, "image_id": index, "category_id": int(thing.label), "iscrowd": 0}
                | {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": thing.amodal.area, "segmentation": rle}
            )
        for place, mask in enumerate(instances.amodal):
            x0, y0, x1, y1 = instances.boxes_xyxy[place].tolist()
            record: dict[str, Any] = {"image_id": index, "category_id": int(instances.labels[place])}
            record["score"] = float(instances.scores[place])
            if kind == "bbox":
                record["bbox"] = [x0, y0, x1 - x0, y1 - y0]
            else:
                record["segmentation"] = encode_rle(mask.full(height, width)).coco()
            results.append(record)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {"images": images, "annotations": labels, "categories": coco_categories(), "info": {}}
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(results), kind)
        evaluation.params.catIds = [int(label)]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0]), float(evaluation.stats[1])


@pytest.mark.parametrize("seed", range(3))
def test_as_pycocotools_where_nothing_is_hidden(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pairs = [random_pair(rng, str(frame)) for frame in range(40)]
    mine = rows(pairs)
    for label in Label:
        row = mine[label.title, 0.0, 0.9]
        assert row.truths > 20
        for kind, (ap, ap50) in {
            "bbox": (row.box_ap, row.box_ap50),
            "segm": (row.mask_ap, row.mask_ap50),
        }.items():
            expected = coco_stats(pairs, kind, label)
            assert (ap or 0) / 100 == pytest.approx(expected[0], abs=1e-6)
            assert (ap50 or 0) / 100 == pytest.approx(expected[1], abs=1e-6)
            assert 0.05 < expected[0] < expected[1] < 0.95
    assert mine["all", 0.0, 0.9].box_ap == pytest.approx(
        np.mean([mine[label.title, 0.0, 0.9].box_ap or 0 for label in Label])
    )


A: Box = (0, 0, 40, 40)
NEAR: Box = (0, 0, 28, 40)  # hides 7/10 of A
FAR: Box = (200, 100, 240, 140)


def test_a_false_positive_is_one_in_every_bin_and_another_bins_hit_in_none() -> None:
    frame = truth((PERSON, NEAR), (PERSON, A))
    guesses = found((PERSON, FAR), (PERSON, NEAR), (PERSON, A), scores=[0.9, 0.8, 0.7])
    table = rows([(guesses, frame)])
    whole, hidden, both = table["person", 0.0, 0.01], table["person", 0.5, 0.9], table["person", 0.0, 0.9]
    assert (whole.truths, whole.box_hits, hidden.truths, hidden.box_hits) == (1, 1, 1, 1)
    assert whole.box_ap50 == hidden.box_ap50 == pytest.approx(50)
    assert both.box_ap50 == pytest.approx(100 * 2 / 3)
    assert table["person", 0.01, 0.1].box_ap50 is None
    sure = rows([(found((PERSON, NEAR), (PERSON, A), (PERSON, FAR), scores=[0.9, 0.8, 0.7]), frame)])
    assert sure["person", 0.5, 0.9].box_ap50 == pytest.approx(100)


def test_counts_add_up_over_bins() -> None:
    rng = np.random.default_rng(5)
    pairs = []
    for index in range(30):
        boxes = []
        for _ in range(6):
            x, y = (int(corner) for corner in rng.integers(0, 120, 2))
            boxes.append((Label(int(rng.integers(1, 3))), (x, y, x + 60, y + 60)))
        pairs.append((found(*boxes[::2], scores=rng.uniform(size=3).tolist()), truth(*boxes, name=str(index))))
    table = rows(pairs)
    for label in ("person", "vehicle", "all"):
        bins = [row for (name, low, high), row in table.items() if name == label and (low, high) != (0.0, 0.9)]
        total = table[label, 0.0, 0.9]
        assert len(bins) == 4
        assert sum(row.truths for row in bins) == total.truths > 10
        assert sum(row.box_hits for row in bins) == total.box_hits > 5
        assert sum(row.mask_hits for row in bins) == total.mask_hits


def test_what_is_no_case_is_neither_right_nor_wrong() -> None:
    small: Box = (100, 0, 120, 20)
    frame = truth((VEHICLE, A), (VEHICLE, small))
    table = rows([(found((VEHICLE, small), (VEHICLE, A), scores=[0.9, 0.5]), frame)])
    assert table["vehicle", 0.0, 0.9].mask_ap == pytest.approx(100)
    assert rows([]) == {}
    assert rows([(found((VEHICLE, A)), truth())])["vehicle", 0.0, 0.9].box_ap is None
