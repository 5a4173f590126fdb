"""Poles, trees and signs of a timeline, learned from who passed behind them.

What they hide of a standing object is missing in every frame, so no vote over frames brings it back.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from walt_edge.contract.masks import Mask, PatchMask, decode_rle
from walt_edge.vision.settings import WatchSettings
from walt_edge.vision.static_occluders import Footprint, StaticOccluders
from walt_edge.watching.tracking import Match, Tracker
from walt_train.metrics.swalt import Timeline
from walt_train.mining.stationary import SECOND_US

_MARGIN, _MARGIN_PX = 0.4, 4
"""Around a silhouette, of its sides: wider than the gaps that it can bridge."""


def learned_static(timeline: Timeline) -> Mask:
    """(H, W) what objects of the timeline were seen to pass behind."""
    settings = WatchSettings()
    tracker, occluders = Tracker(settings), StaticOccluders(timeline.frame_wh, settings)
    trails: dict[int, list[Footprint]] = defaultdict(list)
    for rows, time_us in zip(timeline.rows, timeline.times_us.tolist(), strict=True):
        time_s = time_us / SECOND_US
        areas = [timeline.visible[row].area for row in rows]
        matches = tracker.update(timeline.boxes_xyxy[rows.start : rows.stop], areas, time_s)
        for match, footprint in _footprints(timeline, rows, matches, time_s):
            if match.track is not None:
                trails[match.track.id].append(footprint)
        for track in tracker.ended(time_s):
            occluders.learn(trails.pop(track.id, []))
    for trail in trails.values():
        occluders.learn(trail)
    mask: Mask = np.zeros(timeline.frame_wh[::-1], bool)
    for thing in occluders.things():
        mask |= decode_rle(thing.mask)
    return mask


def _footprints(
    timeline: Timeline, rows: range, matches: Sequence[Match], time_s: float
) -> list[tuple[Match, Footprint]]:
    """Each silhouette with the loose pieces around it, and what else was seen there."""
    masks = [timeline.visible[row] for row in rows]
    loose = [mask for mask, match in zip(masks, matches, strict=True) if match.track is None]
    found = []
    for mask, match in zip(masks, matches, strict=True):
        if match.track is None or not mask.area:
            continue
        box, whole = _around(mask, timeline.frame_wh)
        own = _painted([mask, *loose], box)
        others = _painted([other for other in masks if other is not mask], box) & ~own
        # What the border of the frame cuts off would be taken for a gap.
        usable = whole and not match.merged_with
        found.append((match, Footprint(time_s, PatchMask(box[0], box[1], own), others, usable)))
    return found


def _painted(masks: Sequence[PatchMask], box_xyxy: tuple[int, int, int, int]) -> Mask:
    painted = np.zeros((box_xyxy[3] - box_xyxy[1], box_xyxy[2] - box_xyxy[0]), bool)
    for mask in masks:
        painted |= mask.window(box_xyxy)
    return painted


def _around(mask: PatchMask, frame_wh: tuple[int, int]) -> tuple[tuple[int, int, int, int], bool]:
    """A window around a mask, and whether all of it is in the frame."""
    x0, y0, x1, y1 = mask.box_xyxy
    dx, dy = (round(_MARGIN * side) + _MARGIN_PX for side in (x1 - x0, y1 - y0))
    box = x0 - dx, y0 - dy, x1 + dx, y1 + dy
    clipped = max(0, box[0]), max(0, box[1]), min(frame_wh[0], box[2]), min(frame_wh[1], box[3])
    return clipped, clipped == box
