"""Rendered streets in which buses and lorries keep passing before people and cars, with identities that are exact.

The street is RWALT's own with other weights: `HEAVY_SHARE` of what drives is a bus or a lorry. Nothing else is
changed; light, crowd, parked cars and the traffic light are those of the preset.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from benchmarks.identities import NOBODY
from walt_edge.contract.instances import AmodalInstances
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import PatchMask
from walt_train.data.layers import split_layers
from walt_train.rwalt.renderer import Drawn, Renderer
from walt_train.rwalt.street import WARM_UP_S, Street, StreetConfig
from walt_train.rwalt.traffic import Traffic

HEAVY_SHARE = 0.55
_HEAVY = frozenset({"bus", "truck"})
_SIZE_WH = (640, 360)


@dataclass(frozen=True, slots=True, eq=False)
class Moment:
    """One frame and its truth.

    Attributes:
        time_s: Since the street's beginning.
        bgr: (H, W, 3) uint8.
        truth: Exact layers, nearest first, scores 1; what is hidden altogether is among them.
        ids: (N,) the identity of each.
    """

    time_s: float
    bgr: NDArray[np.uint8]
    truth: AmodalInstances
    ids: NDArray[np.int64]


def heavy_street(seed: int, preset: str, frames: int, fps: float) -> Street:
    """A street of that preset with many buses and lorries."""
    street = Street(StreetConfig(seed=seed, frames=frames, size_wh=_SIZE_WH, fps=fps, preset=preset, light="day"))
    people = [track for track in street.tracks if track.person]
    heavy = [model.name in _HEAVY for model in street.vehicles]
    count = sum(heavy)
    weights = [HEAVY_SHARE / count if one else (1 - HEAVY_SHARE) / (len(heavy) - count) for one in heavy]
    driving = Traffic(street.layout, street.vehicles, weights, people).run(-WARM_UP_S, frames / fps + 1.0)
    street.tracks = sorted(people + driving, key=lambda track: track.track_id)
    return street


def watch(street: Street) -> Iterator[Moment]:
    """Renders a street's frames, in this process."""
    os.environ["LP_NUM_THREADS"] = "0"  # the rasteriser stays on this process's one core
    renderer = Renderer(street)
    try:
        for index in range(street.config.frames):
            drawn = renderer.draw(index)
            ids = np.array([thing.track.track_id for thing in drawn.objects], np.int64)
            yield Moment(street.time_s(index), drawn.bgr, _truth(drawn, street.config.size_wh), ids)
    finally:
        renderer.close()


def _truth(drawn: Drawn, size_wh: tuple[int, int]) -> AmodalInstances:
    layers = split_layers(drawn.amodal, drawn.ranks, drawn.static, size_wh)
    return AmodalInstances(
        size_wh,
        np.array([mask.box_xyxy for mask in drawn.amodal], np.float32).reshape(-1, 4),
        np.array([thing.label for thing in drawn.objects], np.int64),
        np.ones(len(layers), np.float32),
        tuple(layer.amodal for layer in layers),
        tuple(layer.occluder for layer in layers),
        tuple(layer.occluded for layer in layers),
    )


@dataclass(frozen=True, slots=True)
class Flaws:
    """How detections that are made from truth differ from it.

    Attributes:
        edge: Standard deviation of each edge of a box, shares of its side.
        hidden_edge: What is added for an amodal box whose object is hidden altogether, in proportion before.
        found: Chance that an object is found of which half or more is seen; falls to 0 at `unseen`.
        unseen: Visible share at which nobody finds an object.
        least_px: Visible area below which nobody finds it.
        false_share: False detections, shares of the objects.
    """

    edge: float = 0.03
    hidden_edge: float = 0.12
    found: float = 0.95
    unseen: float = 0.1
    least_px: int = 24
    false_share: float = 0.02


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """One frame's detections, as amodal and as visible boxes of the same objects, with the same scores.

    Attributes:
        amodal: With amodal boxes and layers.
        visible: Boxes and masks of what is seen; nothing is said of what is hidden.
        owners: (M,) identity of each, -1 for a false one.
    """

    amodal: AmodalInstances
    visible: AmodalInstances
    owners: NDArray[np.int64]


