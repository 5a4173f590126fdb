"""A stage of boxes seen from above: whose feet are lower in the frame stands nearer and hides what is behind."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from walt_edge.contract.instances import AmodalInstances
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import PatchMask
from walt_edge.tracking.tracker import AmodalTracker, TrackedObject, TrackingError, TrackSettings

WH = (640, 360)
STEP_S = 0.2
PERSON, VEHICLE = int(Label.PERSON), int(Label.VEHICLE)


@dataclass(frozen=True)
class Thing:
    """Somebody at one moment: where it stands, and how large it is."""

    x: float
    bottom: float
    width: float
    height: float
    label: int = PERSON

    def mask(self) -> PatchMask:
        x0, x1 = (min(max(round(self.x + sign * self.width / 2), 0), WH[0]) for sign in (-1, 1))
        y0, y1 = (min(max(round(y), 0), WH[1]) for y in (self.bottom - self.height, self.bottom))
        return PatchMask(x0, y0, np.ones((max(0, y1 - y0), max(0, x1 - x0)), bool))


def person(x: float, bottom: float = 150) -> Thing:
    return Thing(x, bottom, 18, 50)


def bus(x: float, bottom: float = 200) -> Thing:
    return Thing(x, bottom, 260, 130, VEHICLE)


def seen(things: Iterable[Thing], static: Sequence[PatchMask] = ()) -> AmodalInstances:
    """What a perfect detector says: whoever shows less than a fifth is not found."""
    masks, fronts, labels = [], [], []
    ordered = sorted(things, key=lambda thing: -thing.bottom)
    for place, thing in enumerate(ordered):
        mask = thing.mask()
        front = np.zeros_like(mask.mask)
        for nearer in [*(other.mask() for other in ordered[:place]), *static]:
            front |= nearer.window(mask.box_xyxy)
        if mask.area and front.mean() <= 0.8:
            masks.append(mask)
            fronts.append(PatchMask(mask.x, mask.y, front))
            labels.append(thing.label)
    whole = AmodalInstances.of_masks(WH, labels, [0.9] * len(labels), masks)
    return replace(whole, occluder=tuple(fronts))


def follow(
    stage: Callable[[float], Sequence[Thing]], times_s: Iterable[float], tracker: AmodalTracker | None = None
) -> list[tuple[TrackedObject, ...]]:
    tracker = tracker or AmodalTracker()
    return [tracker.update(seen(stage(time_s)), time_s) for time_s in times_s]


def steps(seconds: float, step_s: float = STEP_S) -> list[float]:
    return [round(index * step_s, 6) for index in range(int(seconds / step_s))]


def who_is_at(tracks: Iterable[TrackedObject], thing: Thing) -> TrackedObject | None:
    """Whose detection lies where a thing is."""
    for one in tracks:
        x0, _, x1, y1 = one.box_xyxy
        if one.instance is not None and abs((x0 + x1) / 2 - thing.x) < 12 and abs(y1 - thing.bottom) < 12:
            return one
    return None


def passing_bus(time_s: float) -> Thing:
    """Comes from the left at 150 px/s."""
    return bus(-150 + 150 * time_s)


def halting_bus(time_s: float) -> Thing:
    """Halts at x = 320 from second 3 to 7."""
    return bus(-130 + 150 * (min(time_s, 3) + max(0.0, time_s - 7)))


PEDESTRIANS: dict[str, Callable[[float], Thing]] = {
    "stands": lambda _: person(300),
    "walks with the bus": lambda time_s: person(200 + 25 * time_s),
    "walks against the bus": lambda time_s: person(450 - 25 * time_s),
    "turns behind the bus": lambda time_s: person(330 - 20 * abs(time_s - 3.2)),
    "stops behind the bus": lambda time_s: person(250 + 25 * min(time_s, 3)),
}


@pytest.mark.parametrize("bus_at", [passing_bus, halting_bus], ids=["passes", "halts"])
@pytest.mark.parametrize("name", PEDESTRIANS)
def test_a_pedestrian_is_the_same_after_a_bus_has_passed(name: str, bus_at: Callable[[float], Thing]) -> None:
    where = PEDESTRIANS[name]
    told = follow(lambda time_s: [where(time_s), bus_at(time_s)], times := steps(12))
    before = who_is_at(told[4], where(times[4]))
    after = who_is_at(told[-1], where(times[-1]))
    assert before is not None
    assert after is not None
    assert after.id == before.id
    assert any(one.id == before.id and one.state == "hidden" for tracks in told for one in tracks)


def test_who_is_hidden_is_told_with_whom_hides_it_and_less_and_less_surely() -> None:
    told = follow(lambda time_s: [person(300), halting_bus(time_s)], steps(7))
    walker = told[4][0].id if told[4][0].label == PERSON else told[4][1].id
    carried = [one for tracks in told for one in tracks if one.id == walker and one.state == "hidden"]
    the_bus = next(one for one in told[-1] if one.label == VEHICLE)
    assert len(carried) > 10
    assert {one.hidden_by for one in carried} == {the_bus.id}
    assert len({one.hidden_since_s for one in carried}) == 1
    assert all(one.visible_box_xyxy is None and one.occlusion_fraction >= 0.5 for one in carried)
    spreads = [one.place_std_xy[0] for one in carried]
    assert spreads[-1] > 2 * spreads[0]
    assert all(later >= 0.9 * sooner for sooner, later in itertools.pairwise(spreads))


def test_who_stands_before_the_bus_is_never_hidden() -> None:
    told = follow(lambda time_s: [person(300, bottom=260), passing_bus(time_s)], steps(8))
    assert all(one.state in ("tentative", "seen") for tracks in told for one in tracks if one.label == PERSON)


def test_two_walkers_cross() -> None:
    def stage(time_s: float) -> list[Thing]:
        return [person(200 + 30 * time_s, 150), person(400 - 30 * time_s, 164)]

    told = follow(stage, times := steps(7))
    first, last = stage(times[4]), stage(times[-1])
    for one in (0, 1):
        before, after = who_is_at(told[4], first[one]), who_is_at(told[-1], last[one])
        assert before is not None
        assert after is not None
        assert before.id == after.id


def test_a_car_halts_behind_a_lorry_and_drives_on_when_it_has_left() -> None:
    def car(time_s: float) -> Thing:
        moved = 60 * min(time_s, 2.5) + 60 * max(0.0, time_s - 9)
        return Thing(150 + moved, 150, 80, 40, VEHICLE)

    def lorry(time_s: float) -> Thing:
        return Thing(320 + 120 * max(0.0, time_s - 7), 190, 170, 110, VEHICLE)

    told = follow(lambda time_s: [car(time_s), lorry(time_s)], times := steps(11))
    before, after = who_is_at(told[4], car(times[4])), who_is_at(told[-1], car(times[-1]))
    assert before is not None
    assert after is not None
    assert before.id == after.id


def test_who_enters_a_car_and_never_returns_ends_when_it_has_left() -> None:
    def stage(time_s: float) -> list[Thing]:
        car = Thing(330 + 60 * max(0.0, time_s - 6), 175, 110, 60, VEHICLE)
        return [car, *([person(230 + 30 * time_s, 165)] if time_s < 3.4 else [])]

    told = follow(stage, steps(10))
    assert any(one.label == PERSON and one.state == "hidden" for tracks in told for one in tracks)
    assert [one.label for one in told[-1]] == [VEHICLE]


def test_who_is_not_found_in_the_open_ends_within_three_seconds() -> None:
    told = follow(lambda time_s: [person(300)] if time_s < 2 else [], times := steps(5.2))
    gone = next(time_s for time_s, tracks in zip(times, told, strict=True) if time_s > 2 and not tracks)
    assert any(one.state == "missed" for tracks in told for one in tracks)
    assert gone <= 5


def test_two_who_are_gone_do_not_hide_each_other() -> None:
    def stage(time_s: float) -> list[Thing]:
        return [person(300, 150), person(308, 152)] if time_s < 2 else []

    assert follow(stage, steps(6))[-1] == ()


def test_who_leaves_the_frame_ends() -> None:
    told = follow(lambda time_s: [person(560 + 40 * time_s)], times := steps(6))
    assert told[5]
    assert not told[-1]
    assert all(len(tracks) <= 1 for tracks in told), times


def test_who_comes_from_behind_a_bus_is_somebody_new() -> None:
    def stage(time_s: float) -> list[Thing]:
        return [person(330 + 20 * time_s), bus(320 - 40 * time_s)]

    told = follow(stage, times := steps(12))
    newcomer = who_is_at(told[-1], stage(times[-1])[0])
    assert newcomer is not None
    assert newcomer.state == "seen"
    assert len({one.id for tracks in told for one in tracks if one.label == PERSON}) == 1


def test_a_static_thing_hides_as_well() -> None:
    wall = PatchMask(280, 80, np.ones((120, 90), bool))

    def where(time_s: float) -> Thing:
        return person(200 + 30 * time_s)

    tracker, times = AmodalTracker(static_occluders=[wall]), steps(8)
    told = [tracker.update(seen([where(time_s)], [wall]), time_s) for time_s in times]
    before, after = who_is_at(told[4], where(times[4])), who_is_at(told[-1], where(times[-1]))
    assert before is not None
    assert after is not None
    assert before.id == after.id
    hidden = [one for tracks in told for one in tracks if one.state == "hidden"]
    assert hidden
    assert all(one.hidden_by is None for one in hidden)


@pytest.mark.parametrize("gap_s", [1.0, 2.0])
def test_frames_may_be_missing(gap_s: float) -> None:
    def stage(time_s: float) -> list[Thing]:
        return [person(150 + 25 * time_s), person(500 - 20 * time_s, 220), passing_bus(time_s - 5)]

    times = [time_s for time_s in steps(10) if not 2 < time_s < 2 + gap_s]
    told = follow(stage, times)
    for one in (0, 1):
        before, after = who_is_at(told[4], stage(times[4])[one]), who_is_at(told[-1], stage(times[-1])[one])
        assert before is not None
        assert after is not None
        assert before.id == after.id


def test_after_a_long_pause_only_what_stood_is_known() -> None:
    tracker = AmodalTracker()
    parked = Thing(120, 150, 90, 45, VEHICLE)
    follow(lambda time_s: [parked, person(300 + 30 * time_s)], steps(3), tracker)
    told = tracker.update(seen([parked, person(420)]), 600.0)
    assert [(one.label, one.id <= 2) for one in told] == [(VEHICLE, True), (PERSON, False)]


def test_the_label_is_voted() -> None:
    flicker = {5, 9, 10}
    tracker = AmodalTracker()
    for number, time_s in enumerate(steps(4)):
        told = tracker.update(seen([replace(person(300), label=VEHICLE if number in flicker else PERSON)]), time_s)
        assert {one.label for one in told if one.instance is not None and one.state == "seen"} <= {PERSON}
    assert len({one.id for one in told if one.instance is not None}) == 1


def test_weak_detections_continue_but_never_begin() -> None:
    tracker = AmodalTracker()
    weak = replace(seen([person(300)]), scores=np.array([0.2], np.float32))
    assert tracker.update(weak, 0.0) == ()
    for time_s in (0.2, 0.4, 0.6):
        tracker.update(seen([person(300)]), time_s)
    assert tracker.update(weak, 0.8)[0].instance == 0


def test_another_frame_size_begins_anew() -> None:
    tracker = AmodalTracker()
    first = tracker.update(seen([person(100)]), 0.0)
    smaller = AmodalInstances.of_masks((320, 180), [PERSON], [0.9], [person(100).mask()])
    assert tracker.update(smaller, 0.2)[0].id != first[0].id


@pytest.mark.parametrize("time_s", [0.9, -1.0, math.nan, math.inf])
def test_time_that_goes_back_is_refused(time_s: float) -> None:
    tracker = AmodalTracker()
    tracker.update(AmodalInstances.empty(WH), 1.0)
    with pytest.raises(TrackingError, match="frame"):
        tracker.update(AmodalInstances.empty(WH), time_s)


@pytest.mark.parametrize(
    "wrong", [{"sure_score": 0.05}, {"least_score": -1.0}, {"memory_s": 0.0}, {"gate": math.nan}]
)
def test_settings_without_a_meaning_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(TrackingError):
        TrackSettings(**wrong)


@st.composite
def films(draw: st.DrawFn) -> list[tuple[float, AmodalInstances]]:
    """Anything a detector may say: empty frames, slivers, doubles, boxes at the border, wrong labels, weak scores."""
    film, time_s = [], 0.0
    for _ in range(draw(st.integers(1, 8))):
        time_s += draw(st.sampled_from([0.0, 0.04, 0.2, 1.5, 30.0]))
        count = draw(st.integers(0, 6))
        masks = []
        for _ in range(count):
            x, y = draw(st.integers(0, WH[0] - 1)), draw(st.integers(0, WH[1] - 1))
            width, height = draw(st.integers(0, WH[0] - x)), draw(st.integers(0, WH[1] - y))
            masks.append(PatchMask(x, y, np.ones((height, width), bool)))
        labels = [draw(st.sampled_from([PERSON, VEHICLE, 7])) for _ in masks]
        scores = [draw(st.sampled_from([0.0, 0.15, 0.5, 1.0])) for _ in masks]
        fronts = tuple(PatchMask(m.x, m.y, np.full_like(m.mask, draw(st.booleans()))) for m in masks)
        film.append((time_s, replace(AmodalInstances.of_masks(WH, labels, scores, masks), occluder=fronts)))
    return film


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(films())
def test_any_film_gives_sound_tracks(film: list[tuple[float, AmodalInstances]]) -> None:
    tracker, again = AmodalTracker(), AmodalTracker()
    alive: set[int] = set()
    newest = 0
    for time_s, instances in film:
        told = tracker.update(instances, time_s)
        assert told == again.update(instances, time_s)
        ids = [one.id for one in told]
        assert ids == sorted(set(ids))
        assert all(number in alive or number > newest for number in ids)
        alive, newest = set(ids), max([newest, *ids])
        own = [one.instance for one in told if one.instance is not None]
        assert len(own) == len(set(own))
        for one in told:
            numbers = [*one.box_xyxy, *one.velocity_xy, *one.place_std_xy, one.occlusion_fraction, one.age_s]
            assert np.isfinite(numbers).all()
            x0, y0, x1, y1 = one.box_xyxy
            assert 0 <= x0 <= x1 <= WH[0]
            assert 0 <= y0 <= y1 <= WH[1]
            assert 0 <= one.occlusion_fraction <= 1
            assert (one.instance is None) or one.hidden_since_s is None
            assert one.hidden_by is None or one.hidden_by != one.id


@settings(max_examples=25, deadline=None)
@given(st.integers(-60, 60), st.integers(-20, 60), st.floats(-1000, 1000))
def test_ids_do_not_depend_on_where_and_when(dx: int, dy: int, later_s: float) -> None:
    def stage(time_s: float) -> list[Thing]:
        return [
            person(260 + 20 * time_s, 160),
            person(330 - 15 * time_s, 172),
            Thing(140 + 60 * time_s, 210, 120, 90),
        ]

    def shifted(time_s: float) -> list[Thing]:
        return [replace(one, x=one.x + dx, bottom=one.bottom + dy) for one in stage(time_s)]

    tracker = AmodalTracker()
    plain = follow(stage, times := steps(5))
    moved = [tracker.update(seen(shifted(time_s)), time_s + later_s) for time_s in times]
    assert [[(one.id, one.instance) for one in told] for told in plain] == [
        [(one.id, one.instance) for one in told] for told in moved
    ]
