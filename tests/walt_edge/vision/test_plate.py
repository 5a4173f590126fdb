from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.fakes.scenes import Scene, Thing, walk
from walt_edge.contract.masks import PatchMask
from walt_edge.vision.motion import find_motion
from walt_edge.vision.plate import Plate, SampleBuffer, masked_median
from walt_edge.vision.settings import WatchSettings

SETTINGS = WatchSettings()


def learned(scene: Scene, seconds: float) -> tuple[Plate, SampleBuffer]:
    buffer = SampleBuffer(seconds / 24, 24)
    for frame in scene.frames(seconds, fps=4):
        buffer.offer(frame.bgr, frame.captured.media_time_s)
    return Plate.learn(buffer, SETTINGS), buffer


@given(st.integers(4, 40), st.integers(1, 400), st.floats(0.01, 2.0))
@example(6, 2, 0.0625)  # two frames are all there were
def test_buffer_is_bounded_and_spans_the_time_watched(capacity: int, count: int, spacing_s: float) -> None:
    buffer = SampleBuffer(spacing_s, capacity)
    kept = []
    for index in range(count):
        frame = np.full((1, 1, 3), index % 256, np.uint8)
        if buffer.offer(frame, index * 0.5):
            kept.append(index)
    assert 1 <= len(buffer) <= capacity
    assert buffer.frames[0][0, 0, 0] == 0
    if kept[-1] * 0.5 > capacity * spacing_s:
        assert len(buffer) >= min(capacity // 2, len(kept))


@given(st.integers(4, 12), st.integers(1, 200))
def test_buffer_takes_no_more_memory_than_at_first(capacity: int, count: int) -> None:
    buffer = SampleBuffer(1.0, capacity)
    places: dict[int, NDArray[np.uint8]] = {}  # held, so that no address can come again by chance
    for index in range(count):
        buffer.offer(np.full((2, 2, 3), index % 256, np.uint8), float(index))
        places |= {id(frame): frame for frame in buffer.frames}
    assert len(places) <= capacity
    assert len({id(frame) for frame in buffer.frames}) == len(buffer)
    values = [int(frame[0, 0, 0]) for frame in buffer.frames]
    assert values == sorted(values)


def test_walkers_are_not_in_the_plate() -> None:
    scene = Scene(things=[Thing(walk((-20, 200), (40, 0))), Thing(walk((340, 150), (-35, 0)))])
    plate, _ = learned(scene, 10)
    # The lens softens the lines of the drawn background; a walker would stand out by 60.
    assert np.quantile(np.abs(plate.bgr.astype(int) - scene.background()), 0.999) < 20
    assert plate.known.all()


def test_masks_keep_a_standing_thing_out() -> None:
    scene = Scene(things=[Thing(walk((160, 200), (0, 0), end_s=7), "box", 60)])
    frames = [frame.bgr for frame in scene.frames(10, fps=2)]
    inside = scene.things[0].mask(0, (240, 320))
    masks = [np.logical_and(inside, index < 14) for index in range(len(frames))]
    plain, _, _ = masked_median(frames, [None] * len(frames))
    masked, _, seen = masked_median(frames, list(masks))
    truth = scene.background().astype(int)
    assert np.abs(plain.astype(int) - truth)[inside].mean() > 30
    assert np.abs(masked.astype(int) - truth)[inside].mean() < 6
    assert seen.all()


def test_a_pixel_hidden_in_nearly_all_frames_is_unknown() -> None:
    frames = [np.full((4, 4, 3), 90, np.uint8)] * 12
    hidden = np.zeros((4, 4), bool)
    hidden[1, 1] = True
    _, _, seen = masked_median(frames, [hidden] * 11 + [None])
    assert not seen[1, 1]
    assert seen.sum() == 15


def test_a_busy_lane_keeps_its_noise() -> None:
    # Something else stands in the lane in two fifths of the frames: a deviation would see nothing but noise there.
    random = np.random.default_rng(5)
    frames = [random.normal(100, 1.5, (40, 40, 3)).clip(0, 255).astype(np.uint8) for _ in range(40)]
    for frame in frames[::5] + frames[1::5]:
        frame[10:20] = random.integers(0, 255)
    _, noise, _ = masked_median(frames, [None] * 40)
    assert noise[10:20].mean() <= noise[25:].mean() + 2
    assert np.median([f[10:20].std() for f in np.stack(frames).transpose(3, 0, 1, 2)]) > 20


def test_gradual_light_is_followed_and_what_stands_is_not_absorbed() -> None:
    scene = Scene(noise=0)
    plate, _ = learned(scene, 6)
    occupied = np.zeros((240, 320), bool)
    occupied[100:140, 100:140] = True
    before = plate.bgr.copy()
    for step in range(120):
        frame = np.clip(scene.background() * (1 + 0.002 * min(step, 60)), 0, 255).astype(np.uint8)
        frame[occupied] = (10, 200, 10)
        plate.follow(frame, find_motion(frame, plate, SETTINGS).difference, occupied, 1.0)
    away = ~occupied
    assert np.abs(plate.bgr.astype(int) - np.clip(scene.background() * 1.12, 0, 255))[away].mean() < 3
    assert (plate.bgr[occupied] == before[occupied]).all()


def test_adopting_makes_the_patch_known_and_current() -> None:
    scene = Scene(noise=0)
    plate, _ = learned(scene, 6)
    frame = scene.background()
    frame[50:60, 50:60] = 250
    patch = PatchMask(50, 50, np.ones((10, 10), bool))
    plate.known[50:60, 50:60] = False
    plate.adopt(frame, patch)
    assert (plate.bgr[50:60, 50:60] == 250).all()
    assert plate.known[50:60, 50:60].all()


def test_a_picture_that_is_all_noise_is_learned_again_without_much_memory() -> None:
    random = np.random.default_rng(2)
    buffer = SampleBuffer(1.0, 40)
    for index in range(40):
        buffer.offer(random.integers(0, 255, (120, 160, 3)).astype(np.uint8), float(index))
    plate = Plate.learn(buffer, SETTINGS)
    assert not plate.known.any()
    tracemalloc.start()
    try:
        plate.relearn(buffer)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 3 * sum(frame.nbytes for frame in buffer.frames)


def test_pixels_that_were_too_busy_are_learned_later() -> None:
    random = np.random.default_rng(2)
    buffer = SampleBuffer(1.0, 40)
    calm = np.full((60, 60, 3), 80, np.uint8)
    for index in range(12):
        frame = calm.copy()
        frame[20:40, 20:40] = random.integers(0, 255, 3)
        buffer.offer(frame, float(index))
    plate = Plate.learn(buffer, SETTINGS)
    assert not plate.known[25:35, 25:35].any()
    for index in range(12, 40):
        buffer.offer(calm, float(index))
    assert plate.relearn(buffer) > 0
    assert plate.known.all()
    assert plate.bgr[30, 30].tolist() == pytest.approx([80, 80, 80], abs=2)