def detect(truth: AmodalInstances, ids: NDArray[np.int64], rng: np.random.Generator, flaws: Flaws) -> Detections:
    """Detections made from truth: some are missed, boxes jitter (more where they are guessed), some are false."""
    seen_share = 1 - truth.occlusion_fractions
    areas = np.array([mask.area for mask in truth.visible])
    chance = flaws.found * np.clip((seen_share - flaws.unseen) / (0.5 - flaws.unseen), 0, 1)
    hit = (rng.random(len(truth)) < chance) & (areas >= flaws.least_px)
    rows = np.flatnonzero(hit)
    kept = truth.select(rows.tolist())
    scores = np.clip(0.35 + 0.6 * seen_share[rows] + rng.normal(0, 0.08, len(rows)), 0.05, 0.99)
    jitter = rng.normal(0, 1, (len(rows), 4))
    seen, _ = visible_only(replace(kept, scores=scores.astype(np.float32)))
    amodal = _shaken(kept, jitter, flaws.edge + flaws.hidden_edge * (1 - seen_share[rows].astype(np.float64)), scores)
    visible = _shaken(seen, jitter, np.full(len(rows), flaws.edge), scores)
    false = _invented(truth.frame_wh, rng, int(rng.binomial(len(truth), flaws.false_share)))
    owners = np.concatenate([ids[rows], np.full(len(false), NOBODY)])
    return Detections(_joined(amodal, false), _joined(visible, false), owners)


def visible_only(found: AmodalInstances) -> tuple[AmodalInstances, NDArray[np.int64]]:
    """A model's detections as boxes of what is seen, and which instances they are; who shows nothing is left out."""
    masks = [mask.tight() for mask in found.visible]
    rows = [row for row, mask in enumerate(masks) if mask.area]
    labels, scores = found.labels[rows].tolist(), found.scores[rows].tolist()
    seen = AmodalInstances.of_masks(found.frame_wh, labels, scores, [masks[row] for row in rows])
    return seen, np.array(rows, np.int64)


def _shaken(
    found: AmodalInstances, jitter: NDArray[np.float64], edge: NDArray[np.float64], scores: NDArray[np.float64]
) -> AmodalInstances:
    """The same with edges moved by `edge` (N,) shares of the box's sides times `jitter` (N, 4)."""
    boxes = found.boxes_xyxy.astype(np.float64)
    sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    moved = np.clip(boxes + jitter * edge[:, None] * sides, 0, np.array(found.frame_wh * 2))
    inside_out = (moved[:, 2:] - moved[:, :2] < 1).any(axis=1)
    moved[inside_out] = boxes[inside_out]
    return replace(found, boxes_xyxy=moved.astype(np.float32), scores=scores.astype(np.float32))


def _invented(frame_wh: tuple[int, int], rng: np.random.Generator, count: int) -> AmodalInstances:
    """Detections of nothing, as large as people, with low scores."""
    masks = []
    for _ in range(count):
        height = int(rng.integers(24, 90))
        width = max(8, int(height * rng.uniform(0.3, 0.6)))
        x, y = (int(rng.integers(0, side - own)) for side, own in zip(frame_wh, (width, height), strict=True))
        masks.append(PatchMask(x, y, np.ones((height, width), bool)))
    scores = rng.uniform(0.2, 0.6, count).tolist()
    return AmodalInstances.of_masks(frame_wh, [Label.PERSON] * count, scores, masks)


def _joined(one: AmodalInstances, other: AmodalInstances) -> AmodalInstances:
    return AmodalInstances(
        one.frame_wh,
        np.concatenate([one.boxes_xyxy, other.boxes_xyxy]),
        np.concatenate([one.labels, other.labels]),
        np.concatenate([one.scores, other.scores]),
        one.amodal + other.amodal,
        one.occluder + other.occluder,
        one.occluded + other.occluded,
    )
