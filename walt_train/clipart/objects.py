"""Which clips show the same physical object."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.messages import CropHeader

_SAME_PLACE_IOU = 0.7


def physical_objects(
    headers: Sequence[CropHeader], seen_us: Sequence[int], known: Sequence[int | None] | None = None
) -> list[int]:
    """A number for each clip's physical object, from 1 by the time it was first seen.

    What mining says holds. Of the others a track is one object. So are tracks of a class that stood still in the
    same place: a parked car that was lost and found again is pasted once.

    Args:
        headers: Of the clips.
        seen_us: When each was seen, as `believed_times` has it.
        known: The object that mining found each to be; None where it did not say.
    """
    named: dict[int, list[int]] = {}
    tracks: dict[tuple[str, str, int], list[int]] = {}
    for place, (header, number) in enumerate(zip(headers, known or [None] * len(headers), strict=True)):
        if number is not None:
            named.setdefault(number, []).append(place)
        else:
            tracks.setdefault((header.origin.device, header.captured.boot_id, header.track_id), []).append(place)
    groups = [*named.values(), *_join_standing(headers, list(tracks.values()))]
    groups.sort(key=lambda group: min((seen_us[place], place) for place in group))
    numbers = [0] * len(headers)
    for order, group in enumerate(groups, start=1):
        for place in group:
            numbers[place] = order
    return numbers


def _join_standing(headers: Sequence[CropHeader], tracks: list[list[int]]) -> list[list[int]]:
    """Joins tracks that stood in the same place with the first such track."""
    joined: list[list[int]] = []
    parked: list[tuple[int, NDArray[np.float64]]] = []  # which group, and its box and class
    for track in tracks:
        still = next((place for place in track if headers[place].stationary_us is not None), None)
        if still is None:
            joined.append(track)
            continue
        box = np.array([*headers[still].box_xyxy, int(headers[still].label)])
        same = next((group for group, other in parked if _same_place(box, other)), None)
        if same is None:
            parked.append((len(joined), box))
            joined.append(list(track))
        else:
            joined[same] += track
    return joined


def _same_place(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    if one[4] != other[4]:
        return False
    sides = np.minimum(one[2:4], other[2:4]) - np.maximum(one[:2], other[:2])
    common = float(np.prod(np.maximum(sides, 0)))
    areas = float(np.prod(one[2:4] - one[:2]) + np.prod(other[2:4] - other[:2]))
    return common >= _SAME_PLACE_IOU * (areas - common)
