"""Draws on anonymised pictures: silhouettes, tracks, outlines."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.masks import Mask, decode_rle
from walt_train.loop.report.evidence import Evidence, Line, Picture, Seen, label_title
from walt_train.loop.report.truth import Match

Colour = tuple[int, int, int]
"""Blue, green, red, 0..255."""

COLOURS: Mapping[str, Colour] = {
    "person": (60, 196, 255),
    "vehicle": (255, 176, 56),
    "unclassified": (190, 190, 190),
}
TRUE_COLOUR: Colour = (86, 86, 255)
_SHIFT = 4  # OpenCV draws at sixteenths of a pixel
_MIN_PATH_POINTS = 5
_EXAMPLE_MARGIN = 0.3
_THICK_FROM_PX = 520
_THICK_MASK_FROM_PX = 200


def colour_of(label: object) -> Colour:
    """The colour of a class."""
    return COLOURS[label_title(label if isinstance(label, str) else None)]


def scaled(bgr: Picture, factor: float) -> Picture:
    """Resizes smoothly; never below one pixel."""
    height, width = bgr.shape[:2]
    size = max(1, round(width * factor)), max(1, round(height * factor))
    method = cv2.INTER_CUBIC if factor > 1 else cv2.INTER_AREA
    return np.asarray(cv2.resize(bgr, size, interpolation=method), dtype=np.uint8)


def fitted(bgr: Picture, width: int, height: int) -> Picture:
    """Resizes to fit into width x height, keeping the shape."""
    return scaled(bgr, min(width / bgr.shape[1], height / bgr.shape[0]))


def covered(bgr: Picture, width: int, height: int) -> Picture:
    """Resizes and crops around the centre to exactly width x height."""
    big = scaled(bgr, max(width / bgr.shape[1], height / bgr.shape[0]) * 1.0001)
    top, left = (big.shape[0] - height) // 2, (big.shape[1] - width) // 2
    return np.ascontiguousarray(big[top : top + height, left : left + width])


def silhouettes(evidence: Evidence, width: int) -> Picture | None:
    """Silhouettes on the sampled frame that tells most; None if no frame was sampled.

    Filled: seen whole. Outlined: something speaks against it.
    """
    line = _telling(evidence)
    if line is None:
        return None
    picture = evidence.picture(line)
    factor = width / picture.shape[1]
    canvas = scaled(picture, factor)
    for seen in line.sightings:
        if seen.mask is not None:
            fill = 0.0 if seen.reasons else 0.5
            draw_mask(canvas, decode_rle(seen.mask), colour_of(seen.label), factor, fill)
    return canvas


def tracks(evidence: Evidence, width: int) -> Picture | None:
    """Where objects went, drawn over the plate; a dot marks where a crop was taken. None without a plate."""
    if evidence.plate is None:
        return None
    factor = width / evidence.plate.shape[1]
    canvas = scaled(_quiet(evidence.plate), factor)
    for track, path in sorted(evidence.paths().items()):
        if len(path) >= _MIN_PATH_POINTS:
            _draw_path(canvas, _smooth(path) * factor, _track_colour(track))
    for clip in evidence.clips:
        centre = _fixed(np.asarray(clip.header.ground_xy) * factor)
        for radius, colour in ((width / 200, (20, 20, 20)), (width / 270, (255, 255, 255))):
            cv2.circle(canvas, centre, round(radius * 2**_SHIFT), colour, -1, cv2.LINE_AA, _SHIFT)
    return canvas


def outlined(bgr: Picture, mask: Mask, label: object, height: int, max_width: int) -> Picture:
    """A crop with its outline, scaled to fit."""
    factor = min(height / bgr.shape[0], max_width / bgr.shape[1])
    canvas = scaled(bgr, factor)
    draw_mask(canvas, mask, colour_of(label), factor, 0.0)
    return canvas


def against_truth(match: Match, height: int, max_width: int) -> Picture:
    """A crop with what was seen (the class's colour) and what is true (red)."""
    header = match.clip.header
    factor = min(height / match.clip.bgr.shape[0], max_width / match.clip.bgr.shape[1])
    canvas = scaled(match.clip.bgr, factor)
    if match.true_mask is not None:
        draw_mask(canvas, match.true_mask, TRUE_COLOUR, factor, 0.0)
    draw_mask(canvas, match.clip.mask, colour_of(header.label.title), factor, 0.0)
    return canvas


def example_of(evidence: Evidence, reason: str, width: int, height: int) -> Picture | None:
    """The largest object that this reason alone speaks against, or else this one too; None without a sampled one."""
    found: list[tuple[tuple[bool, float], Line, Seen]] = []
    for line in evidence.sampled:
        for seen in line.sightings:
            if reason in seen.reasons and seen.mask is not None:
                x0, y0, x1, y1 = seen.box_xyxy
                found.append(((len(seen.reasons) == 1, (x1 - x0) * (y1 - y0)), line, seen))
    if not found:
        return None
    _, line, seen = max(found, key=lambda item: item[0])
    picture = evidence.picture(line)
    x0, y0, x1, y1 = _window(seen, picture.shape, width / height)
    assert seen.mask is not None
    mask = decode_rle(seen.mask)[y0:y1, x0:x1]
    return covered(outlined(picture[y0:y1, x0:x1], mask, seen.label, height, width), width, height)


def _telling(evidence: Evidence) -> Line | None:
    """The sampled line with most whole and classified objects, and fewest of which nothing can be said."""

    def worth(line: Line) -> int:
        whole = sum(not seen.reasons for seen in line.sightings)
        classified = sum(seen.label is not None for seen in line.sightings)
        return 2 * whole + classified - 2 * (len(line.sightings) - classified)

    return max(evidence.sampled, key=worth, default=None)


def _window(seen: Seen, shape: Sequence[int], aspect: float) -> tuple[int, int, int, int]:
    """A box of the frame around an object, with some margin, as near to `aspect` (w / h) as the frame allows."""
    x0, y0, x1, y1 = seen.box_xyxy
    height = max((y1 - y0) * (1 + 2 * _EXAMPLE_MARGIN), (x1 - x0) * (1 + 2 * _EXAMPLE_MARGIN) / aspect)
    height = min(height, shape[0], shape[1] / aspect)
    width = height * aspect
    left = min(max(0.0, (x0 + x1 - width) / 2), shape[1] - width)
    top = min(max(0.0, (y0 + y1 - height) / 2), shape[0] - height)
    return round(left), round(top), round(left + width), round(top + height)


def draw_mask(canvas: Picture, mask: Mask, colour: Colour, factor: float, fill: float) -> None:
    """Draws a mask that is `factor` smaller than the canvas, smoothly."""
    height, width = canvas.shape[:2]
    soft = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    soft = cv2.GaussianBlur(soft, (0, 0), max(0.4, 0.35 * factor))
    inside = (soft >= 0.5).astype(np.uint8)
    if fill > 0:
        where = inside.astype(bool)
        canvas[where] = (canvas[where] * (1 - fill) + np.asarray(colour) * fill).astype(np.uint8)
    contours, _ = cv2.findContours(inside, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    thick = 2 if max(canvas.shape[:2]) >= _THICK_MASK_FROM_PX else 1
    cv2.drawContours(canvas, contours, -1, (20, 20, 20), thick + 2, cv2.LINE_AA)
    cv2.drawContours(canvas, contours, -1, colour, thick, cv2.LINE_AA)


def _draw_path(canvas: Picture, points: NDArray[np.float64], colour: Colour) -> None:
    line = np.rint(points * 2**_SHIFT).astype(np.int32).reshape(-1, 1, 2)
    thick = 2 if canvas.shape[1] >= _THICK_FROM_PX else 1
    cv2.polylines(canvas, [line], False, (30, 30, 30), thick + 2, cv2.LINE_AA, _SHIFT)
    cv2.polylines(canvas, [line], False, colour, thick, cv2.LINE_AA, _SHIFT)


def _fixed(point: NDArray[np.float64]) -> tuple[int, int]:
    return round(float(point[0]) * 2**_SHIFT), round(float(point[1]) * 2**_SHIFT)


def _smooth(path: Sequence[tuple[float, float]], reach: int = 4) -> NDArray[np.float64]:
    """A running mean that keeps the ends."""
    points = np.asarray(path, dtype=np.float64)
    sums = np.cumsum(np.vstack([np.zeros((1, 2)), points]), axis=0)
    at = np.arange(len(points))
    spread = np.minimum(np.minimum(at, len(points) - 1 - at), reach)
    return np.asarray((sums[at + spread + 1] - sums[at - spread]) / (2 * spread + 1)[:, None])


def _quiet(bgr: Picture) -> Picture:
    """Paler and greyer, so that lines stand out."""
    grey = cv2.cvtColor(cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    mixed = cv2.addWeighted(bgr, 0.45, grey, 0.55, 0)
    return np.asarray(cv2.convertScaleAbs(mixed, alpha=0.62, beta=6), dtype=np.uint8)


def _track_colour(track: int) -> Colour:
    """Neighbouring numbers get distant hues (golden ratio)."""
    red, green, blue = colorsys.hsv_to_rgb(track * 0.61803 % 1.0, 0.55, 1.0)
    return round(blue * 255), round(green * 255), round(red * 255)
