from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections.abc import Iterable

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.fakes.scenes import FPS, Scene, Thing, walk
from walt_edge.camera import Frame
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import Mask, PatchMask, decode_rle
from walt_edge.contract.messages import CropHeader, PlateHeader, decode_envelope
from walt_edge.overview import decode_image
from walt_edge.privacy.anonymiser import AnonymisedImage, Anonymiser, PrivacyError, SealedEnvelope
from walt_edge.runtimes import Detections
from walt_edge.vision.sightings import Reason, Sighting
from walt_edge.watching.watcher import MovingCameraError, TooFewFramesError, Watcher, WatchSettings

SETTINGS = WatchSettings(warm_up_s=4.0, plate_samples=16)
WH = (480, 320)


def watcher_of(settings: WatchSettings = SETTINGS, **more: object) -> Watcher:
    return Watcher(site="s", device="d", camera="c", anonymiser=Anonymiser(), settings=settings, **more)  # type: ignore[arg-type]


def watch(watcher: Watcher, frames: Iterable[Frame]) -> tuple[list[SealedEnvelope], list[tuple[Sighting, ...]]]:
    sealed: list[SealedEnvelope] = []
    sightings: list[tuple[Sighting, ...]] = []
    for frame in frames:
        step = watcher.step(frame)
        sealed += step.sealed
        if step.frame is not None or not sightings:
            sightings.append(step.sightings)
    sightings += [step.sightings for step in watcher.drain()]
    return sealed + list(watcher.finish()), sightings


def crops(sealed: Iterable[SealedEnvelope]) -> list[CropHeader]:
    return [one.envelope.header for one in sealed if isinstance(one.envelope.header, CropHeader)]


def full_mask(header: CropHeader) -> Mask:
    return PatchMask(*header.crop_xy, decode_rle(header.mask)).full(WH[1], WH[0])


def street(**more: object) -> Scene:
    """Two walkers, a car, one after another, after a calm beginning."""
    things = [
        Thing(walk((-30, 260), (70, 0), 5.0), height=110),
        Thing(walk((520, 300), (-70, 0), 13.5), height=120, colour=(160, 40, 40)),
        Thing(walk((-90, 250), (120, 0), 22.0), "car", 70, (30, 160, 200)),
    ]
    return Scene(wh=WH, things=things, **more)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def watched() -> tuple[Watcher, list[SealedEnvelope], list[tuple[Sighting, ...]]]:
    watcher = watcher_of()
    sealed, sightings = watch(watcher, street().frames(30))
    return watcher, sealed, sightings


def test_each_object_gives_a_few_whole_crops(
    watched: tuple[Watcher, list[SealedEnvelope], list[tuple[Sighting, ...]]],
) -> None:
    watcher, sealed, _ = watched
    headers = crops(sealed)
    by_track = {header.track_id: header.label for header in headers}
    assert sorted(by_track.values()) == [Label.PERSON, Label.PERSON, Label.VEHICLE]
    assert 3 <= len(headers) <= 3 * SETTINGS.views_per_track
    assert watcher.objects_seen == 3
    assert watcher.crops_chosen == len(headers)
    scene = street()
    for header in headers:
        truths = [scene.visible(i, header.captured.media_time_s) for i in range(3)]
        own = full_mask(header)
        best = max((own & truth).sum() / (own | truth).sum() for truth in truths)
        assert best > 0.8, header.captured.media_time_s


def test_envelopes_are_complete_and_name_their_plate(
    watched: tuple[Watcher, list[SealedEnvelope], list[tuple[Sighting, ...]]],
) -> None:
    _, sealed, _ = watched
    assert isinstance(sealed[0].envelope.header, PlateHeader), "the plate goes first"
    plates = {one.id for one in sealed if isinstance(one.envelope.header, PlateHeader)}
    for one in sealed:
        assert one.id == hashlib.sha256(one.data).hexdigest()
        assert decode_envelope(one.data) == one.envelope
    for header in crops(sealed):
        assert header.plate in plates
        assert header.origin.model == "motion-1"
        assert set(header.confidence_parts) <= {reason.value for reason in Reason}
        assert header.unoccluded_confidence >= SETTINGS.confidence_min
        assert header.stationary_us is None
        x0, _, x1, y1 = header.box_xyxy
        assert x0 <= header.ground_xy[0] <= x1
        assert header.ground_xy[1] == y1


def test_the_plate_sent_is_the_empty_place(
    watched: tuple[Watcher, list[SealedEnvelope], list[tuple[Sighting, ...]]],
) -> None:
    _, sealed, _ = watched
    envelope = sealed[0].envelope
    assert isinstance(envelope.header, PlateHeader)
    picture = decode_image(sealed[0])
    known = decode_rle(envelope.header.known)
    assert known.mean() > 0.97
    assert np.abs(picture.astype(int) - street().background())[known].mean() < 3


