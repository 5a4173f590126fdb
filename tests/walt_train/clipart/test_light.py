from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.clipart import some_things, write_scene
from walt_train.clipart.light import FULL_LIGHT, gains, light_maps, light_table, own_light, relit, steps_apart
from walt_train.clipart.material import gain_at, load_material
from walt_train.rwalt import Street, StreetConfig
from walt_train.rwalt.annotate import annotation_records
from walt_train.rwalt.gl import RenderError
from walt_train.rwalt.renderer import Drawn, Renderer

Picture = NDArray[np.uint8]


def street_plate(seed: int = 0) -> Picture:
    """Ground of many colours: a road, grass, a wall."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(40, 160, (12, 20, 3))
    return np.asarray(np.repeat(np.repeat(blocks, 16, axis=0), 16, axis=1).astype(np.uint8))


def in_light(picture: Picture, gain: tuple[float, float, float]) -> Picture:
    return np.asarray(np.clip(np.rint(picture * np.array(gain)), 0, 255), np.uint8)


def test_tables_of_light() -> None:
    assert light_table(256).tolist() == list(range(256))
    assert light_table(512)[100] == 200
    assert light_table(512)[200] == 255
    bent = light_table(256, 20).astype(int) - np.arange(256)
    assert (bent[0], bent[255], bent.max()) == (0, 0, 19)


def test_each_channel_has_its_gain() -> None:
    picture = np.full((3, 4, 3), 100, np.uint8)
    assert relit(picture, (256, 256, 256)) is picture
    assert relit(picture, (128, 128, 128)).tolist() == np.full((3, 4, 3), 50).tolist()
    assert relit(picture, (128, 256, 512))[0, 0].tolist() == [50, 100, 200]


def test_the_colour_of_the_ground_is_not_taken_for_light() -> None:
    """A road beside grass beside a wall: at one hour all of it is in one light, whatever its colours."""
    noon = street_plate()
    night = in_light(noon, (0.6, 0.5, 0.4))
    day_light, night_light = light_maps([noon, night])
    for box in ((0, 0, 20, 40), (100, 60, 140, 120), (300, 150, 330, 200), (-50, -50, 2, 2)):
        assert day_light.at(box) == FULL_LIGHT
        assert [value / 65536 for value in night_light.at(box)] == pytest.approx([0.6, 0.5, 0.4], abs=0.02)


def test_gains_are_the_root_of_the_grounds_and_clamped() -> None:
    assert gains(FULL_LIGHT, FULL_LIGHT) == (256, 256, 256)
    assert gains(FULL_LIGHT, (65536 // 4, 65536 * 4, 1)) == (128, 512, 85)
    assert gains((1, 1, 1), FULL_LIGHT) == (768, 768, 768)
    assert [steps_apart(gain) for gain in ((256, 256, 256), (256, 290, 256), (256, 256, 128))] == [0, 1, 8]


def test_the_ground_around_a_clip_tells_its_light() -> None:
    plate = street_plate()[:60, :60]
    mask = np.zeros((60, 60), bool)
    mask[15:50, 20:40] = True
    known = np.ones_like(mask)
    dimmer = in_light(plate, (0.8, 0.8, 0.9))
    dimmer[mask] = 255
    dimmer[50:, 15:45] //= 3  # its shadow
    found = own_light(FULL_LIGHT, dimmer, mask, plate, known)
    assert [value / 65536 for value in found] == pytest.approx([0.8, 0.8, 0.9], abs=0.02)
    assert own_light(FULL_LIGHT, dimmer, mask, plate, ~known) == FULL_LIGHT, "nothing is known of the plate"


def test_a_tint_of_known_strength_is_followed() -> None:
    """Upright things follow the ground by the root: of a change that they take part in wholly, half is left."""
    noon = street_plate()
    tint = (1.2, 0.8, 0.6)
    evening = in_light(noon, tint)
    before, after = light_maps([noon, evening])
    thing = np.random.default_rng(3).integers(30, 200, (40, 20, 3)).astype(np.uint8)
    truth = in_light(thing, tint).astype(int)
    box = (100, 60, 120, 100)
    ours = relit(thing, gains(before.at(box), after.at(box)))
    assert np.abs(thing - truth).mean() > 1.9 * np.abs(ours - truth).mean()


SIZE = (320, 180)


@pytest.fixture(scope="module")
def two_hours() -> tuple[Street, list[list[Drawn]]]:
    """The same moments of one street by day and at dusk."""
    moments = range(0, 1200, 150)
    drawn = []
    try:
        for light in ("day", "dusk"):
            renderer = Renderer(street := Street(StreetConfig(seed=2, frames=1200, size_wh=SIZE, light=light)))
            drawn.append([renderer.draw(index) for index in moments])
            renderer.close()
    except RenderError as error:
        pytest.skip(str(error))
    return street, drawn


def empty_street(frames: list[Drawn]) -> Picture:
    """The middle of what is seen of each pixel while nothing is there; where something always is, of all."""
    pictures = np.stack([frame.bgr for frame in frames])
    taken = np.stack([np.any([mask.full(*SIZE[::-1]) for mask in frame.amodal], axis=0) for frame in frames])
    taken &= ~taken.all(axis=0)
    return np.asarray(np.nanmedian(np.where(taken[..., None], np.nan, pictures), axis=0), np.uint8)


def test_objects_look_more_as_they_do_at_another_hour(two_hours: tuple[Street, list[list[Drawn]]]) -> None:
    """Rendered truth, both ways, wherever objects are whole: the error of their colours."""
    street, drawn = two_hours
    plates = [empty_street(hour) for hour in drawn]
    maps = light_maps(plates)
    known = np.ones(SIZE[::-1], bool)
    plain, ours = [], []
    for old, new in ((0, 1), (1, 0)):
        for seen, truth in zip(drawn[old], drawn[new], strict=True):
            for record, amodal in zip(annotation_records(street, 0, seen), seen.amodal, strict=True):
                x0, y0, x1, y1 = amodal.box_xyxy
                if record["occlusion_fraction"] > 0 or record["truncated"] or amodal.area < 100:
                    continue
                rows, columns = slice(max(0, y0 - 6), y1 + 6), slice(max(0, x0 - 6), x1 + 6)
                mask = amodal.full(*SIZE[::-1])[rows, columns]
                light = own_light(
                    maps[old].at(amodal.box_xyxy), seen.bgr[rows, columns], mask, plates[old][rows, columns],
                    known[rows, columns],
                )  # fmt: skip
                gain = gains(light, maps[new].at(amodal.box_xyxy))
                there = truth.bgr[y0:y1, x0:x1][amodal.mask].astype(int)
                plain.append(np.abs(seen.bgr[y0:y1, x0:x1][amodal.mask] - there).mean())
                ours.append(np.abs(relit(seen.bgr[y0:y1, x0:x1], gain)[amodal.mask] - there).mean())
    assert len(plain) > 30
    assert np.mean(plain) > 1.5 * np.mean(ours)


def test_rendered_vehicles_have_their_boxes_in_pixels(two_hours: tuple[Street, list[list[Drawn]]]) -> None:
    street, (day, _) = two_hours
    looked = 0
    for frame in day:
        for record in annotation_records(street, frame.index, frame):
            assert (record["cuboid"] is None) == (record["bbox_3d"] is None)
            if record["cuboid"] is None or record["truncated"]:
                continue
            corners = np.array(record["cuboid"])
            x, y, width, height = record["bbox"]
            assert (corners[:4, 1] > corners[4:, 1]).all(), "those on the ground first"
            assert (corners.min(axis=0) <= (x + 2, y + 2)).all()
            assert (corners.max(axis=0) >= (x + width - 2, y + height - 2)).all()
            looked += 1
    assert looked >= 2


def test_clips_know_their_light(tmp_path: Path) -> None:
    """The plate of 23 h is drawn brighter than that of noon."""
    material = load_material(write_scene(tmp_path, some_things(), hours=(12, 23)))
    noon, bright = material.backdrops
    for cutout in material.cutouts:
        assert gain_at(cutout, bright, cutout.box_xyxy) > gain_at(cutout, noon, cutout.box_xyxy)
