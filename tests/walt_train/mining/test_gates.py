from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.walt_train.mining.archives import crop_header
from walt_edge.contract.labels import Label
from walt_train.mining.gates import (
    COMPACT,
    COMPLETE,
    CONTRAST,
    NIGHT,
    NOISE,
    PASS,
    SHARP,
    TRUNCATED,
    Seen,
    compactness,
    failed,
    gate_parts,
    noise_level,
    picture_parts,
)

SHAPE = (60, 100)
MASK = np.zeros(SHAPE, bool)
MASK[15:50, 20:80] = True
EVERYTHING = np.ones(SHAPE, bool)


def picture() -> NDArray[np.uint8]:
    """A car on asphalt by day: windows, wheels, sharp."""
    bgr = np.full((*SHAPE, 3), 105, np.uint8)
    bgr[MASK] = (60, 60, 190)
    bgr[20:32, 30:70] = (40, 40, 35)
    bgr[44:50, 28:38] = bgr[44:50, 62:72] = 15
    grain = np.random.default_rng(3).normal(0, 1.5, bgr.shape)
    return np.clip(bgr + grain, 0, 255).astype(np.uint8)


def spoilt(how: str) -> NDArray[np.uint8]:
    day = picture()
    random = np.random.default_rng(5)
    if how == SHARP:
        return np.asarray(cv2.blur(day, (13, 1)), np.uint8)
    if how == NIGHT:
        return (day * 0.12).astype(np.uint8)
    if how == NOISE:
        grey = 0.25 * day.astype(np.float32) + 60
        return np.clip(grey + random.normal(0, 30, day.shape), 0, 255).astype(np.uint8)
    return (0.08 * day + 110).astype(np.uint8)


def test_a_good_picture_passes_every_gate() -> None:
    parts = picture_parts(picture(), MASK, EVERYTHING)
    assert min(parts.values()) > 0.9, parts
    assert failed(parts) is None


@pytest.mark.parametrize("how", [SHARP, NIGHT, NOISE, CONTRAST])
def test_a_picture_spoilt_in_one_way_fails_that_gate(how: str) -> None:
    parts = picture_parts(spoilt(how), MASK, EVERYTHING)
    assert parts[how] < PASS, parts
    assert failed(parts) is not None


@pytest.mark.parametrize("sigma", [2.0, 5.0, 12.0])
def test_noise_is_measured_through_edges(sigma: float) -> None:
    flat = np.full((200, 200), 120.0)
    flat[:, 100:] = 40
    noisy = np.clip(flat + np.random.default_rng(1).normal(0, sigma, flat.shape), 0, 255).astype(np.uint8)
    assert noise_level(noisy, np.ones(flat.shape, bool)) == pytest.approx(sigma, rel=0.1)


def test_threads_and_torn_rims_are_not_compact() -> None:
    torn = MASK.copy()
    torn[15:50:2, 20:60] = False
    assert compactness(MASK[15:50, 20:80]) > 0.95
    assert compactness(torn[15:50, 20:80]) < 0.6


def seen(mask: NDArray[np.bool_], number: int, crop_xy: tuple[int, int] = (100, 100)) -> Seen:
    header = crop_header(mask, crop_xy, label=Label.VEHICLE, frame_wh=(640, 360))
    return Seen(header, picture(), mask, number)


def test_a_silhouette_smaller_than_its_siblings_is_incomplete_and_one_at_the_border_truncated() -> None:
    half = MASK.copy()
    half[:, 50:] = False
    clips = [seen(MASK, 1), seen(MASK, 1), seen(MASK, 1), seen(half, 1), seen(half, 2)]
    clips.append(seen(MASK, 3, (640 - 80, 100)))
    parts = gate_parts(clips, [np.zeros(SHAPE, bool)] * len(clips))
    assert [one[COMPLETE] >= PASS for one in parts] == [True, True, True, False, True, True]
    assert failed(parts[3]) == COMPLETE
    assert failed(parts[5]) == TRUNCATED
    assert parts[0][COMPACT] > 0.9
