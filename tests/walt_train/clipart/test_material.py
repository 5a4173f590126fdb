from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests.clipart import FRAME_WH, Thing, draw, moved, plate_image, some_things, write_scene
from walt_edge.contract.clipart import ClipArtError, StaticThing, read_clipart, write_clipart
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import Mask, Rle, encode_rle
from walt_train.clipart.height import fit_height_line
from walt_train.clipart.material import load_material
from walt_train.clipart.pieces import soft_edge
from walt_train.clipart.plates import fill_unknown, trusted
from walt_train.clipart.read import hours_apart


@given(arrays(bool, (9, 7)))
def test_alpha_is_half_exactly_where_the_mask_is(mask: Mask) -> None:
    assert np.array_equal(soft_edge(mask) >= 128, mask)


def test_edges_are_ramps_and_insides_opaque() -> None:
    mask = np.zeros((9, 9), dtype=bool)
    mask[2:7, 2:7] = True
    row = soft_edge(mask)[4].tolist()
    assert row == [0, 64, 192, 255, 255, 255, 192, 64, 0]


def test_cutouts_lie_where_they_were_seen(tmp_path: Path) -> None:
    things = some_things()
    material = load_material(write_scene(tmp_path, things))
    assert material.frame_wh == FRAME_WH
    assert material.labels == (Label.PERSON, Label.VEHICLE)
    for thing, cutout in zip(things, material.cutouts, strict=True):
        image, mask = draw(thing)
        inside = np.argwhere(mask)
        width, height = thing.size_wh
        left, top = thing.x - width // 2 - 4, thing.row - height - 4
        low, high = inside.min(axis=0), inside.max(axis=0) + 1
        assert cutout.box_xyxy == (left + low[1], top + low[0], left + high[1], top + high[0])
        assert np.array_equal(cutout.alpha[1:-1, 1:-1] >= 128, mask[low[0] : high[0], low[1] : high[1]])
        assert np.array_equal(cutout.image_bgr, image[low[0] - 1 : high[0] + 1, low[1] - 1 : high[1] + 1])


def test_holdout_never_enters(tmp_path: Path) -> None:
    things = some_things()
    kept_out = [moved(things[0], track=99, holdout=True), *things]
    material = load_material(write_scene(tmp_path, kept_out))
    assert len(material.cutouts) == len(things)
    with pytest.raises(ClipArtError, match="1 of them holdout, none to train on: mine more"):
        load_material(write_scene(tmp_path / "held", [kept_out[0]]))


def test_a_parked_car_is_one_object(tmp_path: Path) -> None:
    parked = Thing(Label.VEHICLE, 100, 120, 1, still=True)
    things = [
        parked,
        Thing(Label.PERSON, 200, 120, 2),
        moved(parked, track=3, x=101),  # lost and found again
        moved(parked, track=4, x=170),  # another one beside it
        moved(parked, track=5, still=False),  # drives by
        Thing(Label.PERSON, 210, 125, 2),  # seen twice
    ]
    material = load_material(write_scene(tmp_path, things))
    assert [cutout.object_id for cutout in material.cutouts] == [1, 2, 1, 3, 4, 2]


def test_the_hash_names_pixels_and_places(tmp_path: Path) -> None:
    things = some_things()
    base = load_material(write_scene(tmp_path / "a", things)).sha256
    assert load_material(write_scene(tmp_path / "b", things)).sha256 == base
    others = [things[:-1], [moved(things[0], x=141), *things[1:]], [moved(things[0], track=77), *things[1:]]]
    hashes = {load_material(write_scene(tmp_path / str(n), other)).sha256 for n, other in enumerate(others)}
    hashes.add(load_material(write_scene(tmp_path / "c", things, hours=(13,))).sha256)
    assert len(hashes | {base}) == 5


