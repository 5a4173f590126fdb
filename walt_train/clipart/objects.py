"""Which clips show the same physical object."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from walt_edge.contract.messages import CropHeader
from walt_train.mining.stationary import FOREVER_US, find_clusters

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
    groups = [*named.values(), *_join_standing(headers, list(tracks.values()), seen_us)]
    groups.sort(key=lambda group: min((seen_us[place], place) for place in group))
    numbers = [0] * len(headers)
    for order, group in enumerate(groups, start=1):
        for place in group:
            numbers[place] = order
    return numbers


def _join_standing(headers: Sequence[CropHeader], tracks: list[list[int]], seen_us: Sequence[int]) -> list[list[int]]:
    """Joins tracks that stood in the same place with the first such track."""
    still = [_standing(headers, track) for track in tracks]
    standing = [(number, place) for number, place in enumerate(still) if place is not None]
    clusters = find_clusters(
        np.array([headers[place].box_xyxy for _, place in standing], np.float64).reshape(-1, 4),
        np.array([int(headers[place].label) for _, place in standing], np.intp),
        np.array([seen_us[place] for _, place in standing], np.int64),
        iou_min=_SAME_PLACE_IOU,
        still_us=0,
        absence_us=FOREVER_US,
        members_min=2,
    )
    joined = list(tracks)
    for cluster in clusters:
        first, *others = sorted(standing[row][0] for row in cluster.members.tolist())
        joined[first] = [place for number in (first, *others) for place in tracks[number]]
        for number in others:
            joined[number] = []
    return [track for track in joined if track]


def _standing(headers: Sequence[CropHeader], track: Sequence[int]) -> int | None:
    """The first view of a track in which it stood."""
    return next((place for place in track if headers[place].stationary_us is not None), None)
