"""Frames wait a second, raw, in bounded memory, and leave it anonymised or not at all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.fakes.scenes import FPS, Scene, Thing, frame_of, walk
from tests.walt_edge.watching.test_watcher import SETTINGS, WH, street, watcher_of
from walt_edge.camera import Frame
from walt_edge.contract.errors import UsageError
from walt_edge.contract.instances import AmodalInstances
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import Mask, PatchMask
from walt_edge.privacy.anonymiser import Anonymiser, PrivacyError
from walt_edge.privacy.holdover import Holdover, Passed
from walt_edge.watching.watcher import Watcher

SIZE = (64, 48)
NOTHING = np.zeros((SIZE[1], SIZE[0]), bool)
FACE = (20, 10, 30, 22)


@pytest.fixture(scope="module")
def film() -> list[Frame]:
    """The beginning of a street, drawn once."""
    return list(street().frames(11))


class _Faces:
    """Finds one face in the frames whose grey level is among these; fails on others."""

    name = "test"

    def __init__(self, finds: Sequence[int] = (), fails: Sequence[int] = ()) -> None:
        self._finds, self._fails = finds, fails

    def __call__(self, bgr: NDArray[np.uint8]) -> NDArray[np.float32]:
        level = int(bgr[0, 0, 0])
        if level in self._fails:
            raise RuntimeError("no memory")
        return np.array([FACE] if level in self._finds else [], np.float32).reshape(-1, 4)


def push(holdover: Holdover, index: int, fps: float = 10.0) -> list[Passed]:
    """One frame in, of the grey level of its number; what is due out."""
    frame = frame_of(np.full((SIZE[1], SIZE[0], 3), index % 200, np.uint8), index, index / fps)
    holdover.push(frame, (), (), NOTHING, {})
    frame.bgr[:] = 255  # a camera may use its memory again
    passed = holdover.due(index / fps, NOTHING)
    return [] if passed is None else [passed]


def test_frames_leave_a_second_later_in_order_and_as_they_were() -> None:
    holdover = Holdover(Anonymiser(), SIZE)
    for index in range(30):
        passed = push(holdover, index)
        assert [one.stamp.index for one in passed] == ([index - 10] if index >= 10 else [])
        assert all((one.image.bgr == one.stamp.index).all() for one in passed)
    assert len(holdover) == 10
    assert [one.stamp.index for one in holdover.drain(NOTHING)] == list(range(20, 30))


def test_after_a_gap_sinks_go_on_with_the_newest_that_is_due() -> None:
    holdover = Holdover(Anonymiser(), SIZE)
    for index in range(10):
        push(holdover, index)
    assert [one.stamp.index for one in push(holdover, 60)] == [9]
    assert holdover.oldest_s == 6.0


def test_frames_that_come_unevenly_leave_all_of_them() -> None:
    random = np.random.default_rng(2)
    times = np.cumsum(random.choice([1, 1, 1, 2], 200))
    holdover = Holdover(Anonymiser(), SIZE)
    passed = [(index, one.stamp.index) for index in times.tolist() for one in push(holdover, index)]
    passed += [(int(times[-1]), one.stamp.index) for one in holdover.drain(NOTHING)]
    assert [old for _, old in passed] == times.tolist()
    assert max(now - old for now, old in passed) <= 21


def test_without_a_delay_frames_leave_at_once() -> None:
    holdover = Holdover(Anonymiser(), SIZE, delay_s=0)
    for index in range(5):
        assert [one.stamp.index for one in push(holdover, index)] == [index]


@pytest.mark.parametrize("fps", [5.0, 10.0, 25.0, 60.0])
@pytest.mark.parametrize("room", [2, 5, 8])
def test_memory_is_bounded_and_frames_are_thinned_out_evenly(fps: float, room: int) -> None:
    size = SIZE[0] * SIZE[1] * 4
    holdover = Holdover(Anonymiser(), SIZE, memory_bytes=room * size)
    passed = []
    for index in range(round(6 * fps)):
        passed += push(holdover, index, fps)
        assert len(holdover) <= room
    times = [one.stamp.captured.media_time_s for one in passed]
    gaps = np.diff(times)
    assert len(times) > 3
    assert gaps.max() <= 1 / (room - 1) + 2.01 / fps, "none of them waits for another to leave"


@pytest.mark.parametrize("delay_s", [-0.1, 11.0, float("nan")])
def test_an_absurd_delay_is_refused(delay_s: float) -> None:
    with pytest.raises(UsageError, match="give 0 to 10"):
        Holdover(Anonymiser(), SIZE, delay_s)
    with pytest.raises(UsageError):
        watcher_of(delay_s=delay_s)


def test_a_face_covers_the_second_before_it_was_found_and_the_one_after() -> None:
    holdover = Holdover(Anonymiser(_Faces(finds=[30])), SIZE)
    shown = {}
    for index in range(60):
        for one in push(holdover, index):
            shown[one.stamp.index] = not one.image.filled[FACE[1] : FACE[3], FACE[0] : FACE[2]].all()
    assert [index for index, seen in shown.items() if not seen] == list(range(20, 41))


def test_without_a_delay_the_frames_before_show_the_face() -> None:
    holdover = Holdover(Anonymiser(_Faces(finds=[30])), SIZE, delay_s=0)
    covered = [one.stamp.index for index in range(60) for one in push(holdover, index) if one.image.filled.any()]
    assert covered == list(range(30, 41))


def test_what_fidgets_in_the_plate_is_filled_in_frames_that_wait() -> None:
    holdover = Holdover(Anonymiser(), SIZE)
    for index in range(10):
        push(holdover, index)
    unrest = NOTHING.copy()
    unrest[5:9, 5:9] = True
    passed = holdover.due(1.0, unrest)
    assert passed is not None
    assert passed.image.filled[5:9, 5:9].all()


# -- fail-closed -----------------------------------------------------------------------------------------------


def test_a_frame_that_the_detector_fails_on_is_dropped_and_the_others_are_not() -> None:
    holdover = Holdover(Anonymiser(_Faces(fails=[12])), SIZE)
    seen = []
    for index in range(40):
        if index == 12:
            with pytest.raises(PrivacyError, match="RuntimeError: no memory"):
                push(holdover, index)
        else:
            seen += [one.stamp.index for one in push(holdover, index)]
    assert seen == [index for index in range(30) if index != 12]


class _Failing(Anonymiser):
    """Cannot pass the frames with these grey levels."""

    def __init__(self, levels: Sequence[int]) -> None:
        super().__init__()
        self._levels = levels

    def _anonymise(self, bgr: NDArray[np.uint8], *rest: object) -> object:  # type: ignore[override]
        if int(bgr[0, 0, 0]) in self._levels:
            raise ValueError("broken")
        return super()._anonymise(bgr, *rest)  # type: ignore[arg-type]


def test_a_frame_that_cannot_be_anonymised_is_dropped_and_the_others_are_not() -> None:
    holdover = Holdover(_Failing([12]), SIZE)
    seen = []
    for index in range(40):
        if index == 22:
            with pytest.raises(PrivacyError, match="the frame is dropped: ValueError: broken"):
                push(holdover, index)
        else:
            seen += [one.stamp.index for one in push(holdover, index)]
    assert seen == [index for index in range(30) if index != 12]


PARTS = [
    "walt_edge.privacy.anonymiser.covers",
    "walt_edge.privacy.anonymiser.cover",
    "walt_edge.privacy.anonymiser.number_plates",
    "walt_edge.privacy.holdover.HeadMemory.note",
    "walt_edge.privacy.holdover.HeadMemory.judged",
    "walt_edge.privacy.holdover.HeadMemory.heads_at",
    "walt_edge.privacy.holdover.HeadMemory.forget",
    "walt_edge.watching.watcher.heads_of",
    "walt_edge.watching.watcher.Watcher._foreign",
    "walt_edge.privacy.anonymiser.Anonymiser.faces_in",
]


def test_whatever_part_fails_nothing_of_the_frame_passes_and_the_next_ones_do(
    film: list[Frame], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> object:
        raise MemoryError("no")

    watcher, seen = watcher_of(), AmodalInstances.empty(WH)
    handed = [watcher.step(frame, seen) for frame in film[:80]]
    for part, frame in zip(PARTS, film[80:100:2], strict=True):
        with monkeypatch.context() as patched:
            patched.setattr(part, fail)
            with pytest.raises(PrivacyError):
                watcher.step(frame, seen)
        handed.append(watcher.step(film[frame.index + 1], seen))
    handed += watcher.drain()
    shown = [step.frame.index for step in handed if step.frame]
    assert shown == sorted(set(shown))
    assert shown[-1] == 99
    missing = set(range(shown[0], 100)) - set(shown)
    # A part that fails as a frame comes in loses that one, one that fails as a frame leaves loses that.
    assert len(missing) == len(PARTS)


# -- the watcher -----------------------------------------------------------------------------------------------


def test_a_step_is_about_the_frame_of_a_second_ago(film: list[Frame]) -> None:
    watcher = watcher_of()
    lag = []
    for frame in film[:70]:
        step = watcher.step(frame)
        assert (step.frame is None) == (step.image is None)
        if step.frame is not None and step.image is not None:
            lag.append(frame.index - step.frame.index)
            shown = step.image.bgr[~step.image.filled].astype(int)
            assert (shown == film[step.frame.index].bgr[~step.image.filled]).all()
            assert not hasattr(step.frame, "bgr")
    assert set(lag) == {round(FPS)}
    assert [step.frame.index for step in watcher.drain() if step.frame] == list(range(60, 70))


STATUE = (200.0, 230.0)


def _model_sees(box: tuple[int, int, int, int], label: Label = Label.PERSON) -> AmodalInstances:
    x0, y0, x1, y1 = box
    return AmodalInstances.of_masks(WH, [int(label)], [0.3], [PatchMask(x0, y0, np.ones((y1 - y0, x1 - x0), bool))])


def _shown(watcher: Watcher, looks: dict[int, AmodalInstances], head: Mask) -> list[int]:
    """In which frames of an empty place the head is not covered."""
    scene = Scene(wh=WH, things=[Thing(walk(STATUE, (0, 0)), "stander", height=100)])
    steps = [watcher.step(frame, looks.get(frame.index)) for frame in scene.frames(8)]
    steps += list(watcher.drain())
    return [s.frame.index for s in steps if s.frame and s.image is not None and not s.image.filled[head].all()]


def test_whom_only_a_model_sees_has_no_head_around_that_moment() -> None:
    head = np.zeros((WH[1], WH[0]), bool)
    head[132:148, 194:206] = True
    box = (180, 130, 220, 230)
    shown = _shown(watcher_of(), {60: _model_sees(box)}, head)
    assert shown == [index for index in range(min(shown), 80) if not 50 <= index <= 70]
    assert min(shown) < 45


def test_a_vehicle_that_a_model_sees_keeps_its_pixels() -> None:
    head = np.zeros((WH[1], WH[0]), bool)
    head[132:148, 194:206] = True
    shown = _shown(watcher_of(), {60: _model_sees((180, 130, 220, 230), Label.VEHICLE)}, head)
    assert shown == list(range(min(shown), 80))


def test_what_a_model_sees_teaches_nothing(film: list[Frame]) -> None:
    """The same crops, with the same judgement, whether or not a model looked."""
    sure = {index: _model_sees((420, 20, 460, 120)) for index in range(110)}
    plain, looked = watcher_of(SETTINGS), watcher_of(SETTINGS)
    results = []
    for watcher, looks in ((plain, {}), (looked, sure)):
        sealed = [one for frame in film for one in watcher.step(frame, looks.get(frame.index)).sealed]
        sealed += watcher.finish()
        results.append([(one.envelope.header.captured, getattr(one.envelope.header, "score", 0)) for one in sealed])
    assert len(results[0]) > 3
    assert results[0] == results[1]
