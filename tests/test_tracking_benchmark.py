from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.identities import NOBODY, Answer, bootstrap, fewer_switches, judge
from benchmarks.passing import Flaws, detect, visible_only
from benchmarks.simple_trackers import Sort
from walt_edge.contract.instances import AmodalInstances
from walt_edge.contract.masks import PatchMask


def answers(rows: list[list[tuple[int, int]]], hidden: frozenset[int] = frozenset()) -> list[Answer]:
    """One list of (owner, track) for each frame."""
    out = []
    for pairs in rows:
        owners, tracks = np.array(pairs, np.int64).reshape(-1, 2).T
        out.append(Answer(frozenset(o for o in owners.tolist() if o != NOBODY), hidden, owners, tracks))
    return out


@pytest.mark.parametrize(
    ("rows", "switches", "fragments", "idf1"),
    [
        ([[(1, 5)], [(1, 5)]], 0, 0, 1.0),
        ([[(1, 5)], [(1, 6)], [(1, 5)]], 2, 0, 2 / 3),
        ([[(1, 5), (2, 6)], [(1, 6), (2, 5)]], 2, 0, 0.5),
        ([[(1, 5)], [(1, NOBODY)], [(1, 5)]], 0, 1, 0.8),
        ([[(1, 5), (NOBODY, 7)]], 0, 0, 2 / 3),
    ],
)
def test_counts(rows: list[list[tuple[int, int]]], switches: int, fragments: int, idf1: float) -> None:
    counts = judge(answers(rows))
    assert (counts.switches, counts.fragments) == (switches, fragments)
    assert counts.idf1 == pytest.approx(idf1)


@pytest.mark.parametrize(("after", "kept"), [(5, 1), (6, 0)])
def test_who_returns_after_hiding_is_counted(after: int, kept: int) -> None:
    film = answers([[(1, 5)]]) + answers([[], [], []], hidden=frozenset({1})) + answers([[(1, after)]])
    counts = judge(film)
    assert (counts.returns, counts.kept) == (1, kept)


def test_an_interval_holds_the_figure() -> None:
    one = [judge(answers([[(1, 5)], [(1, 6)]]))] * 3
    other = [judge(answers([[(1, 5)], [(1, 6)], [(1, 5)]]))] * 3
    assert fewer_switches(one, other) == pytest.approx(50)
    assert np.allclose(bootstrap(one, other, fewer_switches, seed=1, rounds=50), 50)


def street() -> tuple[AmodalInstances, NDArray[np.int64]]:
    """One in the open, one three quarters hidden, one hidden altogether."""
    masks = [PatchMask(100 * place, 50, np.ones((60, 24), bool)) for place in (1, 2, 3)]
    fronts = [np.zeros((60, 24), bool) for _ in masks]
    fronts[1][15:] = True
    fronts[2][:] = True
    whole = AmodalInstances.of_masks((640, 360), [1, 1, 1], [1, 1, 1], masks)
    layers = tuple(PatchMask(m.x, m.y, front) for m, front in zip(masks, fronts, strict=True))
    truth = AmodalInstances(
        whole.frame_wh, whole.boxes_xyxy, whole.labels, whole.scores, whole.amodal, layers, layers
    )
    return truth, np.array([11, 12, 13])


def test_detections_follow_what_is_seen() -> None:
    truth, ids = street()
    rng = np.random.default_rng(1)
    owners = [detect(truth, ids, rng, Flaws()).owners for _ in range(400)]
    share = {one: np.mean([one in found for found in owners]) for one in (11, 12, 13)}
    assert share[11] == pytest.approx(0.95, abs=0.04)
    assert share[12] == pytest.approx(0.95 * 0.375, abs=0.08)
    assert share[13] == 0


def test_both_kinds_show_the_same_objects() -> None:
    truth, ids = street()
    made = detect(truth, ids, np.random.default_rng(3), Flaws(found=1.0, false_share=0.9))
    assert len(made.amodal) == len(made.visible) == len(made.owners)
    assert (made.amodal.scores == made.visible.scores).all()
    assert NOBODY in made.owners
    seen, rows = visible_only(truth)
    assert rows.tolist() == [0, 1]
    assert seen.boxes_xyxy[1].tolist() == [200, 50, 224, 65]


def test_sort_follows_a_box() -> None:
    tracker = Sort(1.0, 0.4)
    masks = [PatchMask(100 + 4 * step, 50, np.ones((60, 24), bool)) for step in range(6)]
    told = [
        tracker.update(AmodalInstances.of_masks((640, 360), [1], [0.9], [mask]), step / 5)
        for step, mask in enumerate(masks)
    ]
    assert told[0] == {}
    assert all(one == {0: 1} for one in told[1:])
