"""What lies nearer, from annotations that say so in pairs, and layers that hold together whatever they say."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.labels import Label
from walt_edge.contract.masks import Mask, PatchMask
from walt_train.data.sample import AmodalObject

SLIVER_PX = 9
"""What hides fewer pixels than this is an outline's play, not something that stands before an object."""


class CyclicOrderError(ValueError):
    """Things lie nearer than one another in a ring; holds their places."""

    def __init__(self, places: Sequence[int]) -> None:
        super().__init__(f"things {', '.join(map(str, places))} lie in a ring")
        self.places = tuple(places)


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """Something outlined in a picture.

    Attributes:
        label: Its class; None for what only hides others.
        amodal: (H, W) bool, its full extent.
        visible: (H, W) bool, what is seen of it, as the annotation says.
        track_id: Names it in its data set.
    """

    label: Label | None
    amodal: Mask
    visible: Mask
    track_id: int


def nearest_first(count: int, pairs: Iterable[tuple[int, int]], preference: Sequence[float]) -> list[int]:
    """Places 0..count-1 so that of each pair the first comes first; free choices by the lower preference (Kahn).

    Raises:
        CyclicOrderError: The pairs contradict one another.
    """
    behind: list[set[int]] = [set() for _ in range(count)]
    for near, far in pairs:
        behind[near].add(far)
    waits = [0] * count
    for group in behind:
        for far in group:
            waits[far] += 1
    ready = [(preference[place], place) for place in range(count) if waits[place] == 0]
    heapq.heapify(ready)
    order: list[int] = []
    while ready:
        _, place = heapq.heappop(ready)
        order.append(place)
        for far in behind[place]:
            waits[far] -= 1
            if waits[far] == 0:
                heapq.heappush(ready, (preference[far], far))
    if len(order) < count:
        raise CyclicOrderError(_ring({place for place in range(count) if waits[place] > 0}, behind))
    return order


def _ring(left: set[int], behind: Sequence[set[int]]) -> list[int]:
    """Of places that wait for one another, those that are not merely behind a ring."""
    while ends := {place for place in left if not behind[place] & left}:
        left -= ends
    return sorted(left)


def order_by_sight(regions: Sequence[Region]) -> list[int]:
    """Places nearest first, as the masks tell; where they tell nothing, the lower in the picture first.

    Of two regions that share pixels, that one is nearer of which more is seen where the other is hidden. Outlines
    are never exact, so where these judgements contradict one another, those on the fewest pixels are given up.
    """
    lowest = [-float(np.flatnonzero(region.amodal.any(axis=1)).max(initial=-1)) for region in regions]
    votes = _votes(regions)
    while True:
        try:
            return nearest_first(len(regions), votes, lowest)
        except CyclicOrderError as error:
            ring = set(error.places)
            weakest = min((count, pair) for pair, count in votes.items() if ring.issuperset(pair))
            del votes[weakest[1]]


def _votes(regions: Sequence[Region]) -> dict[tuple[int, int], int]:
    """Pairs (near, far), and on how many pixels each rests."""
    hidden = [region.amodal & ~region.visible for region in regions]
    boxes = [PatchMask.from_full(region.amodal).box_xyxy for region in regions]
    votes = {}
    for one, other in itertools.combinations(range(len(regions)), 2):
        x0, y0 = max(boxes[one][0], boxes[other][0]), max(boxes[one][1], boxes[other][1])
        x1, y1 = min(boxes[one][2], boxes[other][2]), min(boxes[one][3], boxes[other][3])
        if x0 < x1 and y0 < y1:
            part = np.s_[y0:y1, x0:x1]
            before = np.count_nonzero(regions[one].visible[part] & hidden[other][part])
            after = np.count_nonzero(regions[other].visible[part] & hidden[one][part])
            if before != after:
                votes[(one, other) if before > after else (other, one)] = abs(before - after)
    return votes


def stack(
    regions: Sequence[Region], order: Sequence[int]
) -> tuple[tuple[AmodalObject, ...], tuple[tuple[int, PatchMask], ...]]:
    """Objects nearest first, and the static things before them.

    The order decides: whatever the annotated visible masks say, an object is seen where nothing nearer covers it, so
    that seen and hidden make the amodal mask, always. What the annotation hides of an object, though nothing
    outlined covers it and nothing else is seen there, becomes a static thing right before it. Regions without a
    label are static things at their place.

    Args:
        regions: Of one picture; empty amodal masks are left out.
        order: Their places, nearest first.
    """
    objects: list[AmodalObject] = []
    static: list[tuple[int, PatchMask]] = []
    if not regions:
        return (), ()
    nearer: Mask = np.zeros_like(regions[0].amodal)
    seen: NDArray[np.bool_] = np.logical_or.reduce([region.visible for region in regions])
    for place in order:
        region = regions[place]
        if not region.amodal.any():
            continue
        if region.label is None:
            static.append((len(objects), PatchMask.from_full(region.amodal)))
        else:
            unknown = region.amodal & ~region.visible & ~nearer & ~seen
            if np.count_nonzero(unknown) >= SLIVER_PX:
                static.append((len(objects), PatchMask.from_full(unknown)))
                nearer |= unknown
            objects.append(AmodalObject(region.label, PatchMask.from_full(region.amodal), region.track_id))
        nearer |= region.amodal
    return tuple(objects), tuple(static)
