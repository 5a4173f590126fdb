"""Number plates: read by nobody, and little else of the vehicle is lost."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.signs import lettered
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import Mask, PatchMask
from walt_edge.privacy.anonymiser import FILL_BGR, Anonymiser
from walt_edge.privacy.number_plates import SHARE_MAX, number_plates
from walt_edge.vision.sightings import Sighting

WH = (480, 320)


def vehicle(width: int) -> tuple[NDArray[np.uint8], Sighting]:
    """A van seen from the front: a body, a windscreen, two lamps, a grille; on a rough ground."""
    random = np.random.default_rng(5)
    bgr = random.integers(60, 120, (WH[1], WH[0], 3), dtype=np.uint8)
    bgr = cv2.GaussianBlur(bgr, (0, 0), 2)
    height = round(0.8 * width)
    x, y = (WH[0] - width) // 2, (WH[1] - height) // 2
    mask = np.zeros((WH[1], WH[0]), np.uint8)
    cv2.rectangle(mask, (x, y), (x + width - 1, y + height - 1), 1, -1)
    bgr[mask > 0] = (120, 70, 60)

    def part(fx: float, fy: float) -> tuple[int, int]:
        return x + round(fx * width), y + round(fy * height)

    cv2.rectangle(bgr, part(0.1, 0.08), part(0.9, 0.42), (50, 45, 40), -1)
    for fx in (0.15, 0.85):
        cv2.circle(bgr, part(fx, 0.62), max(2, round(0.06 * width)), (240, 240, 235), -1)
    for row in np.linspace(0.56, 0.68, 4):
        cv2.line(bgr, part(0.3, row), part(0.7, row), (30, 30, 30), 1)
    noise = random.normal(0, 2, bgr.shape)
    bgr = np.clip(cv2.GaussianBlur(bgr, (3, 3), 0.6) + noise, 0, 255).astype(np.uint8)
    return bgr, Sighting(PatchMask.from_full(mask > 0), Label.VEHICLE, 0.9, (0.0, 0.0))


def covered(bgr: NDArray[np.uint8], sighting: Sighting) -> Mask:
    out = np.zeros(bgr.shape[:2], bool)
    for patch in number_plates(bgr, sighting):
        out |= patch.full(*out.shape)
    return out


@pytest.mark.parametrize("width", [130, 180, 260])
@pytest.mark.parametrize("angle_deg", [-12, 0, 8])
@pytest.mark.parametrize("two_lines", [False, True])
def test_a_plate_is_filled_wherever_it_is_on_the_lower_part(width: int, angle_deg: float, two_lines: bool) -> None:
    for fx, fy in ((0.5, 0.82), (0.3, 0.8), (0.62, 0.5)):
        bgr, sighting = vehicle(width)
        x0, y0, x1, y1 = sighting.silhouette.box_xyxy
        centre = x0 + fx * (x1 - x0), y0 + fy * (y1 - y0)
        truth = lettered(bgr, centre, 0.26 * width, angle_deg, "KA 1234 X", two_lines=two_lines)
        found = covered(bgr, sighting)
        assert found[truth].mean() > 0.9, (fx, fy)
        assert found[sighting.silhouette.full(*found.shape)].mean() <= SHARE_MAX + 0.05


def test_a_vehicle_without_signs_loses_little() -> None:
    bgr, sighting = vehicle(220)
    assert covered(bgr, sighting)[sighting.silhouette.full(WH[1], WH[0])].mean() < SHARE_MAX
    calm = np.full_like(bgr, 90)
    assert number_plates(calm, sighting) == [], "where nothing changes there is nothing to read"


def test_people_and_small_vehicles_have_none() -> None:
    bgr, sighting = vehicle(119)
    assert number_plates(bgr, sighting) == []
    bgr, sighting = vehicle(200)
    person = Sighting(sighting.silhouette, Label.PERSON, 0.9, (0.0, 0.0))
    assert number_plates(bgr, person) == []


@pytest.mark.parametrize("x", [-100, 380])
def test_a_vehicle_that_leaves_the_frame_is_cut_there(x: int) -> None:
    bgr, sighting = vehicle(240)
    aside = Sighting(PatchMask(x, 100, sighting.silhouette.mask), None, 0.0, (0.0, 0.0))
    for patch in number_plates(bgr, aside):
        x0, y0, x1, y1 = patch.box_xyxy
        assert 0 <= x0 < x1 <= WH[0]
        assert 0 <= y0 < y1 <= WH[1]


def test_the_anonymiser_fills_them_solid_and_they_do_not_count_against_a_clip() -> None:
    bgr, sighting = vehicle(200)
    truth = lettered(bgr, (240, 210), 60, 3, "WA 7311")
    moving = sighting.silhouette.full(WH[1], WH[0])
    image = Anonymiser()(bgr, [sighting], moving)
    assert image.filled[truth].mean() > 0.9
    assert (image.bgr[image.filled] == FILL_BGR).all()
    assert image.filled_fraction(sighting.silhouette) == 0.0
    crop = image.crop((120, 60, 380, 300), sighting.silhouette)
    assert (crop.bgr[crop.filled] == FILL_BGR).all()
    assert crop.filled[truth[60:300, 120:380]].mean() > 0.9
    own = PatchMask(sighting.silhouette.x - 120, sighting.silhouette.y - 60, sighting.silhouette.mask)
    assert crop.filled_fraction(own) == 0.0
    assert not Anonymiser(number_plates=False)(bgr, [sighting], moving).filled.any()
