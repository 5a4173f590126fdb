"""The simulation: what moves, and that nothing walks or drives through anything."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from walt_edge.contract.errors import UsageError
from walt_train.rwalt.crowd import Crowd
from walt_train.rwalt.idle import Idle, draw_habit, idle_at
from walt_train.rwalt.people import SWING, draw_person, pose_people, stride_phase
from walt_train.rwalt.street import HELD_OUT, SHAPES, Street, StreetConfig
from walt_train.rwalt.timeline import State, Track

SEEDS = (1, 2)


@pytest.fixture(scope="module", params=[(1, "street"), (2, "busy")], ids=str)
def street(request: pytest.FixtureRequest) -> Street:
    seed, preset = request.param
    return Street(StreetConfig(seed=seed, frames=2400, preset=preset))


def present(street: Street, person: bool, time_s: float) -> list[tuple[Track, State]]:
    pairs = [(track, track.at(time_s)) for track in street.tracks if track.person == person]
    return [(track, state) for track, state in pairs if state is not None]


def times(step_s: float) -> list[float]:
    return [float(moment) for moment in np.arange(0, 240, step_s)]


def travelled(track: Track) -> float:
    distances = track.states[track.at_s >= 0, 4]
    return float(np.ptp(distances)) if distances.size else 0.0


def test_enough_goes_on(street: Street) -> None:
    moving = [track for track in street.tracks if travelled(track) > 5]
    people = sum(track.person for track in moving)
    assert people >= 20
    assert len(moving) - people >= 30


def test_people_keep_their_distance(street: Street) -> None:
    near = []
    for time_s in times(3.7):
        at = np.array([(s.x_m, s.y_m) for _, s in present(street, True, time_s)]).reshape(-1, 2)
        between = np.hypot(*(at[:, None] - at[None]).transpose(2, 0, 1))[np.triu_indices(len(at), 1)]
        near.append(between)
    distances = np.concatenate(near)
    assert (distances < 0.45).mean() < 0.002


def test_vehicles_never_overlap(street: Street) -> None:
    for time_s in times(1.3):
        vehicles = present(street, False, time_s)
        for (first, a), (second, b) in itertools.combinations(vehicles, 2):
            length = (street.vehicles[first.model].size_lwh[0] + street.vehicles[second.model].size_lwh[0]) / 2
            width = (street.vehicles[first.model].size_lwh[1] + street.vehicles[second.model].size_lwh[1]) / 2
            apart = abs(a.x_m - b.x_m) > length or abs(a.y_m - b.y_m) > width * 0.98
            assert apart, (time_s, first.track_id, second.track_id)


def test_nobody_is_run_over(street: Street) -> None:
    for time_s in times(0.9):
        for _, person in present(street, True, time_s):
            for track, vehicle in present(street, False, time_s):
                length, width, _ = street.vehicles[track.model].size_lwh
                gap_x, gap_y = abs(person.x_m - vehicle.x_m), abs(person.y_m - vehicle.y_m)
                assert gap_x > length / 2 or gap_y > width / 2, (time_s, track.track_id)


def test_vehicles_come_to_park_and_leave() -> None:
    came = 0
    for seed in range(3):
        street = Street(StreetConfig(seed=seed, frames=1500))
        lanes = [lane.y_m for lane in street.layout.road.lanes]
        for track in street.tracks:
            for begin, end in track.still_s:
                state = track.at((begin + end) / 2)
                aside = state is not None and min(abs(state.y_m - y) for y in lanes) > 1.5
                came += int(not track.person and aside and travelled(track) > 15)
    assert came >= 3


def test_more_frames_change_nothing_before() -> None:
    short, long = (Street(StreetConfig(seed=5, frames=frames, preset="busy")) for frames in (20, 300))
    for a, b in zip(short.objects(19), long.objects(19), strict=True):
        assert (a.track.track_id, a.state) == (b.track.track_id, b.state)
        assert np.array_equal(a.matrices, b.matrices)


def test_the_size_changes_the_resolution_only() -> None:
    small, large = (Street(StreetConfig(seed=5, size_wh=size)) for size in ((320, 180), (640, 360)))
    assert [a.state for a in small.objects(7)] == [b.state for b in large.objects(7)]


def _idle(count: int, share: float, time_s: float = 0.0) -> Idle:
    habits = np.stack([draw_habit(np.random.default_rng(seed)) for seed in range(count)])
    return idle_at(habits, time_s, np.full(count, share))


def test_who_stands_sways_over_feet_that_stay() -> None:
    count = 12
    models = [draw_person(np.random.default_rng(seed)) for seed in range(count)]
    nobody = np.zeros(count)
    places = np.zeros((count, 3))
    times = np.arange(0, 40, 0.25)
    points = np.stack(
        [pose_people(models, places, nobody, nobody, nobody, _idle(count, 1.0, float(t))).keypoints for t in times]
    )
    paths = np.ptp(points, axis=0)
    assert paths[:, 15:17].max() < 0.004, "ankles stay, metres"
    assert (paths[:, 0, :2].max(axis=1) > 0.03).all(), "noses do not, of anybody"
    assert paths[:, 0, :2].max() < 0.25
    assert paths[:, 9:11].max() > 0.02, "nor hands"
    assert np.abs(np.diff(points, axis=0)).max() < 0.06, "and nobody jumps"


def test_feet_do_not_slide_and_steps_have_phases() -> None:
    model = draw_person(np.random.default_rng(0))
    walked = np.arange(57, dtype=float) * 0.025
    count = len(walked)
    height = np.full(count, model.height_m, dtype=float)
    places = np.stack([walked, np.zeros(count), np.zeros(count)], axis=-1)
    phases = stride_phase(walked, height)
    pose = pose_people([model] * count, places, np.zeros(count), phases, np.full(count, 1.3), _idle(count, 0.0))
    ankles = pose.keypoints[:, 15:17]
    lower = np.argmin(ankles[:, :, 2], axis=1)
    standing = [i for i in range(1, count) if lower[i] == lower[i - 1]]
    slip = [abs(ankles[i, lower[i], 0] - ankles[i - 1, lower[i], 0]) for i in standing]
    assert np.median(slip) < 0.5 * (walked[1] - walked[0]), "the foot that stands stays behind as the body goes on"
    assert ankles[:, :, 2].min() > 0.01
    knees = np.round(pose.keypoints[:, 13, 0] - places[:, 0], 2)
    assert len(set(knees.tolist())) >= 8, "at least eight phases of gait"
    assert SWING > 0


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"size_wh": (10, 10)}, "160x120"),
        ({"frames": 0}, "at least 1"),
        ({"fps": 0.0}, "frames a second"),
        ({"skip": -1}, "0 or more"),
        ({"light": "noon"}, "dusk"),
        ({"preset": "empty"}, "busy"),
    ],
)
def test_what_cannot_be_is_said(wrong: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        StreetConfig(**wrong)  # type: ignore[arg-type]


def test_held_out_shapes_never_show_while_tuning() -> None:
    seen = {}
    for shapes in SHAPES:
        street = Street(StreetConfig(seed=3, frames=10, preset="busy", shapes=shapes))
        seen[shapes] = {street.shape_name(track) for track in street.tracks if not track.person}
    assert seen["tuning"]
    assert not seen["tuning"] & HELD_OUT
    assert seen["held-out"]
    assert seen["held-out"] <= HELD_OUT
    assert seen["all"] - HELD_OUT
    assert seen["all"] & HELD_OUT


def test_who_meet_at_the_very_same_place_part(street: Street) -> None:
    crowd = Crowd(street.layout)
    place = np.array([[3.0, 1.0], [3.0, 1.0], [3.2, 1.0]])
    wished = np.full((3, 2), 1.0)
    assert np.isfinite(crowd._avoid(place, wished, wished)).all()
    settled = crowd._separate(place, np.zeros(3, bool))
    assert np.isfinite(settled).all()
    assert np.hypot(*(settled[0] - settled[1])) > 0.1
