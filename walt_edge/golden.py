"""When two answers to one picture are the same answer: what golden pictures and exports are judged by.

Another processor or runtime rounds otherwise, which moves a map by less than 0.001 and flips single pixels of an
outline; a wrong kernel, colour order or weight moves far more. Hence the tolerances: amodal masks of IoU 0.98 (one
pixel in fifty), boxes within 1 px, scores within 0.02 (half precision stays well inside), occluder and occluded masks
that differ in no more than a twentieth of the object's area (they are often small or empty, so that their own IoU
would jump). An instance that scores within 0.02 of the threshold may be there or not.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from walt_edge.contract.instances import AmodalInstances
from walt_edge.contract.masks import PatchMask

MASK_IOU: Final = 0.98
LAYER_SHARE: Final = 0.05
BOX_PX: Final = 1.0
SCORE: Final = 0.02
_SAME_IOU = 0.5


def difference(found: AmodalInstances, expected: AmodalInstances, *, score_threshold: float) -> str:
    """What the two disagree about beyond tolerance, in a few words; nothing where they agree.

    Args:
        found: An answer.
        expected: The one to compare with.
        score_threshold: At which both were made.
    """
    if found.frame_wh != expected.frame_wh:
        return f"the picture is {found.frame_wh}, its answer {expected.frame_wh}"
    pairs = matched(found, expected)
    for one, other in pairs:
        words = _instance_difference(found.select([one]), expected.select([other]))
        if words:
            return words
    lost = np.concatenate(
        [
            np.delete(found.scores, [one for one, _ in pairs]),
            np.delete(expected.scores, [other for _, other in pairs]),
        ]
    )
    if (lost <= score_threshold + SCORE).all():
        return ""
    return f"{len(found)} instances, expected {len(expected)}; {len(pairs)} found in both"


def matched(found: AmodalInstances, expected: AmodalInstances) -> list[tuple[int, int]]:
    """Pairs of indices: to each found instance the free one of its label that overlaps most, by half at least."""
    pairs: list[tuple[int, int]] = []
    free = set(range(len(expected)))
    for index in range(len(found)):
        ious = {
            other: mask_iou(found.amodal[index], expected.amodal[other])
            for other in sorted(free)
            if found.labels[index] == expected.labels[other]
        }
        best = max(ious, key=lambda other: ious[other], default=-1)
        if ious.get(best, 0.0) >= _SAME_IOU:
            pairs.append((index, best))
            free.remove(best)
    return pairs


def mask_iou(one: PatchMask, other: PatchMask) -> float:
    """Intersection over union, 0..1; two empty masks agree."""
    return one.iou(other) if one.area or other.area else 1.0


def _instance_difference(found: AmodalInstances, expected: AmodalInstances) -> str:
    apart_px = float(np.abs(found.boxes_xyxy - expected.boxes_xyxy).max())
    score = abs(float(found.scores[0] - expected.scores[0]))
    iou = mask_iou(found.amodal[0], expected.amodal[0])
    if iou < MASK_IOU:
        return f"a mask's IoU is {iou:.3f}, expected {MASK_IOU}"
    if apart_px > BOX_PX:
        return f"a box lies {apart_px:.2f} px off, allowed {BOX_PX}"
    if score > SCORE:
        return f"a score is {score:.3f} off, allowed {SCORE}"
    for name in ("occluder", "occluded"):
        unlike_px = _unlike_px(getattr(found, name)[0], getattr(expected, name)[0])
        share = unlike_px / max(1, expected.amodal[0].area)
        if share > LAYER_SHARE:
            return f"an {name} mask differs in {share:.3f} of the object's area, allowed {LAYER_SHARE}"
    return ""


def _unlike_px(one: PatchMask, other: PatchMask) -> int:
    return one.area + other.area - 2 * one.intersection(other)
