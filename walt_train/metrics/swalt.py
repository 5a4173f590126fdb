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
from walt_train.metrics.matching import tight_box
from walt_train.mining.stationary import SECOND_US, Cluster, find_clusters

_PERCENTILE = 90
SAME_IOU = 0.5
_SPREAD = 3.0
"""A silhouette that is further from the others than they are by this factor is another object's."""


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
        agreeing: Least part of the silhouettes that are none. Different cars that stop at one line do not agree.
        steady: Least median IoU of the silhouettes with their vote. Who sways while standing has no one mask.
        steady_people: The same of people, who sway: exact silhouettes of standing people reach 0.95 to 0.96, and are
            0.84 to 0.94 right over their stay; those of cars that stand reach 1, as motion sees them 0.98.
        misses: After so many frames in a row in which neither the object is seen nor anything that could hide it, it
            has left.
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
    agreeing: float = 0.8
    steady: float = 0.95
    steady_people: float = 0.97
    misses: int = 3
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

    def near(self, frame: int, box_xyxy: tuple[int, int, int, int]) -> list[int]:
        """The rows of a frame whose boxes meet a box."""
        rows = self.rows[frame]
        boxes = self.boxes_xyxy[rows.start : rows.stop]
        met = (boxes[:, :2] < box_xyxy[2:]) & (boxes[:, 2:] > box_xyxy[:2])
        return [rows.start + index for index in np.flatnonzero(met[:, 0] & met[:, 1]).tolist()]


@dataclass(frozen=True, slots=True, eq=False)
class StillObject:
    """An object for as long as it stood at one place.

    Attributes:
        label: Its class.
        amodal: Fused over the frames in which it is whole.
        members: The row that shows it, by frame.
        interval_us: First and last time at which it was seen.
        whole: The frames over which the mask was fused, in order.
    """

    label: Label
    amodal: PatchMask
    members: Mapping[int, int]
    interval_us: tuple[int, int]
    whole: tuple[int, ...]


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
    stays = (stay for cluster in clusters for stay in _stays(timeline, cluster, able[cluster.members], settings))
    found = [_still(timeline, stay, settings, static) for stay in stays]
    return _once([thing for thing in found if thing is not None])


def _stays(
    timeline: Timeline, cluster: Cluster, rows: NDArray[np.intp], settings: SwaltSettings
) -> Iterator[NDArray[np.intp]]:
    """The rows of each stay at one place: it ends where the place is seen without the object."""
    frames = timeline.frames[rows]
    x0, y0, x1, y1 = (round(value) for value in cluster.box_xyxy.tolist())
    place = PatchMask(x0, y0, np.ones((y1 - y0, x1 - x0), bool))
    begin = 0
    for index, (last, following) in enumerate(pairwise(frames.tolist()), start=1):
        missed = 0
        for frame in range(last + 1, following):
            missed = 0 if covered(timeline, frame, place) >= SAME_IOU else missed + 1
            if missed >= settings.misses:
                yield rows[begin:index]
                begin = index
                break
    yield rows[begin:]


def covered(timeline: Timeline, frame: int, place: PatchMask) -> float:
    """Which part of a place is seen to be taken in a frame, by whatever it is: 0..1."""
    taken = np.zeros_like(place.mask)
    for row in timeline.near(frame, place.box_xyxy):
        taken |= timeline.visible[row].window(place.box_xyxy)
    return float(taken.mean()) if taken.size else 0.0


def _still(
    timeline: Timeline, rows: NDArray[np.intp], settings: SwaltSettings, static: Mask | None
) -> StillObject | None:
    """The object of a stay, if its mask is known."""
    alone = np.array([row for row in rows.tolist() if is_alone(timeline, row, settings.gap_px)], np.intp)
    if len(alone) < settings.whole_frames_min:
        return None
    areas = np.array([timeline.visible[row].area for row in alone.tolist()])
    whole = alone[areas >= settings.complete * np.percentile(areas, _PERCENTILE)]
    label = Label(int(timeline.labels[rows[0]]))
    amodal, voters = fuse([timeline.visible[row] for row in whole.tolist()], settings, label)
    if len(voters) < settings.whole_frames_min or amodal.area < settings.area_min_px:
        return None
    if static is not None and (_grown(amodal, settings.gap_px, timeline.frame_wh) & static).any():
        return None
    # Between two moments at which it is whole it is there; before and after, another may be.
    frames = tuple(timeline.frames[whole[voters]].tolist())
    first_us, last_us = (int(timeline.times_us[frame]) for frame in (frames[0], frames[-1]))
    if last_us - first_us < settings.still_s * SECOND_US:
        return None
    members = {int(timeline.frames[row]): row for row in rows.tolist()}
    return StillObject(label, amodal, members, (first_us, last_us), frames)


def is_alone(timeline: Timeline, row: int, gap_px: int) -> bool:
    """Whether a silhouette is clear of the frame's border and of everything else that was seen, however unsurely."""
    mask = timeline.visible[row]
    x0, y0, x1, y1 = mask.box_xyxy
    width, height = timeline.frame_wh
    around = (x0 - gap_px, y0 - gap_px, x1 + gap_px, y1 + gap_px)
    # Silhouettes of what the border cuts end a pixel before it as often as at it.
    if mask.area == 0 or min(around) < 0 or around[2] > width or around[3] > height:
        return False
    rim = cv2.dilate(mask.window(around).astype(np.uint8), _square(gap_px)) > 0
    others = (timeline.visible[other] for other in timeline.near(int(timeline.frames[row]), around) if other != row)
    return not any((other.window(around) & rim).any() for other in others)


def fuse(masks: Sequence[PatchMask], settings: SwaltSettings, label: Label) -> tuple[PatchMask, list[int]]:
    """A pixelwise majority vote, twice: the second time without those who did not agree with the first.

    Args:
        masks: At least one.
        settings: How far they have to agree.
        label: What they show.

    Returns:
        The tight mask, and who voted for it; nobody if they are not one steady object.
    """
    first = _vote(masks)
    ious = np.array([mask.iou(first) for mask in masks])
    usual = float(np.median(ious))
    least = max(settings.agree, 1 - max(_SPREAD * (1 - usual), 1 - settings.complete))
    voters = np.flatnonzero(ious >= least).tolist()
    steady = settings.steady_people if label is Label.PERSON else settings.steady
    if usual < steady or len(voters) < settings.agreeing * len(masks):
        return first, []
    return _vote([masks[voter] for voter in voters]), voters


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
    for thing in sorted(found, key=lambda each: -len(each.whole)):
        if not any(_meet(thing, other) and thing.amodal.iou(other.amodal) >= SAME_IOU for other in kept):
            kept.append(thing)
    return sorted(kept, key=lambda each: (each.interval_us, each.amodal.box_xyxy))


def _meet(one: StillObject, other: StillObject) -> bool:
    return one.interval_us[0] <= other.interval_us[1] and other.interval_us[0] <= one.interval_us[1]


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
