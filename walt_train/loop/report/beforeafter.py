"""The same anonymised frames by two generations: silhouettes of what moves, and a model's amodal instances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from walt_edge.contract.labels import Label
from walt_edge.contract.masks import Mask, decode_rle
from walt_edge.contract.predictions import FramePrediction, Instance
from walt_train.loop.report.evidence import Evidence, Line, Picture
from walt_train.loop.report.pictures import colour_of, covered, draw_mask, scaled

_HIDDEN_MIN = 0.15
_HIDDEN_MAX = 0.9
_MARGIN = 0.6
_STRIPE_PX = 7


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """One place in one frame, by generation 0 and by the newer one."""

    before: Picture
    after: Picture
    label: str
    occlusion_fraction: float
    time_s: float


def whole_frame(evidence: Evidence, width: int) -> tuple[Picture, Picture] | None:
    """The sampled frame in which the model sees most that is hidden, both ways; None if no model ran."""
    lines = _lines(evidence)
    if not lines:
        return None
    line, prediction = max(lines, key=lambda pair: _hidden(pair[1]))
    picture = evidence.picture(line)
    return _silhouettes(picture, line, width), _instances(picture, prediction.instances, width)


def closest(evidence: Evidence, count: int, width: int, height: int) -> list[Pair]:
    """Places where the model sees behind something: the surest of them, one to a frame."""
    found = [
        (instance.score * instance.occlusion_fraction, line, instance)
        for line, prediction in _lines(evidence)
        for instance in prediction.instances
        if _HIDDEN_MIN <= instance.occlusion_fraction <= _HIDDEN_MAX
    ]
    pairs: list[Pair] = []
    frames: set[int | None] = set()
    for _, line, instance in sorted(found, key=lambda item: -item[0]):
        if line.frame not in frames and len(pairs) < count:
            frames.add(line.frame)
            pairs.append(_pair(evidence, line, instance, width, height))
    return pairs


def _lines(evidence: Evidence) -> list[tuple[Line, FramePrediction]]:
    return [(line, line.prediction) for line in evidence.sampled if line.prediction is not None]


def _hidden(prediction: FramePrediction) -> float:
    return sum(
        instance.score * instance.occlusion_fraction * instance.bbox[2] * instance.bbox[3]
        for instance in prediction.instances
        if instance.occlusion_fraction <= _HIDDEN_MAX
    )


def _pair(evidence: Evidence, line: Line, instance: Instance, width: int, height: int) -> Pair:
    picture = evidence.picture(line)
    x, y, wide = _window(instance, picture.shape, width / height)
    factor = width / wide
    big = round(picture.shape[1] * factor)
    views = _silhouettes(picture, line, big), _instances(picture, [instance], big)
    top, left = round(y * factor), round(x * factor)
    before, after = (covered(view[top : top + height, left : left + width], width, height) for view in views)
    title = Label(instance.category_id).title
    return Pair(before, after, title, instance.occlusion_fraction, line.media_time_s)


def _window(instance: Instance, shape: Sequence[int], aspect: float) -> tuple[float, float, float]:
    """Left, top and width of a window around an object, of the wanted shape (w / h), inside the frame."""
    x, y, width, height = instance.bbox
    tall = max(height * (1 + 2 * _MARGIN), width * (1 + 2 * _MARGIN) / aspect)
    tall = min(tall, shape[0], shape[1] / aspect)
    wide = tall * aspect
    left = min(max(0.0, x + (width - wide) / 2), shape[1] - wide)
    top = min(max(0.0, y + (height - tall) / 2), shape[0] - tall)
    return left, top, wide


def _silhouettes(picture: Picture, line: Line, width: int) -> Picture:
    factor = width / picture.shape[1]
    canvas = scaled(picture, factor)
    for seen in line.sightings:
        if seen.mask is not None:
            draw_mask(canvas, decode_rle(seen.mask), colour_of(seen.label), factor, 0.35)
    return canvas


def _instances(picture: Picture, instances: Sequence[Instance], width: int) -> Picture:
    """Visible parts filled, hidden parts striped, the amodal outline around both."""
    factor = width / picture.shape[1]
    canvas = scaled(picture, factor)
    for instance in instances:
        colour = colour_of(Label(instance.category_id).title)
        whole, seen = decode_rle(instance.segmentation), decode_rle(instance.visible_segmentation)
        _stripe(canvas, whole & ~seen, colour)
        draw_mask(canvas, whole, colour, factor, 0.3)
    return canvas


def _stripe(canvas: Picture, mask: Mask, colour: tuple[int, int, int]) -> None:
    height, width = canvas.shape[:2]
    inside = cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST) > 0
    rows, columns = np.nonzero(inside)
    chosen = (rows + columns) // _STRIPE_PX % 2 == 0
    canvas[rows[chosen], columns[chosen]] = colour