def test_every_head_in_a_crop_is_filled(
    watched: tuple[Watcher, list[SealedEnvelope], list[tuple[Sighting, ...]]],
) -> None:
    _, sealed, _ = watched
    for one in sealed:
        header = one.envelope.header
        if isinstance(header, CropHeader) and header.label is Label.PERSON:
            picture = decode_image(one)
            mask = decode_rle(header.mask)
            top = int(np.flatnonzero(mask.any(axis=1))[0])
            height = round(header.box_xyxy[3] - header.box_xyxy[1])
            head = mask[top : top + height // 8]
            assert np.abs(picture[top : top + height // 8][head].astype(int) - 128).mean() < 4


def test_people_who_touch_are_not_chosen_while_they_do() -> None:
    things = [
        Thing(walk((-30, 280), (40, 0), 5.0), height=110),
        Thing(walk((510, 284), (-40, 0), 5.0), height=114, colour=(160, 60, 30)),
    ]
    scene = Scene(wh=WH, things=things)
    sealed, _ = watch(watcher_of(), scene.frames(19))
    headers = crops(sealed)
    assert len({header.track_id for header in headers}) == 2
    for header in headers:
        one, other = (scene.visible(i, header.captured.media_time_s) for i in (0, 1))
        kernel = np.ones((7, 7), np.uint8)
        assert not (cv2.dilate(one.astype(np.uint8), kernel).astype(bool) & other).any()


def test_nobody_half_behind_a_post_is_chosen_once_it_is_known() -> None:
    walkers = [Thing(walk((-30, 250 + 4 * n), (60, 0), 5.0 + 9 * n), height=110 + n) for n in range(5)]
    scene = Scene(wh=WH, things=walkers, poles=[(238, 60, 248, 320)])
    sealed, _ = watch(watcher_of(), scene.frames(51))
    headers = [header for header in crops(sealed) if header.captured.media_time_s > 20]
    assert len({header.track_id for header in headers}) >= 4
    post = np.zeros((WH[1], WH[0]), bool)
    post[60:320, 238:248] = True
    hidden = [
        header
        for header in headers
        for n in range(5)
        if (scene.things[n].mask(header.captured.media_time_s, (WH[1], WH[0])) & post).sum() > 60
    ]
    assert not hidden


def test_someone_who_stops_and_talks_stays_out_of_the_plate() -> None:
    def path(time_s: float) -> tuple[float, float] | None:
        if time_s < 5:
            return None
        return (min(-30 + 60 * (time_s - 5), 240.0), 280.0)

    scene = Scene(wh=WH, things=[Thing(path, height=110)])
    watcher = watcher_of(dataclasses.replace(SETTINGS, parked_s=60.0, drift_time_s=3.0))
    sealed, sightings = watch(watcher, scene.frames(26))
    assert all(any(s.silhouette.area > 800 for s in row) for row in sightings[-20:])
    assert len(crops(sealed)) >= 1
    assert max(header.stationary_us is not None for header in crops(sealed))


def test_a_parked_car_becomes_background_at_last() -> None:
    def path(time_s: float) -> tuple[float, float] | None:
        return None if time_s < 5 else (min(-90 + 120 * (time_s - 5), 240.0), 250.0)

    scene = Scene(wh=WH, things=[Thing(path, "car", 70, (30, 160, 200))])
    watcher = watcher_of(dataclasses.replace(SETTINGS, parked_s=12.0, track_budget_s=9.0))
    sealed, sightings = watch(watcher, scene.frames(30))
    assert sightings[-1] == ()
    assert any(header.stationary_us is not None for header in crops(sealed))


def test_a_ghost_is_healed() -> None:
    scene = Scene(wh=WH, things=[Thing(walk((200, 260), (0, 0), end_s=6), "box", 60)])
    _, sightings = watch(watcher_of(), scene.frames(16))
    assert any(sightings[65 - 160]), "what left is a hole in the plate at first"
    assert not any(sightings[-1])


def test_who_left_the_plate_is_not_in_the_last_one_sent() -> None:
    scene = Scene(wh=WH, things=[Thing(walk((200, 260), (0, 0), end_s=6), "box", 60)])
    sealed, _ = watch(watcher_of(), scene.frames(16))
    first, *_, last = (one for one in sealed if isinstance(one.envelope.header, PlateHeader))
    background = scene.background().astype(int)
    off_first, off_last = (np.abs(decode_image(one).astype(int) - background).max(axis=2) for one in (first, last))
    assert (off_first > 60).sum() > 1000, "it stood there from the beginning"
    assert isinstance(last.envelope.header, PlateHeader)
    known = decode_rle(last.envelope.header.known)
    assert known.mean() > 0.9
    assert not (off_last[known] > 60).any()


def test_a_moved_camera_starts_anew(caplog: pytest.LogCaptureFixture) -> None:
    scene = street(shift=lambda t: (0, 0) if t < 8 else (9, 4))
    with caplog.at_level(logging.WARNING):
        sealed, _ = watch(watcher_of(), scene.frames(18))
    assert any("camera moved by 10 px at frame" in message for message in caplog.messages)
    assert sum(isinstance(one.envelope.header, PlateHeader) for one in sealed) == 2


def test_another_view_altogether_is_another_place(caplog: pytest.LogCaptureFixture) -> None:
    watcher = watcher_of()
    other = Scene(wh=WH, seed=11)
    frames = list(Scene(wh=WH).frames(7))
    for frame in other.frames(12, start_s=7.0):
        dark = (frame.bgr * 0.3).astype(np.uint8)
        dark[::2] = 255 - dark[::2]  # nothing of the first place is left, not even by a change of light
        frames.append(Frame(dark, 70 + frame.index, frame.captured))
    with caplog.at_level(logging.WARNING):
        watch(watcher, frames[:-1])
    assert any("learning a new plate" in message for message in caplog.messages)
    watcher.step(frames[-1])
    assert [step.frame.index for step in watcher.drain() if step.frame] == [frames[-1].index]


def test_a_camera_that_keeps_moving_is_refused() -> None:
    scene = Scene(wh=WH, shift=lambda t: (round(30 * np.sin(t)), round(11 * t) % 60))
    with pytest.raises(MovingCameraError, match=r"the camera moves.*fix it to its mount"):
        watch(watcher_of(), scene.frames(30))
    with pytest.raises(MovingCameraError):
        watcher_of().prepare(scene.frames(8))


def test_too_short_a_recording_is_refused() -> None:
    with pytest.raises(TooFewFramesError, match="5 usable frames, at least 8"):
        watcher_of().prepare(Scene(wh=WH).frames(5, fps=1))


def test_another_frame_size_is_another_place() -> None:
    watcher = watcher_of()
    watch(watcher, Scene(wh=WH).frames(6))
    step = watcher.step(next(iter(Scene(wh=(320, 240)).frames(1, start_s=6))))
    assert step.image is None


class _Broken(Anonymiser):
    def __call__(
        self, bgr: NDArray[np.uint8], sightings: object, moving: Mask, also: object = None
    ) -> AnonymisedImage:
        raise PrivacyError("no")


def test_if_the_anonymiser_fails_nothing_leaves() -> None:
    watcher = Watcher(site="s", device="d", camera="c", anonymiser=_Broken(), settings=SETTINGS)
    sealed: list[SealedEnvelope] = []
    for frame in street().frames(12):
        try:
            sealed += watcher.step(frame).sealed
        except PrivacyError:
            continue
    assert sealed + list(watcher.finish()) == []


class _Blind:
    name = "blind"

    def __call__(self, bgr: NDArray[np.uint8]) -> Detections:
        return Detections(np.zeros((0, 4)), np.zeros(0), ())


def test_a_teacher_that_sees_nothing_lets_nothing_pass() -> None:
    watcher = watcher_of(detector=_Blind())
    sealed, _ = watch(watcher, street().frames(14))
    assert crops(sealed) == []
    assert watcher.rejected_by_reason[Reason.FRAGMENT.value] >= 1
    assert sealed[0].envelope.header.origin.model == "motion-1+blind"


def test_frames_may_be_skipped() -> None:
    frames = [frame for frame in street().frames(30) if frame.index % 3 != 1 or frame.index < 50]
    sealed, _ = watch(watcher_of(), frames)
    assert len({header.track_id for header in crops(sealed)}) == 3
    assert FPS == 10


def flicker(number: int) -> Thing:
    """Something that is there for a moment, elsewhere each time."""

    def path(time_s: float) -> tuple[float, float] | None:
        return (60.0 + 30 * number, 200.0) if 0 <= time_s - 7.0 - 0.8 * number < 0.15 else None

    return Thing(path, "box", 30)


def test_what_flickers_leaves_nothing_behind() -> None:
    watcher = watcher_of()
    watch(watcher, Scene(wh=WH, things=[flicker(number) for number in range(8)]).frames(20))
    assert watcher._tracker._next_id > 6, "they were followed"
    assert watcher.objects_seen == 0
    assert not watcher.judge._dossiers
