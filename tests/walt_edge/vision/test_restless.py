from __future__ import annotations

import dataclasses
from collections.abc import Callable

import cv2
import numpy as np
import pytest

from tests.fakes.scenes import Scene, Thing, sway, walk
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import Mask, PatchMask
from walt_edge.vision.ground import Sizes
from walt_edge.vision.motion import find_motion
from walt_edge.vision.plate import Plate, SampleBuffer
from walt_edge.vision.restless import Restlessness
from walt_edge.vision.settings import WatchSettings

SETTINGS = WatchSettings()
WH = (480, 320)
AT = (200.0, 260.0)
WARM_UP_S = 12.0


def learned(scene: Scene, settings: WatchSettings = SETTINGS) -> tuple[Plate, Restlessness]:
    buffer = SampleBuffer(0.3, 40)
    for frame in scene.frames(WARM_UP_S, fps=3):
        buffer.offer(frame.bgr, frame.captured.media_time_s)
    plate = Plate.learn(buffer, SETTINGS)
    restless = Restlessness(scene.wh, settings)
    restless.learn(buffer.frames, plate)
    return plate, restless


def watch_on(
    scene: Scene, plate: Plate, restless: Restlessness, seconds: float, passing: tuple[int, ...] = ()
) -> None:
    """Goes on from the warm-up as the watcher does; `passing` are the things that it has outlines of."""
    height, width = scene.wh[1], scene.wh[0]
    for frame in scene.frames(seconds, fps=2.5, start_s=WARM_UP_S):
        outlines = np.zeros((height, width), bool)
        for index in passing:
            outlines |= scene.things[index].mask(frame.captured.media_time_s, (height, width))
        motion = find_motion(frame.bgr, plate, SETTINGS)
        restless.note(frame.bgr, motion, plate, outlines, 0.4)
    restless.find(plate, None)


def head(height: int, at_xy: tuple[float, float] = AT) -> Mask:
    """The disc of a stander's head, upright."""
    y, x = np.mgrid[: WH[1], : WH[0]]
    disc: Mask = (x - at_xy[0]) ** 2 + (y - (at_xy[1] - 0.92 * height)) ** 2 <= (0.08 * height) ** 2
    return disc


@pytest.mark.parametrize("height", [40, 70, 110, 170])
def test_heads_of_people_who_stand_in_the_plate_are_found(height: int) -> None:
    scene = Scene(wh=WH, things=[Thing(sway(AT), "stander", height)])
    _, restless = learned(scene)
    assert restless.mask[head(height)].mean() > 0.95
    feet = restless.mask[round(AT[1] - 0.3 * height) :, :]
    assert not feet.any(), "no more than head and shoulders"
    assert restless.mask.mean() < 0.02 + 0.3 * height**2 / (WH[0] * WH[1])


def test_two_people_side_by_side_are_found_both() -> None:
    places = [(180.0, 260.0), (212.0, 262.0)]
    colours = [(40, 30, 150), (150, 60, 30)]
    scene = Scene(wh=WH, things=[Thing(sway(p), "stander", 100, c) for p, c in zip(places, colours, strict=True)])
    _, restless = learned(scene)
    for place in places:
        assert restless.mask[head(100, place)].mean() > 0.95


@pytest.mark.parametrize(
    ("things", "light"),
    [
        pytest.param([], lambda _: 1.0, id="an empty place"),
        pytest.param([], lambda t: 1.0 + 0.05 * np.sin(t), id="light that changes"),
        pytest.param([Thing(sway(AT, by_px=0.0), "stander", 100)], lambda _: 1.0, id="a statue"),
        pytest.param(
            [Thing(walk((-90, 200), (110, 0), 3.0 * n), "car", 60, (30 * n, 200, 90)) for n in range(5)],
            lambda _: 1.0,
            id="traffic",
        ),
    ],
)
def test_nothing_is_found_where_nobody_stands(things: list[Thing], light: Callable[[float], float]) -> None:
    _, restless = learned(Scene(wh=WH, things=things, light=light, poles=[(40, 60, 50, 320)]))
    assert not restless.mask.any()


