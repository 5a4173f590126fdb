"""Generation 0: eyes without weights. What moves before the plate is an object, and what is seen of it is all of it.

It has neither an idea of what is hidden nor of what lies before what: amodal mask and visible mask are the
silhouette, and nothing occludes. It is treated generously, so that beating it means something: the plate comes from
frames spread over the whole recording, an object's class from its whole track, and outlines too brief to be objects
are left out.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from walt_edge.contract.instances import AmodalInstances
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import PatchMask
from walt_edge.vision.classify import ClassEvidence
from walt_edge.vision.motion import Motion, find_motion
from walt_edge.vision.plate import Image, Plate, SampleBuffer
from walt_edge.vision.settings import WatchSettings
from walt_edge.vision.shape import describe
from walt_edge.vision.silhouettes import Silhouette, find_silhouettes, is_upright
from walt_edge.vision.standing import grown, is_ghost
from walt_edge.vision.unoccluded import border_part, label_map, neighbour_part
from walt_edge.watching.tracking import Match, Tracker

PLATE_FRAMES = 60
"""More teach the plate little; fewer leave traces of what stood for some time."""
_RIM_PX = 3
_HALF_STEP_S = 0.3
_UNSURE = 0.5


def plate_indices(frames: int, frame_wh: tuple[int, int], settings: WatchSettings | None = None) -> list[int]:
    """Which of a recording's frames teach its plate: spread evenly, within the bound on memory."""
    settings = settings or WatchSettings()
    fitting = settings.plate_memory_bytes // (3 * frame_wh[0] * frame_wh[1])
    count = min(frames, PLATE_FRAMES, max(settings.plate_samples_min, fitting))
    return [int(index) for index in np.linspace(0, frames - 1, count).round()]


class MotionBaseline:
    """Sees the frames of one camera in order, and tells at the end what was in each.

    Args:
        plate_frames: (H, W, 3) uint8 frames spread over the recording: those of `plate_indices`.
        settings: How to watch.
    """

    def __init__(self, plate_frames: Sequence[Image], settings: WatchSettings | None = None) -> None:
        self._settings = settings or WatchSettings()
        buffer = SampleBuffer(0.0, len(plate_frames))
        for index, frame in enumerate(plate_frames):
            buffer.offer(frame, float(index))
        self._plate = Plate.learn(buffer, self._settings)
        self._tracker = Tracker(self._settings)
        self._evidence: dict[int, ClassEvidence] = {}
        self._sightings: dict[int, int] = {}
        self._seen: list[list[tuple[int, PatchMask]]] = []
        self._tended_s = -np.inf

    def see(self, bgr: Image, time_s: float) -> None:
        """Looks at the next frame; times, in seconds, increase."""
        motion = find_motion(bgr, self._plate, self._settings)
        outlines = find_silhouettes(motion, self._settings)
        boxes = np.array([outline.patch.box_xyxy for outline in outlines], np.float64).reshape(-1, 4)
        matches = self._tracker.update(boxes, [outline.patch.area for outline in outlines], time_s)
        self._seen.append(
            [(m.track.id, o.patch) for o, m in zip(outlines, matches, strict=True) if m.track is not None]
        )
        self._learn_classes(outlines, matches, time_s)
        self._tend_plate(bgr, motion, outlines, matches, time_s)
        self._tracker.ended(time_s)

    def instances(self) -> list[AmodalInstances]:
        """What was in each frame seen, now that the tracks are known."""
        height, width = self._plate.bgr.shape[:2]
        return [self._frame(seen, (width, height)) for seen in self._seen]

    def _learn_classes(self, outlines: Sequence[Silhouette], matches: Sequence[Match], time_s: float) -> None:
        """Notes the shapes of outlines that are clear of neighbours and border, as the watcher does."""
        height, width = self._plate.bgr.shape[:2]
        settings = self._settings
        painted = label_map([outline.patch for outline in outlines], height, width)
        for index, (outline, match) in enumerate(zip(outlines, matches, strict=True)):
            if match.track is None:
                continue
            track = match.track
            self._sightings[track.id] = track.sightings
            clear = min(
                neighbour_part(index, outline.patch, painted, settings),
                border_part(outline.patch, (width, height), settings),
            )
            if match.merged_with or match.pieces or clear < settings.whole_confidence:
                continue
            rate = track.sightings / max(_HALF_STEP_S, time_s - track.born_s)
            stride = max(1, round(_HALF_STEP_S * rate))
            self._evidence.setdefault(track.id, ClassEvidence()).add(describe(outline.patch), stride)

    def _tend_plate(
        self,
        bgr: Image,
        motion: Motion,
        outlines: Sequence[Silhouette],
        matches: Sequence[Match],
        time_s: float,
    ) -> None:
        """Follows the light and heals the holes that something left in the plate, as the watcher does."""
        elapsed_s, settings = time_s - self._tended_s, self._settings
        if elapsed_s < settings.update_s:
            return
        self._tended_s = time_s
        height, width = motion.moving.shape
        for outline, match in zip(outlines, matches, strict=True):
            still_since_s = match.track.still_since_s if match.track is not None else None
            long = still_since_s is not None and time_s - still_since_s > settings.ghost_s
            if long and is_ghost(outline.patch, bgr, self._plate.bgr):
                self._plate.adopt(bgr, grown(outline.patch, _RIM_PX, (width, height)))
        kernel = np.ones((2 * _RIM_PX + 1,) * 2, np.uint8)
        occupied = cv2.dilate((motion.solid | motion.moving).astype(np.uint8), kernel) > 0
        self._plate.follow(bgr, motion.difference, occupied, min(elapsed_s, 5.0))

    def _frame(self, seen: Sequence[tuple[int, PatchMask]], frame_wh: tuple[int, int]) -> AmodalInstances:
        least = min(self._settings.track_sightings_min, len(self._seen))
        kept = [(track, patch) for track, patch in seen if self._sightings[track] >= least]
        classes = [self._class(track, patch) for track, patch in kept]
        labels, scores = [int(label) for label, _ in classes], [score for _, score in classes]
        return AmodalInstances.of_masks(frame_wh, labels, scores, [patch for _, patch in kept])

    def _class(self, track: int, patch: PatchMask) -> tuple[Label, float]:
        """The track's class; where it never showed one, what the outline is most like."""
        evidence = self._evidence.get(track)
        label, score = evidence.classify() if evidence is not None else (None, _UNSURE)
        if label is None:
            return (Label.PERSON if is_upright(patch.mask) else Label.VEHICLE), _UNSURE
        return label, score
