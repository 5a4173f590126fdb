"""Tracks drawn over a picture: who is who, in a colour that stays, and where those are who cannot be seen.

The picture is drawn on as it is given: give one that is anonymised (`AnonymisedImage.bgr`).
"""

from __future__ import annotations

import colorsys
from collections.abc import Iterable

import cv2
import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.instances import AmodalInstances
from walt_edge.contract.labels import Label
from walt_edge.tracking.tracker import TrackedObject

Image = NDArray[np.uint8]
Colour = tuple[int, int, int]

_TURN = 0.61803398875
"""The golden ratio's share of a turn: the hues of ids that follow each other are far apart."""
_DASH_PX = 5
_FONT, _FONT_SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.36
_SIGMAS = 2.0


def draw_tracks(bgr: Image, tracks: Iterable[TrackedObject], instances: AmodalInstances | None = None) -> Image:
    """The picture with every believed object's amodal box; whoever is not seen is dashed, with its uncertainty.

    Args:
        bgr: (H, W, 3) uint8, anonymised; it is left as it is.
        tracks: As an `AmodalTracker` gave them for this frame.
        instances: What it was given; objects that are seen are then drawn by their amodal outline.
    """
    canvas = bgr.copy()
    shown = [one for one in tracks if one.state != "tentative"]
    # Those who are hidden first: what is seen lies over them.
    for one in sorted(shown, key=lambda one: one.instance is not None):
        colour = colour_of(one.id)
        if one.instance is None:
            _draw_unseen(canvas, one, colour)
        elif instances is None:
            _rectangle(canvas, one, colour)
        else:
            mask = instances.amodal[one.instance]
            outlines, _ = cv2.findContours(mask.mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
            cv2.drawContours(canvas, outlines, -1, colour, 2, cv2.LINE_AA, offset=(mask.x, mask.y))
    for one in shown:
        _draw_name(canvas, one)
    return canvas


def colour_of(number: int) -> Colour:
    """BGR of an id: the same on every picture."""
    red, green, blue = colorsys.hsv_to_rgb(number * _TURN % 1.0, 0.65 + 0.25 * (number % 2), 1.0)
    return round(255 * blue), round(255 * green), round(255 * red)


def _corners(one: TrackedObject) -> tuple[int, int, int, int]:
    x0, y0, x1, y1 = one.box_xyxy
    return round(x0), round(y0), max(round(x0), round(x1) - 1), max(round(y0), round(y1) - 1)


def _rectangle(canvas: Image, one: TrackedObject, colour: Colour) -> None:
    x0, y0, x1, y1 = _corners(one)
    cv2.rectangle(canvas, (x0, y0), (x1, y1), colour, 2)


def _draw_unseen(canvas: Image, one: TrackedObject, colour: Colour) -> None:
    """A dashed box, and an ellipse on the ground that holds its place with 86% where both axes are Gaussian."""
    x0, y0, x1, y1 = _corners(one)
    height, width = canvas.shape[:2]
    reach = tuple(min(max(1, round(_SIGMAS * std)), width) for std in one.place_std_xy)
    ellipse = np.zeros((height, width), np.uint8)
    cv2.ellipse(ellipse, ((x0 + x1) // 2, y1), reach, 0, 0, 360, 1, -1)
    inside = ellipse.astype(bool)
    canvas[inside] = (0.75 * canvas[inside] + 0.25 * np.array(colour)).astype(np.uint8)
    for x in range(x0, x1 + 1, 2 * _DASH_PX):
        for y in (y0, y1):
            cv2.line(canvas, (x, y), (min(x + _DASH_PX, x1), y), colour, 2)
    for y in range(y0, y1 + 1, 2 * _DASH_PX):
        for x in (x0, x1):
            cv2.line(canvas, (x, y), (x, min(y + _DASH_PX, y1)), colour, 2)


def _draw_name(canvas: Image, one: TrackedObject) -> None:
    name = Label(one.label).title if one.label in set(Label) else "object"
    text = f"{one.id} {name}" + (f" {one.state}" if one.instance is None else "")
    (width, height), below = cv2.getTextSize(text, _FONT, _FONT_SCALE, 1)
    x = min(max(round(one.box_xyxy[0]), 0), max(0, canvas.shape[1] - width - 4))
    y = max(round(one.box_xyxy[1]) - 2, height + below + 2)
    cv2.rectangle(canvas, (x, y - height - below), (x + width + 3, y + 1), colour_of(one.id), -1)
    cv2.putText(canvas, text, (x + 2, y - below + 1), _FONT, _FONT_SCALE, (0, 0, 0), 1, cv2.LINE_AA)