def gone(restless: Restlessness, plate: Plate) -> None:
    """Who stood there leaves; the hole that is left is healed by the watcher."""
    for frame in Scene(wh=WH).frames(4, start_s=WARM_UP_S):
        motion = find_motion(frame.bgr, plate, SETTINGS)
        plate.follow(frame.bgr, motion.difference, np.zeros((WH[1], WH[0]), bool), 30.0)
    watch_on(Scene(wh=WH), plate, restless, 60.0)


@pytest.mark.parametrize("hold_s", [0.0, 300.0])
def test_who_has_gone_is_held_for_a_time(hold_s: float) -> None:
    scene = Scene(wh=WH, things=[Thing(sway(AT), "stander", 100)])
    plate, restless = learned(scene, dataclasses.replace(SETTINGS, restless_hold_s=hold_s))
    assert restless.mask.any()
    gone(restless, plate)
    assert bool(restless.mask[head(100)].all()) == (hold_s > 0)
    for _ in range(300):
        restless.find(plate, None)
    assert not restless.mask.any()


def test_who_was_seen_to_leave_is_forgotten_and_nobody_else_is() -> None:
    other = (AT[0] + 120, AT[1])
    scene = Scene(wh=WH, things=[Thing(sway(AT), "stander", 100), Thing(sway(other), "stander", 100)])
    _, restless = learned(scene)
    restless.hold(PatchMask.from_full(head(100)))
    restless.forget(PatchMask.from_full(scene.things[0].mask(WARM_UP_S, (WH[1], WH[0]))))
    assert not restless.mask[head(100)].any()
    assert restless.mask[head(100, other)].all()


def test_who_became_part_of_the_plate_is_held_until_seen_to_leave() -> None:
    plate, restless = learned(Scene(wh=WH))
    restless.hold(PatchMask.from_full(head(100)))
    for _ in range(1000):
        restless.find(plate, None)
    assert restless.mask[head(100)].all()
    restless.forget(PatchMask.from_full(head(100)))
    assert not restless.mask.any()


@pytest.mark.parametrize("height", [40, 70])
def test_a_picture_that_is_to_show_nobody_shows_no_small_head_that_fidgets(height: int) -> None:
    """Whatever it is taken for: a head is hidden without the rest of the body."""
    scene = Scene(wh=WH, things=[Thing(sway(AT), "stander", height)])
    _, restless = learned(scene, dataclasses.replace(SETTINGS, restless_heights=(0.9, 0.9), restless_px_min=1e9))
    assert not restless.mask.any(), "nobody is recognised"
    near = cv2.dilate(restless.blobs.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0  # as the anonymiser grows it
    assert near[head(height)].mean() > 0.95


def test_who_is_passed_all_the_time_is_not_forgotten() -> None:
    """A car behind most of the time; its outline is known."""
    cars = [Thing(walk((-90, 230), (240, 0), WARM_UP_S + 1.1 * n), "car", 120, (90, 200, 90)) for n in range(25)]
    scene = Scene(wh=WH, things=[*cars, Thing(sway(AT), "stander", 100)])
    plate, restless = learned(scene)
    watch_on(scene, plate, restless, 28.0, passing=tuple(range(25)))
    assert restless.mask[head(100)].mean() > 0.95


def test_patches_of_another_size_than_people_have_there_are_nobody() -> None:
    scene = Scene(wh=WH, things=[Thing(sway(AT), "stander", 60)])
    plate, restless = learned(scene, dataclasses.replace(SETTINGS, restless_hold_s=0.0))
    assert restless.mask.any()
    sizes = Sizes()
    for track in range(10):
        sizes.add(Label.PERSON, 200.0 + 10 * track, 160.0, 160.0**2 * 0.2, track)
    restless.find(plate, sizes)
    assert not restless.mask.any()