def test_the_height_line_is_found_among_strays() -> None:
    straight = [(row, row // 2 - 20) for row in range(100, 300, 10)]
    line = fit_height_line([*straight, (150, 200), (250, 10)])
    assert line is not None
    assert (line.top, line.bottom) == (100, 290)
    for row in (100, 200, 290):
        assert line.scaled_height(row) / 65536 == pytest.approx(row / 2 - 20, rel=0.02)


@pytest.mark.parametrize(
    "pairs",
    [
        pytest.param([(100 + row, 30) for row in range(4)], id="too few"),
        pytest.param([(100, 30 + n) for n in range(9)], id="one row"),
        pytest.param([(100 + n, 90 - 4 * n) for n in range(9)], id="farther is taller"),
    ],
)
def test_no_line_where_there_is_none(pairs: list[tuple[int, int]]) -> None:
    assert fit_height_line(pairs) is None


def test_unknown_parts_of_a_plate_come_from_others_then_from_near() -> None:
    first, second = (np.full((20, 30, 3), level, np.uint8) for level in (50, 90))
    known_first, known_second = np.ones((20, 30), bool), np.ones((20, 30), bool)
    known_first[:, 10:20] = False
    known_second[:10] = False
    filled, guessed = fill_unknown([first, second], [known_first, known_second])
    assert (guessed == ~(known_first | known_second)).all()
    assert (filled[known_first] == 50).all()
    assert (filled[10:, 10:20] == 90).all()
    assert ((filled[:10, 10:20] >= 50) & (filled[:10, 10:20] <= 90)).all()


@given(arrays(bool, (11, 6)), st.integers(0, 255))
def test_filling_keeps_what_is_known_and_invents_no_colour(known: Mask, level: int) -> None:
    image = np.full((11, 6, 3), 7, np.uint8)
    image[known] = level
    if known.any():
        assert (fill_unknown([image], [known])[0] == level).all()


def test_what_the_anonymiser_filled_around_a_hole_is_not_trusted() -> None:
    known = np.ones((40, 40), bool)
    known[20, 20] = False
    assert not trusted(known)[20, 15:26].any()
    assert trusted(known)[20, 14]
    assert trusted(np.ones((5, 5), bool)).all()


def test_a_newer_plate_of_the_same_hour_replaces_the_older(tmp_path: Path) -> None:
    folder = write_scene(tmp_path, some_things(), hours=(12, 15))
    noon, afternoon = read_clipart(folder).plates
    captured = noon.header.captured
    later = msgspec.structs.replace(captured, monotonic_ns=captured.monotonic_ns + 1)
    newer = msgspec.structs.replace(
        noon, id="newer", image=afternoon.image, header=msgspec.structs.replace(noon.header, captured=later)
    )
    for plates in ([noon, afternoon, newer], [newer, afternoon, noon]):
        _change(folder, plates=plates)
        backdrops = {backdrop.plate_id: backdrop for backdrop in load_material(folder).backdrops}
        assert set(backdrops) == {"newer", afternoon.id}
        assert backdrops["newer"].hour == 12
        assert (backdrops["newer"].image_bgr == plate_image(15)).all()
    rebooted = msgspec.structs.replace(
        newer, header=msgspec.structs.replace(newer.header, captured=msgspec.structs.replace(later, boot_id="b2"))
    )
    _change(folder, plates=[noon, rebooted])
    assert len(load_material(folder).backdrops) == 2


def test_hours_wrap_at_midnight() -> None:
    assert [hours_apart(*pair) for pair in ((23, 1), (1, 23), (5, 5), (0, 12), (3, 18))] == [2, 2, 0, 12, 9]


def test_what_mining_says_of_objects_holds(tmp_path: Path) -> None:
    folder = write_scene(tmp_path, some_things(3, 1))
    clips = [
        msgspec.structs.replace(clip, object=number)
        for clip, number in zip(read_clipart(folder).clips, (9, None, 9, 5), strict=True)
    ]
    _change(folder, clips=clips)
    assert [cutout.object_id for cutout in load_material(folder).cutouts] == [1, 2, 1, 3]


def _without_plates(folder: Path) -> None:
    _change(folder, plates=[])


def _change(folder: Path, **changes: object) -> None:
    write_clipart(folder, msgspec.structs.replace(read_clipart(folder), **changes))


def _with_plate_time(folder: Path, utc_us: int) -> None:
    plate = read_clipart(folder).plates[0]
    captured = msgspec.structs.replace(plate.header.captured, utc_us=utc_us)
    header = msgspec.structs.replace(plate.header, captured=captured)
    _change(folder, plates=[msgspec.structs.replace(plate, header=header)])


def _with_mask(folder: Path, mask: Rle) -> None:
    clip = read_clipart(folder).clips[0]
    _change(folder, clips=[msgspec.structs.replace(clip, header=msgspec.structs.replace(clip.header, mask=mask))])


def _one_pixel() -> Rle:
    mask = np.zeros_like(draw(some_things()[0])[1])
    mask[5, 5] = True
    return encode_rle(mask)


def _with_points(folder: Path, point: tuple[float, float, int]) -> None:
    _change(folder, clips=[msgspec.structs.replace(read_clipart(folder).clips[0], keypoints=[point])])


def _with_static(folder: Path, shape: tuple[int, ...], ground_y: float) -> None:
    _change(folder, static=[StaticThing(mask=encode_rle(np.zeros(shape, bool)), ground_y=ground_y)])


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda folder: (folder / "clipart.json").unlink(), "no clipart.json in .*walt-edge mine"),
        (lambda folder: (folder / "clipart.json").write_text("{"), "malformed"),
        (lambda folder: (folder / "crops/0.png").unlink(), "crops/0.png, which is missing"),
        (lambda folder: (folder / "crops/0.png").write_bytes(b""), "crops/0.png is no readable image"),
        (lambda folder: (folder / "plates/12.png").write_bytes(b"x" * 99), "plates/12.png is no readable image"),
        (lambda folder: _change(folder, clips=[]), "has 0 clips, none to train on: mine more with walt-edge mine"),
        (_without_plates, "has no plate to paste over: mine more"),
        (lambda folder: _change(folder, frame_wh=(100, 60)), "mine again"),
        (lambda folder: _with_plate_time(folder, 1 << 61), "a time after the year 9999: mine again"),
        (lambda folder: _with_mask(folder, Rle(size=(2, 2), counts="04")), "its mask 2x2"),
        (lambda folder: _with_mask(folder, _one_pixel()), "crops/0.png has 1 pixel, too few"),
        (lambda folder: _with_points(folder, (999.0, 5.0, 2)), "keypoint of .* lies at 999, 5, outside the frame"),
        (lambda folder: _with_points(folder, (9.0, 5.0, 3)), "has visibility 3, it is 0, 1 or 2"),
        (lambda folder: _with_points(folder, (1e300, 5.0, 0)), "a coordinate that is no place in a picture"),
        (lambda folder: _with_static(folder, (9, 9), 5), "static thing 0 in .* has a mask of 9x9, the frames are"),
        (lambda folder: _with_static(folder, FRAME_WH[::-1], 5), "the mask of static thing 0 in .* is empty"),
        (lambda folder: _with_static(folder, FRAME_WH[::-1], 999), "stands on row 999 of a frame with 180 rows"),
    ],
)
def test_bad_clip_art_is_told_in_one_line(tmp_path: Path, spoil: Callable[[Path], object], told: str) -> None:
    folder = write_scene(tmp_path, some_things())
    spoil(folder)
    with pytest.raises(ClipArtError, match=told) as caught:
        load_material(folder)
    assert "\n" not in str(caught.value)


def test_an_empty_mask_and_a_plate_of_another_size(tmp_path: Path) -> None:
    thing = some_things()[0]
    folder = write_scene(tmp_path, [thing])
    _with_mask(folder, encode_rle(np.zeros_like(draw(thing)[1])))
    with pytest.raises(ClipArtError, match="is empty"):
        load_material(folder)
    assert plate_image(12).shape[1::-1] == FRAME_WH
