"""SWALT: amodal truth from objects that stand still, without a human label.

An object that stands still is whole in some frames and has something pass before it in others. What a frozen detector
saw of it while it was whole is its amodal mask, in all frames of its stay; what else is seen inside that mask later
lies before it, for else it would not be seen there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.errors import WaltError
from walt_edge.contract.instances import AmodalInstances
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import Mask, PatchMask
from walt_train.data.sample import AmodalObject
from walt_train.metrics.matching import tight_box
from walt_train.mining.stationary import SECOND_US, Cluster, find_clusters

_PERCENTILE = 90
_SAME_IOU = 0.5
_INSIDE = 0.9


class SwaltError(WaltError):
    """A timeline holds no truth, or does not fit its frames."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SwaltSettings:
    """When a mask is believed.

    Attributes:
        score_min: Least score of a detection that may be a standing object; those below still disqualify neighbours.
        iou_min: Least IoU of a box with the object's place, at least 0.5.
        still_s: Least length of a stay, seconds.
        absence_s: Who is not seen for longer has left.
        whole_frames_min: Least number of frames in which the object is whole.
        gap_px: Anything nearer than this touches.
        complete: Least area of a whole silhouette, as a part of the object's largest ones.
        agree: Least IoU of a silhouette with what the others say; less is an outlier.
        occlusion_min: From this hidden fraction on, something passes before an object.
        area_min_px: Smaller objects are no cases anyway.
    """

    score_min: float = 0.3
    iou_min: float = 0.7
    still_s: float = 10.0
    absence_s: float = 600.0
    whole_frames_min: int = 5
    gap_px: int = 2
    complete: float = 0.95
    agree: float = 0.85
    occlusion_min: float = 0.01
    area_min_px: int = 1024


@dataclass(frozen=True, slots=True, eq=False)
class Timeline:
    """What one frozen detector saw of one camera over time.

    Attributes:
        times_us: (F,) increasing.
        frame_wh: Size of the frames, pixels.
        rows: By frame, the rows of what was seen in it.
        frames: (N,) the frame of each row.
        labels: (N,) classes.
        scores: (N,) 0..1.
        visible: What was seen of each, tight patches.
        boxes_xyxy: (N, 4) float64, of these.
    """

    times_us: NDArray[np.int64]
    frame_wh: tuple[int, int]
    rows: tuple[range, ...]
    frames: NDArray[np.intp]
    labels: NDArray[np.int64]
    scores: NDArray[np.float64]
    visible: tuple[PatchMask, ...]
    boxes_xyxy: NDArray[np.float64]

    @classmethod
    def of(cls, seen: Sequence[AmodalInstances], times_us: Sequence[int]) -> Timeline:
        """Takes the visible masks of each frame's instances.

        Raises:
            SwaltError: There is no frame, sizes differ, or times do not increase.
        """
        sizes = sorted({instances.frame_wh for instances in seen})
        if len(sizes) != 1 or len(times_us) != len(seen) or (np.diff(times_us) <= 0).any():
            raise SwaltError(
                f"{len(seen)} frames of sizes {sizes} at {len(times_us)} times: "
                "a timeline has one size, and one time for each frame, increasing"
            )
        bounds = np.cumsum([0, *(len(instances) for instances in seen)]).tolist()
        visible = tuple(tight(mask) for instances in seen for mask in instances.visible)
        return cls(
            times_us=np.array(times_us, np.int64),
            frame_wh=sizes[0],
            rows=tuple(range(first, last) for first, last in pairwise(bounds)),
            frames=np.repeat(np.arange(len(seen)), np.diff(bounds)),
            labels=np.concatenate([instances.labels for instances in seen]),
            scores=np.concatenate([instances.scores for instances in seen]).astype(np.float64),
            visible=visible,
            boxes_xyxy=np.array([mask.box_xyxy for mask in visible], np.float64).reshape(-1, 4),
        )


@dataclass(frozen=True, slots=True, eq=False)
class StillObject:
    """An object for as long as it stood at one place.

    Attributes:
        label: Its class.
        amodal: Fused over the frames in which it is whole.
        members: The row that shows it, by frame.
        interval_us: First and last time at which it was seen.
        whole_frames: Over how many frames the mask was fused.
    """

    label: Label
    amodal: PatchMask
    members: Mapping[int, int]
    interval_us: tuple[int, int]
    whole_frames: int


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


def still_objects(
    timeline: Timeline, settings: SwaltSettings, labels: Sequence[Label] = tuple(Label), static: Mask | None = None
) -> list[StillObject]:
    """The objects whose amodal mask is known, in the order of their first sighting.

    Args:
        timeline: Of the frozen detector.
        settings: When a mask is believed.
        labels: Classes that are asked for.
        static: (H, W) poles, trees and signs: what they touch is never known to be whole. None where none are known.
    """
    able = np.flatnonzero(
        (timeline.scores >= settings.score_min) & np.isin(timeline.labels, [int(each) for each in labels])
    )
    clusters = find_clusters(
        timeline.boxes_xyxy[able],
        timeline.labels[able],
        timeline.times_us[timeline.frames[able]],
        iou_min=settings.iou_min,
        still_us=round(settings.still_s * SECOND_US),
        absence_us=round(settings.absence_s * SECOND_US),
        members_min=settings.whole_frames_min,
    )
    found = [_still(timeline, cluster, able[cluster.members], settings, static) for cluster in clusters]
    return _once([thing for thing in found if thing is not None])


