"""Where clip art stood, and where composites put it: what a network never saw anywhere near a place, it misses there.

The ground is what lies between the contacts of all clips with it: the convex hull of their lowest points, per class,
united. It is covered where a footprint was; each in cells of a few pixels, so that many clips can cover it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.labels import Label
from walt_edge.contract.masks import Mask
from walt_train.clipart.arrange import Spot, arrange, stand
from walt_train.clipart.chance import Chance, Purpose
from walt_train.clipart.compose import draw_backdrop
from walt_train.clipart.material import Material
from walt_train.clipart.settings import ComposeSettings
from walt_train.clipart.stack import cut_sticker

CELL_PX = 8
_COLOUR_BGR = {Label.PERSON: (40, 140, 255), Label.VEHICLE: (255, 150, 40)}
_WHITE, _PALE, _BACK = (255, 255, 255), (190, 190, 190), (28, 26, 24)
_STRONGEST = 0.75
_PANEL_WIDTH, _GAP, _LINE = 640, 12, 26

Counts = dict[Label, NDArray[np.int32]]


@dataclass(frozen=True, slots=True, eq=False)
class Presence:
    """Where objects were.

    Attributes:
        masks: Per class, how many masks held each pixel, (H, W).
        contacts_xy: Per class, (N, 2) middles of their lowest rows.
        footprints: (H, W) bool, the ground under any of them.
    """

    masks: Counts
    contacts_xy: Counts
    footprints: Mask


def clips_stood(material: Material) -> Presence:
    """Where the clips were seen, each once."""
    return _presence((stand(cutout, cutout.box_xyxy) for cutout in material.cutouts), material)


def composites_put(material: Material, settings: ComposeSettings, draws: int, seed: int = 0) -> Presence:
    """Where so many composites put their objects, drawn as `compose` draws them, without painting."""

    def spots() -> Iterable[Spot]:
        for index in range(draws):
            backdrop = draw_backdrop(material, settings, Chance(seed, 0, index, Purpose.PLATE))
            chances = (Chance(seed, 0, index, purpose) for purpose in (Purpose.ARRANGEMENT, Purpose.ORDER))
            yield from arrange(material, settings, backdrop, *chances)

    return _presence(spots(), material)


def _presence(spots: Iterable[Spot], material: Material) -> Presence:
    width, height = material.frame_wh
    masks: Counts = {label: np.zeros((height, width), np.int32) for label in material.labels}
    contacts: dict[Label, list[tuple[int, int]]] = {label: [] for label in material.labels}
    footprints: Mask = np.zeros((height, width), dtype=bool)
    for spot in spots:
        label = spot.cutout.label
        x0, _, x1, y1 = spot.box_xyxy
        contacts[label].append(((x0 + x1) // 2, y1 - 1))
        left, top, right, bottom = np.maximum(spot.footprint, 0)
        footprints[top:bottom, left:right] = True
        sticker = cut_sticker(spot, (0, 0, width, height))
        if sticker is not None:
            x0, y0, x1, y1 = sticker.mask.box_xyxy
            masks[label][y0:y1, x0:x1] += sticker.mask.mask
    points: Counts = {label: np.array(found, np.int32).reshape(-1, 2) for label, found in contacts.items()}
    return Presence(masks, points, footprints)


def ground_area(stood: Presence) -> Mask:
    """(H, W) bool: the convex hull of the ground contacts of each class, united; the lines belong to it."""
    ground = np.zeros(stood.footprints.shape, np.uint8)
    for contacts in stood.contacts_xy.values():
        if len(contacts):
            cv2.fillConvexPoly(ground, cv2.convexHull(contacts), 1)
    return np.asarray(ground > 0, dtype=bool)


def covered_share(presence: Presence, ground: Mask) -> float:
    """Cells of the ground that a footprint touches, as a share of its cells, 0..1."""
    cells = _cells(ground)
    return float((_cells(presence.footprints & ground) & cells).sum() / max(1, cells.sum()))


def _cells(mask: Mask) -> Mask:
    """Cells with any pixel of the mask."""
    height, width = mask.shape
    padded = np.pad(mask, ((0, -height % CELL_PX), (0, -width % CELL_PX)))
    blocks = padded.reshape(padded.shape[0] // CELL_PX, CELL_PX, padded.shape[1] // CELL_PX, CELL_PX)
    return np.asarray(blocks.any(axis=(1, 3)), dtype=bool)


def draw_coverage(
    plate_bgr: NDArray[np.uint8],
    panels: Sequence[tuple[str, Presence]],
    ground: Mask,
    title: str,
    figures: str,
) -> NDArray[np.uint8]:
    """The panels side by side over the plate, with a title, a legend and the figures.

    Args:
        plate_bgr: (H, W, 3) uint8.
        panels: A heading and what to draw of each.
        ground: Outlined in white.
        title: Above all.
        figures: Below all.

    Returns:
        (H', W', 3) uint8 BGR.
    """
    drawn = [_panel(plate_bgr, presence, ground) for _, presence in panels]
    height, width = drawn[0].shape[:2]
    across = len(drawn) * width + (len(drawn) + 1) * _GAP
    canvas = np.full((height + 4 * _LINE + 2 * _GAP, across, 3), _BACK, np.uint8)
    _write(canvas, title, (_GAP, _LINE), 0.62, _WHITE)
    top = 2 * _LINE + _GAP
    for place, ((heading, _), panel) in enumerate(zip(panels, drawn, strict=True)):
        left = _GAP + place * (width + _GAP)
        _write(canvas, heading, (left, top - 8), 0.5, _PALE)
        canvas[top : top + height, left : left + width] = panel
    _legend(canvas, list(panels[0][1].masks), top + height + _LINE)
    _write(canvas, figures, (_GAP, top + height + 2 * _LINE - 4), 0.5, _WHITE)
    return canvas


def _panel(plate_bgr: NDArray[np.uint8], presence: Presence, ground: Mask) -> NDArray[np.uint8]:
    height, width = plate_bgr.shape[:2]
    scale = _PANEL_WIDTH / width
    size = (_PANEL_WIDTH, max(1, round(height * scale)))
    grey = cv2.cvtColor(plate_bgr, cv2.COLOR_BGR2GRAY)
    canvas = cv2.cvtColor(cv2.resize(grey, size), cv2.COLOR_GRAY2BGR).astype(np.float64) * 0.6
    for label, counts in presence.masks.items():
        # The logarithm, since a parked car lies under a hundred others of its kind.
        strength = np.log1p(counts) / max(np.log1p(counts.max()), 1e-9) * _STRONGEST
        weight = cv2.resize(strength, size)[..., None]
        canvas = canvas * (1 - weight) + np.array(_COLOUR_BGR[label]) * weight
    picture = np.asarray(canvas.round(), dtype=np.uint8)
    outline = cv2.resize(ground.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    lines, _ = cv2.findContours(outline, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    cv2.drawContours(picture, lines, -1, _WHITE, 1, cv2.LINE_AA)
    for label, contacts in presence.contacts_xy.items():
        for x, y in np.unique((contacts * scale).round().astype(int), axis=0).tolist():
            cv2.circle(picture, (x, y), 2, (20, 20, 20), -1, cv2.LINE_AA)
            cv2.circle(picture, (x, y), 1, _COLOUR_BGR[label], -1, cv2.LINE_AA)
    return picture


def _legend(canvas: NDArray[np.uint8], labels: Sequence[Label], row: int) -> None:
    x = _GAP
    for label in labels:
        cv2.rectangle(canvas, (x, row - 12), (x + 16, row + 2), _COLOUR_BGR[label], -1)
        x = _write(canvas, f"{label.title}: masks, the more the stronger", (x + 24, row), 0.45, _PALE) + 24
    cv2.circle(canvas, (x + 6, row - 5), 3, _WHITE, -1, cv2.LINE_AA)
    x = _write(canvas, "where one touches the ground", (x + 18, row), 0.45, _PALE) + 24
    cv2.line(canvas, (x, row - 5), (x + 18, row - 5), _WHITE, 1, cv2.LINE_AA)
    _write(canvas, "ground: hull of where clips touched it", (x + 26, row), 0.45, _PALE)


def _write(
    canvas: NDArray[np.uint8], text: str, at_xy: tuple[int, int], size: float, colour: tuple[int, int, int]
) -> int:
    """Writes a line; returns where it ends."""
    cv2.putText(canvas, text, at_xy, cv2.FONT_HERSHEY_SIMPLEX, size, colour, 1, cv2.LINE_AA)
    (width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, 1)
    return at_xy[0] + int(width)
