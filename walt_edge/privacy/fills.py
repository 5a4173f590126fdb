"""How what must not be seen is covered: one solid colour, large blocks, or the same blocks smoothed.

Solid is the default and the only one that keeps nothing. Blocks keep a few colours: enough to look less harsh, and
on a single picture too few for an eye; somebody who knows a person may still guess by hair and collar, and many
pictures of one head together tell more than one. Smoothing adds nothing to the blocks and takes nothing away, so that
no deconvolution finds more under a blur than its few blocks.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.errors import UsageError
from walt_edge.contract.masks import Mask, PatchMask

FILL_BGR: Final = (128, 128, 128)
MOST_BLOCKS: Final = 6  # across a head: recognition by people ends at about eight


class Style(enum.StrEnum):
    """What a covered head looks like."""

    SOLID = "solid"
    PIXELATE = "pixelate"
    BLUR = "blur"


@dataclass(frozen=True, slots=True)
class Fill:
    """How heads are covered.

    Attributes:
        style: In what way.
        blocks: Of `pixelate` and `blur`: so many lie across the larger side of what is covered, which is larger than
            the face in it; 1..`MOST_BLOCKS`, fewer are stronger.

    Raises:
        UsageError: More blocks than may be.
    """

    style: Style = Style.SOLID
    blocks: int = 4

    def __post_init__(self) -> None:
        if not 1 <= self.blocks <= MOST_BLOCKS:
            raise UsageError(
                f"{self.blocks} blocks across a head: 1 to {MOST_BLOCKS} can be told from no face; give fewer"
            )


SOLID: Final = Fill()


def cover(bgr: NDArray[np.uint8], patches: Sequence[PatchMask], fill: Fill) -> Mask:
    """Covers the patches of a picture, in place.

    Args:
        bgr: (H, W, 3), writeable.
        patches: What to cover, each at least as large as the head in it; they may leave the frame.
        fill: How.

    Returns:
        (H, W) bool, what was covered.
    """
    height, width = bgr.shape[:2]
    covered = np.zeros((height, width), dtype=bool)
    for patch in patches:
        paint(covered, patch)
    if fill.style is Style.SOLID:
        bgr[covered] = FILL_BGR
    else:
        _mosaic(bgr, covered, patches, fill)
    return covered


def paint(mask: Mask, patch: PatchMask) -> None:
    """Sets the patch in an (H, W) mask; what leaves the frame is clipped.

    Raises:
        ValueError: The patch is no (h, w) bool.
    """
    if patch.mask.dtype != np.bool_ or patch.mask.ndim != 2:
        raise ValueError(f"a silhouette is (h, w) bool, not {patch.mask.shape} {patch.mask.dtype}")
    x0, y0, x1, y1 = patch.box_xyxy
    left, top = max(0, x0), max(0, y0)
    right, bottom = min(mask.shape[1], x1), min(mask.shape[0], y1)
    if left < right and top < bottom:
        mask[top:bottom, left:right] |= patch.mask[top - y0 : bottom - y0, left - x0 : right - x0]


def _mosaic(bgr: NDArray[np.uint8], covered: Mask, patches: Sequence[PatchMask], fill: Fill) -> None:
    """One grid for each connected piece: grids that overlap would tell more than one does."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(covered.astype(np.uint8), connectivity=8)
    sides = np.ones(count, np.int64)
    for patch in patches:
        x0, y0, x1, y1 = (max(0, edge) for edge in patch.box_xyxy)
        pieces = np.unique(labels[y0:y1, x0:x1])
        sides[pieces] = np.maximum(sides[pieces], max(patch.mask.shape))
    smooth = cv2.INTER_LINEAR if fill.style is Style.BLUR else cv2.INTER_NEAREST
    for piece in range(1, count):
        x, y, w, h = stats[piece, : cv2.CC_STAT_AREA].tolist()
        window = (slice(y, y + h), slice(x, x + w))
        block = -(-int(sides[piece]) // fill.blocks)
        grid_wh = (max(1, w // block), max(1, h // block))
        few = cv2.resize(bgr[window], grid_wh, interpolation=cv2.INTER_AREA)
        own = labels[window] == piece
        bgr[window][own] = cv2.resize(few, (w, h), interpolation=smooth)[own]