def _still(
    timeline: Timeline, cluster: Cluster, rows: NDArray[np.intp], settings: SwaltSettings, static: Mask | None
) -> StillObject | None:
    alone = [row for row in rows.tolist() if is_alone(timeline, row, settings.gap_px)]
    if len(alone) < settings.whole_frames_min:
        return None
    areas = np.array([timeline.visible[row].area for row in alone])
    whole = np.flatnonzero(areas >= settings.complete * np.percentile(areas, _PERCENTILE))
    amodal, votes = fuse([timeline.visible[alone[place]] for place in whole.tolist()], settings.agree)
    if votes < settings.whole_frames_min or amodal.area < settings.area_min_px:
        return None
    if static is not None and (_grown(amodal, settings.gap_px, timeline.frame_wh) & static).any():
        return None
    members = {int(timeline.frames[row]): row for row in rows.tolist()}
    return StillObject(Label(int(timeline.labels[rows[0]])), amodal, members, cluster.interval_us, votes)


def is_alone(timeline: Timeline, row: int, gap_px: int) -> bool:
    """Whether a silhouette is clear of the frame's border and of everything else that was seen, however unsurely."""
    mask = timeline.visible[row]
    x0, y0, x1, y1 = mask.box_xyxy
    width, height = timeline.frame_wh
    if mask.area == 0 or x0 <= 0 or y0 <= 0 or x1 >= width or y1 >= height:
        return False
    around = (x0 - gap_px, y0 - gap_px, x1 + gap_px, y1 + gap_px)
    rim = cv2.dilate(mask.window(around).astype(np.uint8), _square(gap_px)) > 0
    others = (timeline.visible[other] for other in timeline.rows[timeline.frames[row]] if other != row)
    return not any((other.window(around) & rim).any() for other in others)


def fuse(masks: Sequence[PatchMask], agree: float) -> tuple[PatchMask, int]:
    """A pixelwise majority vote, twice: the second time without those who did not agree with the first.

    Args:
        masks: At least one.
        agree: Least IoU with the first vote.

    Returns:
        The tight mask, and how many voted for it.
    """
    first = _vote(masks)
    agreeing = [mask for mask in masks if mask.iou(first) >= agree]
    return (_vote(agreeing), len(agreeing)) if agreeing else (first, 0)


def _vote(masks: Sequence[PatchMask]) -> PatchMask:
    boxes = np.array([mask.box_xyxy for mask in masks])
    x0, y0 = (int(value) for value in boxes[:, :2].min(axis=0))
    x1, y1 = (int(value) for value in boxes[:, 2:].max(axis=0))
    votes = np.zeros((y1 - y0, x1 - x0), np.int32)
    for mask in masks:
        votes += mask.window((x0, y0, x1, y1))
    return tight(PatchMask(x0, y0, 2 * votes > len(masks)))


def _once(found: Sequence[StillObject]) -> list[StillObject]:
    """Without what is another's fragment: of two that are one place at one time, the one seen whole more often."""
    kept: list[StillObject] = []
    for thing in sorted(found, key=lambda each: -each.whole_frames):
        if not any(_meet(thing, other) and thing.amodal.iou(other.amodal) >= _SAME_IOU for other in kept):
            kept.append(thing)
    return sorted(kept, key=lambda each: (each.interval_us, each.amodal.box_xyxy))


def _meet(one: StillObject, other: StillObject) -> bool:
    return one.interval_us[0] <= other.interval_us[1] and other.interval_us[0] <= one.interval_us[1]


def hidden_frames(
    timeline: Timeline,
    objects: Sequence[StillObject],
    settings: SwaltSettings,
    occluders: Sequence[AmodalInstances] | None = None,
) -> Iterator[StillFrame]:
    """The frames in which something passes before a standing object.

    Args:
        timeline: Of the frozen detector.
        objects: Of `still_objects`.
        settings: From when on an object counts as hidden.
        occluders: By frame, what another detector saw; it may see what this one does not. None for none.
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
        shown = [_Shown(name, thing, _own(timeline, frame, thing)) for name, thing in present]
        ordered = sorted(shown, key=lambda each: each.hidden_by(passing, shown))
        if any(each.hidden_by(passing, shown) >= settings.occlusion_min for each in ordered):
            yield StillFrame(
                frame,
                tuple(AmodalObject(each.thing.label, each.thing.amodal, each.name) for each in ordered),
                PatchMask.from_full(passing),
            )


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
    rows = timeline.rows[frame]
    return tuple(
        timeline.visible[row] for row in rows if _is_part(int(timeline.labels[row]), timeline.visible[row], thing)
    )


def _is_part(label: int, mask: PatchMask, thing: StillObject) -> bool:
    """Whether a mask shows the object, or some of it."""
    if label != int(thing.label) or mask.area == 0:
        return False
    return mask.iou(thing.amodal) >= _SAME_IOU or mask.intersection(thing.amodal) >= _INSIDE * mask.area


def _seen(instances: AmodalInstances) -> Iterator[tuple[int, PatchMask]]:
    return zip(instances.labels.tolist(), map(tight, instances.visible), strict=True)


def tight(mask: PatchMask) -> PatchMask:
    """The same mask in the smallest patch."""
    box = tight_box(mask)
    return mask if box == mask.box_xyxy else PatchMask(box[0], box[1], mask.window(box))


def _grown(mask: PatchMask, radius_px: int, frame_wh: tuple[int, int]) -> Mask:
    full = mask.full(frame_wh[1], frame_wh[0]).astype(np.uint8)
    grown: Mask = cv2.dilate(full, _square(radius_px)) > 0
    return grown


def _square(radius_px: int) -> NDArray[np.uint8]:
    return np.ones((2 * radius_px + 1, 2 * radius_px + 1), np.uint8)
