from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from walt_edge.vision.settings import WatchSettings
from walt_edge.watching.tracking import Boxes, Match, Tracker, box_areas, iou_matrix, overlap_matrix

SETTINGS = WatchSettings()
boxes_strategy = st.lists(
    st.tuples(st.floats(0, 100), st.floats(0, 100), st.floats(1, 50), st.floats(1, 50)), min_size=1, max_size=6
).map(lambda rows: np.array([[x, y, x + w, y + h] for x, y, w, h in rows]))


def box(x: float, y: float = 100, w: float = 20, h: float = 50) -> list[float]:
    return [x, y, x + w, y + h]


def follow(tracker: Tracker, frames: list[list[list[float]]], step_s: float = 0.1) -> list[list[Match]]:
    matches = []
    for index, rows in enumerate(frames):
        boxes = np.array(rows, float).reshape(-1, 4)
        matches.append(tracker.update(boxes, [int(a) for a in box_areas(boxes)], index * step_s))
    return matches


def ids(matches: list[Match]) -> list[int]:
    return [match.track.id if match.track else -1 for match in matches]


@given(boxes_strategy, boxes_strategy)
def test_iou_is_symmetric_and_bounded(one: Boxes, other: Boxes) -> None:
    iou = iou_matrix(one, other)
    assert ((iou >= 0) & (iou <= 1 + 1e-9)).all()
    assert iou == pytest.approx(iou_matrix(other, one).T)
    assert np.diag(iou_matrix(one, one)) == pytest.approx(1)
    assert (overlap_matrix(one, other) <= box_areas(one)[:, None] + 1e-9).all()


@given(st.lists(boxes_strategy, min_size=1, max_size=8))
def test_assignment_is_one_to_one_and_ids_are_never_used_again(frames: list[Boxes]) -> None:
    tracker = Tracker(SETTINGS)
    dead: set[int] = set()
    for index, boxes in enumerate(frames):
        found = ids(tracker.update(boxes, [int(a) for a in box_areas(boxes)], index * 0.5))
        tracked = [one for one in found if one > 0]
        assert len(tracked) == len(set(tracked))
        assert not dead.intersection(tracked)
        dead |= {track.id for track in tracker.ended(index * 0.5)}


def test_two_walkers_pass_each_other_and_keep_their_ids() -> None:
    frames = []
    for step in range(40):
        left, right = box(10 + 6 * step), box(250 - 6 * step)
        gap = abs(left[0] - right[0])
        if gap < 20:  # one outline while they touch
            frames.append([[min(left[0], right[0]), 100, max(left[2], right[2]), 150]])
        else:
            frames.append([left, right])
    matches = follow(Tracker(SETTINGS), frames)
    first, last = matches[0], matches[-1]
    assert ids(first) == ids(last)
    together = [match for row in matches if len(row) == 1 for match in row]
    assert together
    assert all(match.merged_with for match in together)


def test_a_track_survives_a_lamp_post_and_ends_after_that() -> None:
    tracker = Tracker(SETTINGS)
    frames: list[list[list[float]]] = [[box(10 + 4 * step)] for step in range(10)]
    frames += [[] for _ in range(6)]
    frames += [[box(10 + 4 * step)] for step in range(16, 20)]
    matches = follow(tracker, frames)
    assert ids(matches[0]) == ids(matches[-1])
    assert tracker.ended(1.9 + SETTINGS.coast_s) == []
    assert [track.id for track in tracker.ended(2.5 + SETTINGS.coast_s)] == ids(matches[0])


def test_a_piece_inside_an_object_is_not_a_new_one() -> None:
    frames = [[box(10 + 4 * step)] for step in range(8)]
    frames.append([[10 + 32, 100, 10 + 47, 150], [10 + 48, 120, 10 + 52, 140]])
    matches = follow(Tracker(SETTINGS), frames)
    main, piece = matches[-1]
    assert ids([main]) == ids(matches[0])
    assert main.pieces == 1
    assert piece.track is None


def test_a_swallowed_speck_is_no_merger() -> None:
    frames: list[list[list[float]]] = [
        [box(10 + 4 * step, w=60), [20 + 4 * step, 110, 26 + 4 * step, 118]] for step in range(6)
    ]
    frames += [[box(10 + 4 * step, w=60)] for step in range(6, 9)]
    assert not any(match.merged_with for match in follow(Tracker(SETTINGS), frames)[-1])


def test_standing_is_noted() -> None:
    tracker = Tracker(SETTINGS)
    frames = [[box(10 + 5 * step)] for step in range(10)] + [[box(60)] for _ in range(60)]
    track = follow(tracker, frames)[-1][0].track
    assert track is not None
    assert track.still_since_s is not None
    assert track.stood is not None
    assert track.stood[1] - track.stood[0] > SETTINGS.stationary_s


def test_a_fast_car_is_followed_although_its_boxes_do_not_overlap() -> None:
    frames = [[box(10 + 35 * step, w=50, h=30)] for step in range(8)]
    assert {one for row in follow(Tracker(SETTINGS), frames) for one in ids(row)} == {1}
