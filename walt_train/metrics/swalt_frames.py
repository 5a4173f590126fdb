"""SWALT's frames: something passes before an object that stands still, whose whole mask is known from other frames.

What else is seen inside that mask lies before it, for else it would not be seen there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from walt_edge.contract.instances import AmodalInstances
from walt_edge.contract.masks import Mask, PatchMask
from walt_train.data.sample import AmodalObject
from walt_train.metrics.swalt import SAME_IOU, StillObject, SwaltSettings, Timeline, tight

_INSIDE = 0.9


@dataclass(frozen=True, slots=True, eq=False)
class StillFrame:
    """A frame in which something passes before an object that stands still.

    Attributes:
        frame: Its place in the timeline.
        objects: The standing objects, nearest first; `track_id` is their place among all of them.
        passing: Everything else that is seen in the frame.
    """

    frame: int
    objects: tuple[AmodalObject, ...]
    passing: PatchMask


def hidden_frames(
    timeline: Timeline,
    objects: Sequence[StillObject],
    settings: SwaltSettings,
    occluders: Sequence[AmodalInstances] | None = None,
    before: Sequence[PatchMask | None] | None = None,
) -> Iterator[StillFrame]:
    """The frames in which something passes before a standing object.

    Args:
        timeline: Of the frozen detector.
        objects: Of `still_objects`.
        settings: From when on an object counts as hidden.
        occluders: By frame, what another detector saw; it may see what this one does not. None for none.
        before: By frame, what is known to be before the standing objects: `passers`. None for nothing.
    """
    for frame, time_us in enumerate(timeline.times_us.tolist()):
        present = [
            (name, thing)
            for name, thing in enumerate(objects)
            if thing.interval_us[0] <= time_us <= thing.interval_us[1]
        ]
        if not present:
            continue
        others = [] if occluders is None else [(int(label), mask) for label, mask in _seen(occluders[frame])]
        passing = _passing(timeline, frame, [thing for _, thing in present], others)
        known = None if before is None else before[frame]
        if known is not None:
            passing |= known.full(*passing.shape)
        shown = [_Shown(name, thing, _own(timeline, frame, thing)) for name, thing in present]
        ordered = sorted(shown, key=lambda each: each.hidden_by(passing, shown))
        if any(each.hidden_by(passing, shown) >= settings.occlusion_min for each in ordered):
            yield StillFrame(
                frame,
                tuple(AmodalObject(each.thing.label, each.thing.amodal, each.name) for each in ordered),
                PatchMask.from_full(passing),
            )


def strangers(
    timeline: Timeline, frame: int, objects: Sequence[StillObject], before: PatchMask | None = None
) -> list[PatchMask]:
    """What is seen at the standing objects of a frame and is none of them: each piece may be a person.

    Eyes that see motion take a car and who walks by before it for one vehicle, and vehicles keep their heads.

    Args:
        timeline: Of the frozen detector.
        frame: Its place in the timeline.
        objects: Of `still_objects`.
        before: What is known to be before them.
    """
    width, height = timeline.frame_wh
    time_us = int(timeline.times_us[frame])
    loose, standing = np.zeros((2, height, width), bool)
    for thing in objects:
        if thing.interval_us[0] <= time_us <= thing.interval_us[1]:
            standing |= thing.amodal.full(height, width)
            for row in timeline.near(frame, thing.amodal.box_xyxy):
                loose |= timeline.visible[row].full(height, width)
    loose &= ~standing
    if before is not None:
        loose |= before.full(height, width)
    smooth = cv2.morphologyEx(loose.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    count, labels = cv2.connectedComponents(smooth, connectivity=8)
    return [tight(PatchMask.from_full(labels == index)) for index in range(1, count)]


@dataclass(frozen=True, slots=True, eq=False)
class _Shown:
    """A standing object in one frame, with what is seen of it."""

    name: int
    thing: StillObject
    own: tuple[PatchMask, ...]

    def hidden_by(self, passing: Mask, shown: Sequence[_Shown]) -> float:
        """The fraction of its amodal mask in which something else is seen: more is farther."""
        x0, y0, x1, y1 = box = self.thing.amodal.box_xyxy
        hidden = passing[y0:y1, x0:x1].copy()
        for other in shown:
            if other is not self:
                for mask in other.own:
                    hidden |= mask.window(box)
        return int(np.count_nonzero(hidden & self.thing.amodal.mask)) / max(1, self.thing.amodal.area)


def _passing(
    timeline: Timeline, frame: int, present: Sequence[StillObject], others: Sequence[tuple[int, PatchMask]]
) -> Mask:
    """(H, W) whatever is seen in a frame and is none of the standing objects."""
    width, height = timeline.frame_wh
    passing = np.zeros((height, width), bool)
    own = {id(mask) for thing in present for mask in _own(timeline, frame, thing)}
    for row in timeline.rows[frame]:
        if id(timeline.visible[row]) not in own:
            passing |= timeline.visible[row].full(height, width)
    for label, mask in others:
        if not any(_is_part(label, mask, thing) for thing in present):
            passing |= mask.full(height, width)
    return passing


def _own(timeline: Timeline, frame: int, thing: StillObject) -> tuple[PatchMask, ...]:
    """What a frame shows of a standing object: its member, or the pieces that others leave of it."""
    member = thing.members.get(frame)
    if member is not None:
        return (timeline.visible[member],)
    rows = timeline.near(frame, thing.amodal.box_xyxy)
    return tuple(
        timeline.visible[row] for row in rows if _is_part(int(timeline.labels[row]), timeline.visible[row], thing)
    )


def _is_part(label: int, mask: PatchMask, thing: StillObject) -> bool:
    """Whether a mask shows the object, or some of it."""
    if label != int(thing.label) or mask.area == 0:
        return False
    return mask.iou(thing.amodal) >= SAME_IOU or mask.intersection(thing.amodal) >= _INSIDE * mask.area


def _seen(instances: AmodalInstances) -> Iterator[tuple[int, PatchMask]]:
    return zip(instances.labels.tolist(), map(tight, instances.visible), strict=True)
