"""Occlusion layers from amodal masks in depth order, and their run-length encoding.

Walk from the nearest to the farthest: what has been walked over is the occluder layer; the other way round it is
the occluded layer. One sweep each, whatever the number of objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.masks import Mask, PatchMask, Rle
from walt_train.data.sample import AmodalSample


@dataclass(frozen=True, slots=True, eq=False)
class Layers:
    """The layers of one object, all inside its amodal box, in pixels of the frame.

    Attributes:
        amodal: Its full extent, as if it were alone.
        visible: `amodal` minus `occluder`.
        occluder: What lies nearer: objects and static things.
        occluded: Objects that lie farther, also beside it.
    """

    amodal: PatchMask
    visible: PatchMask
    occluder: PatchMask
    occluded: PatchMask

    @property
    def occlusion_fraction(self) -> float:
        """Hidden area over amodal area, 0..1."""
        area = self.amodal.area
        return (area - self.visible.area) / area if area else 0.0


def split_layers(
    amodal: Sequence[PatchMask],
    ranks: Sequence[int],
    static: Sequence[tuple[int, PatchMask]],
    size_wh: tuple[int, int],
) -> list[Layers]:
    """The layers of every object.

    Args:
        amodal: Masks, tight, nearest first.
        ranks: Their depth ranks, increasing; 0 = nearest.
        static: Rank and mask of static things.
        size_wh: Frame size, pixels.
    """
    width, height = size_wh
    nearer = np.zeros((height, width), dtype=bool)
    waiting = sorted(static, key=lambda pair: pair[0])
    occluders: list[Mask] = []
    for mask, rank in zip(amodal, ranks, strict=True):
        while waiting and waiting[0][0] < rank:
            _add(nearer, waiting.pop(0)[1])
        occluders.append(_cut(nearer, mask))
        _add(nearer, mask)
    farther = np.zeros((height, width), dtype=bool)
    occluded: list[Mask] = []
    for mask in reversed(amodal):
        occluded.append(_cut(farther, mask))
        _add(farther, mask)
    return [
        Layers(
            mask,
            PatchMask(mask.x, mask.y, mask.mask & ~front),
            PatchMask(mask.x, mask.y, front),
            PatchMask(mask.x, mask.y, back),
        )
        for mask, front, back in zip(amodal, occluders, reversed(occluded), strict=True)
    ]


def sample_layers(sample: AmodalSample) -> list[Layers]:
    """The layers of every object of a sample, nearest first; sizes are those of its picture."""
    height, width = sample.image_bgr.shape[:2]
    # Objects take odd ranks, so that a static thing before the k-th has room at 2k.
    ranks = [2 * place + 1 for place in range(len(sample.objects))]
    static = [(2 * nearer, mask) for nearer, mask in sample.static]
    return split_layers([thing.amodal for thing in sample.objects], ranks, static, (width, height))


def _add(canvas: Mask, mask: PatchMask) -> None:
    x0, y0, x1, y1 = mask.box_xyxy
    canvas[y0:y1, x0:x1] |= mask.mask


def _cut(canvas: Mask, mask: PatchMask) -> Mask:
    x0, y0, x1, y1 = mask.box_xyxy
    return canvas[y0:y1, x0:x1].copy()


def encode_patch(patch: PatchMask, size_wh: tuple[int, int]) -> Rle:
    """Encodes a patch as a mask of the whole frame.

    The result is that of `encode_rle(patch.full(...))`, but only the patch's own columns are looked at.
    """
    width, height = size_wh
    patch_h, patch_w = patch.mask.shape
    columns = np.zeros((patch_w, height), dtype=bool)
    columns[:, patch.y : patch.y + patch_h] = patch.mask.T
    flat = columns.ravel()
    if not flat.any():
        return Rle(size=(height, width), counts=_runs_to_text(np.array([width * height])))
    padded = np.concatenate(([False], flat, [False]))
    edges = np.flatnonzero(padded[1:] != padded[:-1]) + patch.x * height
    bounds = np.concatenate(([0], edges, [width * height]))
    runs = np.diff(bounds)
    if runs[-1] == 0:
        runs = runs[:-1]
    return Rle(size=(height, width), counts=_runs_to_text(runs))


def _runs_to_text(runs: NDArray[np.int64]) -> str:
    """As the contract's: base-32 digits of the difference to the run two before, all runs at once."""
    deltas = runs.astype(np.int64)
    deltas[3:] -= runs[1:-2]
    digits = np.arange(7) * 5
    shifted = deltas[:, None] >> digits
    low = shifted & 0x1F
    rest = shifted >> 5
    last = rest == np.where(low & 0x10, -1, 0)
    first_last = np.argmax(last, axis=1)
    keep = np.arange(7) <= first_last[:, None]
    low[np.arange(7) < first_last[:, None]] |= 0x20
    text: bytes = (low[keep] + 48).astype(np.uint8).tobytes()
    return text.decode("ascii")
