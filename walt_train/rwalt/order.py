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

from walt_train.rwalt.meshes import Floats


@dataclass(frozen=True, slots=True, eq=False)
class Standing:
    """What the order needs to know of one thing.

    Attributes:
        outline: (V, 2) convex footprint, metres.
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
    distance = [float(np.min(np.hypot(*(thing.outline - eye_xy).T))) for thing in things]
    behind: list[list[int]] = [[] for _ in things]
    ahead = [0] * len(things)
    for near, far in _hiding_pairs(things, eye_xy, distance):
        behind[near].append(far)
        ahead[far] += 1
    return _topological(behind, ahead, distance)


def _hiding_pairs(things: Sequence[Standing], eye_xy: Floats, distance: list[float]) -> list[tuple[int, int]]:
    if not things:
        return []
    boxes = np.array([thing.box for thing in things])
    meet = (boxes[:, None, :2] < boxes[None, :, 2:]).all(-1)
    pairs = np.argwhere(np.triu(meet & meet.T, 1))
    out = []
    for first, second in pairs.tolist():
        if _first_is_nearer(things[first], things[second], eye_xy, distance[first] <= distance[second]):
            out.append((first, second))
        else:
            out.append((second, first))
    return out


def _first_is_nearer(first: Standing, second: Standing, eye_xy: Floats, closer: bool) -> bool:
    gap, normal, edge = max(
        (_widest_gap(first.outline, second.outline), _widest_gap(second.outline, first.outline, flip=True)),
        key=lambda g: g[0],
    )
    if gap < 0:
        if first.bottom_m >= second.top_m - 0.25:
            return True
        if second.bottom_m >= first.top_m - 0.25:
            return False
        return closer
    side = float(normal @ eye_xy)
    if side <= edge:
        return True
    if side >= edge + gap:
        return False
    return closer


def _widest_gap(first: Floats, second: Floats, flip: bool = False) -> tuple[float, Floats, float]:
    """The widest separation along the edge normals of `first`: (gap, normal towards `second`, where it begins).

    With `flip` the normal points from `second` to `first`, so that both calls speak of the same direction.
    """
    edges = np.roll(first, -1, axis=0) - first
    normals = np.stack([edges[:, 1], -edges[:, 0]], axis=-1)
    normals /= np.maximum(np.hypot(*normals.T), 1e-9)[:, None]
    normals *= np.sign(np.sum(normals * (first - first.mean(axis=0)), axis=1))[:, None]
    own = (first @ normals.T).max(axis=0)
    other = (second @ normals.T).min(axis=0)
    best = int(np.argmax(other - own))
    gap = float(other[best] - own[best])
    if flip:
        return gap, -normals[best], -float(other[best])
    return gap, normals[best], float(own[best])


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
