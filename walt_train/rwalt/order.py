"""Who stands before whom: a strict order of everything that can hide something.

Two things whose outlines on the ground are apart have a line between them; the one on the camera's side of it
can hide the other and cannot be hidden by it. Where outlines overlap (a crown over a person), the higher one
hides, since the camera looks down. The pairs that meet in the picture give a graph; its topological order, the
nearest first where it is free, is the depth order. The picture itself is painted in this order, so that labels
and pixels cannot disagree.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from walt_train.rwalt.meshes import Floats

Indices = NDArray[np.intp]

OVERHANG_M = 0.25
"""A crown may hang this far below the top of what it hides."""


@dataclass(frozen=True, slots=True, eq=False)
class Standing:
    """What the order needs to know of one thing.

    Attributes:
        outline: (4, 2) convex footprint, metres, in order around.
        bottom_m, top_m: Vertical extent.
        box: Half-open pixel box it may cover.
    """

    outline: Floats
    bottom_m: float
    top_m: float
    box: tuple[int, int, int, int]


def depth_ranks(things: Sequence[Standing], eye_xy: Floats) -> list[int]:
    """The rank of each thing, 0 = nearest; no two are equal.

    A cycle (three long things, each before the next) is cut at its nearest member.
    """
    if not things:
        return []
    distance = np.linalg.norm(np.stack([thing.outline for thing in things]) - eye_xy, axis=-1).min(axis=1)
    behind: list[list[int]] = [[] for _ in things]
    ahead = [0] * len(things)
    for near, far in _hiding_pairs(things, eye_xy, distance):
        behind[near].append(far)
        ahead[far] += 1
    return _topological(behind, ahead, distance.tolist())


def _hiding_pairs(things: Sequence[Standing], eye_xy: Floats, distance: Floats) -> list[tuple[int, int]]:
    """(nearer, farther) for every two things whose pixel boxes meet."""
    boxes = np.array([thing.box for thing in things])
    meet = (boxes[:, None, :2] < boxes[None, :, 2:]).all(-1)
    first, second = np.nonzero(np.triu(meet & meet.T, 1))
    nearer = _first_is_nearer(things, eye_xy, distance, first, second)
    pairs = np.where(nearer[:, None], np.stack([first, second], axis=1), np.stack([second, first], axis=1))
    return [(near, far) for near, far in pairs.tolist()]


def _first_is_nearer(
    things: Sequence[Standing], eye_xy: Floats, distance: Floats, first: Indices, second: Indices
) -> NDArray[np.bool_]:
    """(P,) whether the first of each pair hides the second."""
    outlines = np.stack([thing.outline for thing in things])
    bottoms = np.array([thing.bottom_m for thing in things])
    tops = np.array([thing.top_m for thing in things])
    gap_ab, near_a, far_b = _widest_gaps(outlines[first], outlines[second], eye_xy)
    gap_ba, near_b, far_a = _widest_gaps(outlines[second], outlines[first], eye_xy)
    apart, use_ab = np.maximum(gap_ab, gap_ba) >= 0, gap_ab >= gap_ba
    above = bottoms[first] >= tops[second] - OVERHANG_M
    below = bottoms[second] >= tops[first] - OVERHANG_M
    a_first = np.where(apart, np.where(use_ab, near_a, far_a), above)
    b_first = np.where(apart, np.where(use_ab, far_b, near_b), below & ~above)
    return np.asarray(np.where(a_first | b_first, a_first, distance[first] <= distance[second]))


def _widest_gaps(
    first: Floats, second: Floats, eye_xy: Floats
) -> tuple[Floats, NDArray[np.bool_], NDArray[np.bool_]]:
    """For P pairs of (4, 2) outlines, along that edge normal of the first which separates them most.

    Returns:
        The gap (negative where they overlap), whether the eye is on the first's side of it, or on the second's.
    """
    edges = np.roll(first, -1, axis=1) - first
    normals = np.stack([edges[..., 1], -edges[..., 0]], axis=-1)
    normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-9)
    outwards = np.einsum("pek,pek->pe", normals, first - first.mean(axis=1, keepdims=True))
    normals *= np.sign(outwards)[..., None]
    begin = np.einsum("pvk,pek->pve", first, normals).max(axis=1)
    end = np.einsum("pvk,pek->pve", second, normals).min(axis=1)
    best = np.argmax(end - begin, axis=1)[:, None]
    begin, end = np.take_along_axis(begin, best, 1)[:, 0], np.take_along_axis(end, best, 1)[:, 0]
    eye = np.take_along_axis(normals @ eye_xy, best, 1)[:, 0]
    return end - begin, eye <= begin, eye >= end


def _topological(behind: list[list[int]], ahead: list[int], distance: list[float]) -> list[int]:
    ahead = list(ahead)
    ready = [(distance[i], i) for i, count in enumerate(ahead) if count == 0]
    heapq.heapify(ready)
    left = set(range(len(ahead)))
    ranks = [0] * len(ahead)
    for rank in range(len(ahead)):
        while ready and ready[0][1] not in left:
            heapq.heappop(ready)
        chosen = heapq.heappop(ready)[1] if ready else min(left, key=lambda i: (distance[i], i))
        left.remove(chosen)
        ranks[chosen] = rank
        for far in behind[chosen]:
            ahead[far] -= 1
            if ahead[far] == 0 and far in left:
                heapq.heappush(ready, (distance[far], far))
    return ranks


def rectangle(x: float, y: float, heading: float, length: float, width: float) -> Floats:
    """(4, 2) corners of a rectangle on the ground."""
    cos, sin = np.cos(heading), np.sin(heading)
    half = np.array([(1, 1), (-1, 1), (-1, -1), (1, -1)]) * (length / 2, width / 2)
    return np.asarray(half @ np.array([[cos, sin], [-sin, cos]]) + (x, y))
