"""Outlines from a picture and the empty place: shadows off, windows in, and what is cut or no object doubted."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from walt_edge.contract.masks import PatchMask
from walt_edge.vision.plate import Image
from walt_train.metrics.swalt_outline import outline

HEIGHT, WIDTH = 180, 320
BODY, WINDOW, SHADOW = (90, 60, 210, 120), (110, 66, 190, 84), (84, 112, 240, 130)
POLE = (150, 0, 158, 180)
RED, GREY, DARK = (40, 40, 190), (112, 112, 112), (60, 66, 64)

Box = tuple[int, int, int, int]


def window(box: Box) -> tuple[slice, slice]:
    return slice(box[1], box[3]), slice(box[0], box[2])


def mask(*boxes: Box) -> PatchMask:
    full = np.zeros((HEIGHT, WIDTH), bool)
    for box in boxes:
        full[window(box)] = True
    x0, y0 = min(box[0] for box in boxes), min(box[1] for box in boxes)
    x1, y1 = max(box[2] for box in boxes), max(box[3] for box in boxes)
    return PatchMask(x0, y0, full[y0:y1, x0:x1])


def empty_place() -> Image:
    grain = np.random.default_rng(0).normal(0, 3, (HEIGHT, WIDTH, 1))
    return np.clip(128 + grain, 0, 255).repeat(3, axis=2).astype(np.uint8)


def with_car(ground: Image, body: tuple[int, int, int] = RED) -> Image:
    """A car with a window as grey as the road, and its shadow."""
    picture = ground.copy()
    picture[window(SHADOW)] = (0.6 * picture[window(SHADOW)]).astype(np.uint8)
    picture[window(BODY)] = body
    picture[window(WINDOW)] = GREY
    return picture


def test_the_shadow_is_cut_off_and_the_window_filled() -> None:
    ground = empty_place()
    seen = mask(BODY, SHADOW)  # as motion sees it
    found = outline(seen, with_car(ground), ground)
    assert found is not None
    fitted, doubt = found
    assert seen.iou(mask(BODY)) < 0.85
    assert fitted.iou(mask(BODY)) >= 0.97
    assert doubt.small, doubt


def test_the_light_of_the_day_does_not_matter() -> None:
    ground = empty_place()
    brighter = np.clip(with_car(ground) * 1.25, 0, 255).astype(np.uint8)
    found = outline(mask(BODY), brighter, ground)
    assert found is not None
    assert found[0].iou(mask(BODY)) >= 0.97
    assert found[1].small


def test_where_nothing_differs_or_all_may_be_shadow_there_is_nothing() -> None:
    ground = empty_place()
    assert outline(mask(BODY), ground, ground) is None
    shade = ground.copy()
    shade[window(BODY)] = (0.5 * shade[window(BODY)]).astype(np.uint8)
    assert outline(mask(BODY), shade, ground) is None


def spot_of_light(ground: Image) -> Image:
    glow = cv2.GaussianBlur(mask(BODY).full(HEIGHT, WIDTH).astype(np.float32), (0, 0), 14)[..., None]
    lit: Image = np.clip(ground + 70 * glow, 0, 255).astype(np.uint8)
    return lit


def before_a_pole(picture: Image) -> Image:
    picture = picture.copy()
    picture[window(POLE)] = DARK
    return picture


@pytest.mark.parametrize(
    ("ground", "picture", "seen", "reason"),
    [
        pytest.param(empty_place(), spot_of_light(empty_place()), mask(BODY), "edge", id="a spot of light"),
        pytest.param(
            before_a_pole(empty_place()),
            before_a_pole(with_car(empty_place())),
            mask((90, 60, 150, 120)),
            "fixed_run",
            id="cut by a pole",
        ),
        pytest.param(
            empty_place(), with_car(empty_place()), mask((20, 40, 210, 120)), "lost", id="the detector saw more"
        ),
    ],
)
def test_what_is_doubted(ground: Image, picture: Image, seen: PatchMask, reason: str) -> None:
    found = outline(seen, picture, ground)
    assert found is not None
    assert not found[1].small
    plain = outline(mask(BODY), with_car(empty_place()), empty_place())
    assert plain is not None
    worse, fine = (float(getattr(doubt, reason)) for _, doubt in (found, plain))
    assert worse < fine - 0.1 if reason == "edge" else worse > fine + 0.1
