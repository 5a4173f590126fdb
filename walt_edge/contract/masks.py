"""Masks as values: run-length encoding and boxed patches.

Run-length encoding is COCO's compressed form, so that any COCO tool reads it: column-major runs, beginning
with a run of zeros, each run written as base-32 digits with the difference to the run two before it. It keeps
holes and is exact (a polygon round trip is not).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from walt_edge.contract.errors import WaltError

_LONGEST_RUN = 1 << 40
_LONGEST_DIGITS = 12

Mask = NDArray[np.bool_]
"""(H, W) bool."""

BoxXYXY = tuple[float, float, float, float]
"""Half-open box in continuous pixels; the centre of pixel (0, 0) is (0.5, 0.5)."""


class MaskError(WaltError):
    """A mask or its encoding is malformed."""


class Rle(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A mask in COCO's compressed run-length encoding.

    Attributes:
        size: (height, width) in pixels.
        counts: The runs, printable ASCII; what is read from others holds 2 MB at most.
    """

    size: tuple[int, int]
    counts: Annotated[str, Meta(max_length=1 << 21)]

    def coco(self) -> dict[str, Any]:
        """The JSON object that COCO tools read."""
        return {"size": list(self.size), "counts": self.counts}


def encode_rle(mask: Mask) -> Rle:
    """Encodes an (H, W) mask."""
    if mask.ndim != 2:
        raise MaskError(f"a mask has two dimensions, not {mask.ndim}")
    height, width = mask.shape
    flat = np.asarray(mask, dtype=bool).ravel(order="F")
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    bounds = np.concatenate(([0], edges, [flat.size]))
    runs = np.diff(bounds)
    if flat.size and flat[0]:
        runs = np.concatenate(([0], runs))
    return Rle(size=(height, width), counts=_runs_to_text(runs))


def decode_rle(rle: Rle, max_pixels: int = 64_000_000) -> Mask:
    """Decodes to an (H, W) mask.

    Raises:
        MaskError: The runs do not fill `size` exactly, or `size` is above `max_pixels`.
    """
    height, width = rle.size
    if height < 0 or width < 0 or height * width > max_pixels:
        raise MaskError(f"mask size {height}x{width} is not between 0 and {max_pixels} pixels")
    runs = _checked_runs(rle)
    values = np.arange(runs.size) % 2 == 1
    return np.repeat(values, runs).reshape((height, width), order="F")


def rle_area(rle: Rle) -> int:
    """Number of pixels in the mask, without decoding it; raises MaskError as `decode_rle` does."""
    return int(_checked_runs(rle)[1::2].sum())


def _checked_runs(rle: Rle) -> NDArray[np.int64]:
    runs = _text_to_runs(rle.counts)
    total = rle.size[0] * rle.size[1]
    if int(runs.sum()) != total:
        raise MaskError(f"mask runs cover {int(runs.sum())} pixels, the size says {total}")
    return runs


def _runs_to_text(runs: NDArray[np.int64]) -> str:
    """Writes runs as COCO does (maskApi.c).

    Base-32 digits, least significant first, 0x20 = more follow, offset 48; from the fourth run on the
    difference to the run two before.
    """
    deltas = runs.copy()
    deltas[3:] -= runs[1:-2]
    text = bytearray()
    for value in deltas.tolist():
        while True:
            digit = value & 0x1F
            value >>= 5
            more = value != (-1 if digit & 0x10 else 0)
            text.append(48 + (digit | 0x20 if more else digit))
            if not more:
                break
    return text.decode("ascii")


def _text_to_runs(text: str) -> NDArray[np.int64]:
    """Reads runs as COCO writes them; without a loop, since home reads masks of strangers that hold megabytes."""
    raw = np.frombuffer(text.encode("utf-8", errors="surrogatepass"), dtype=np.uint8)
    digits = raw.astype(np.int64) - 48
    if raw.size and not 0 <= int(digits.min()) <= int(digits.max()) < 64:
        odd = raw[(digits < 0) | (digits >= 64)][0]
        raise MaskError(f"mask runs hold the byte {odd}, which is no digit")
    ends = np.flatnonzero((digits & 0x20) == 0)
    lengths = np.diff(ends, prepend=-1)
    left = raw.size - int(lengths.sum())
    if max(left, int(lengths.max(initial=0))) > _LONGEST_DIGITS:
        raise MaskError("a mask run is longer than 60 bits")
    if left:
        raise MaskError("mask runs end in the middle of a number")
    starts = ends - lengths + 1
    places = np.arange(raw.size) - np.repeat(starts, lengths)
    runs: NDArray[np.int64] = np.add.reduceat((digits & 0x1F) << (5 * places), starts) if ends.size else digits
    runs -= ((digits[ends] & 0x10) != 0) * (np.int64(1) << (5 * lengths))
    if (np.abs(runs) < _LONGEST_RUN).all():
        # From the fourth on each is the difference to the run two before.
        runs[1::2] = np.cumsum(runs[1::2])
        runs[2::2] = np.cumsum(runs[2::2])
    odd_runs = runs[(runs < 0) | (runs >= _LONGEST_RUN)]
    if odd_runs.size:
        raise MaskError(f"a mask run of {odd_runs[0]} pixels is negative or absurd")
    return runs


@dataclass(frozen=True, slots=True)
class PatchMask:
    """A mask that stores only its bounding patch.

    Attributes:
        x: Left edge of the patch in the frame, pixels.
        y: Top edge.
        mask: (h, w) bool, read-only by convention.
    """

    x: int
    y: int
    mask: Mask

    @classmethod
    def from_full(cls, full: Mask) -> PatchMask:
        """The tight patch of an (H, W) mask; an empty mask gives a 0x0 patch at the origin."""
        rows = np.flatnonzero(full.any(axis=1))
        if rows.size == 0:
            return cls(0, 0, np.zeros((0, 0), dtype=bool))
        top, bottom = int(rows[0]), int(rows[-1]) + 1
        columns = np.flatnonzero(full[top:bottom].any(axis=0))
        left, right = int(columns[0]), int(columns[-1]) + 1
        return cls(left, top, np.ascontiguousarray(full[top:bottom, left:right]))

    @property
    def box_xyxy(self) -> tuple[int, int, int, int]:
        """The patch as a half-open pixel box."""
        height, width = self.mask.shape
        return self.x, self.y, self.x + width, self.y + height

    def tight(self) -> PatchMask:
        """The same mask in the smallest patch that holds it; an empty one gives a 0x0 patch at the origin."""
        inner = PatchMask.from_full(self.mask)
        return PatchMask(self.x + inner.x, self.y + inner.y, inner.mask) if inner.mask.size else inner

    @property
    def area(self) -> int:
        """Number of pixels in the mask."""
        return int(np.count_nonzero(self.mask))

    def full(self, height: int, width: int) -> Mask:
        """The mask on an (H, W) frame; what leaves the frame is clipped."""
        return self.window((0, 0, width, height))

    def window(self, box_xyxy: tuple[int, int, int, int]) -> Mask:
        """The mask inside a half-open pixel box of the frame, shape (y1-y0, x1-x0)."""
        x0, y0, x1, y1 = box_xyxy
        out = np.zeros((max(0, y1 - y0), max(0, x1 - x0)), dtype=bool)
        own_x0, own_y0, own_x1, own_y1 = self.box_xyxy
        left, top = max(x0, own_x0), max(y0, own_y0)
        right, bottom = min(x1, own_x1), min(y1, own_y1)
        if left < right and top < bottom:
            out[top - y0 : bottom - y0, left - x0 : right - x0] = self.mask[
                top - own_y0 : bottom - own_y0, left - own_x0 : right - own_x0
            ]
        return out

    def cut(self, box_xyxy: tuple[int, int, int, int]) -> PatchMask:
        """The tight patch of what lies in a half-open pixel box, in a frame that begins at the box's corner."""
        x0, y0, x1, y1 = box_xyxy
        left, top = max(x0 - self.x, 0), max(y0 - self.y, 0)
        inner = PatchMask.from_full(self.mask[top : max(y1 - self.y, 0), left : max(x1 - self.x, 0)])
        if not inner.mask.size:
            return inner
        return PatchMask(self.x + left + inner.x - x0, self.y + top + inner.y - y0, inner.mask)

    def mirrored(self, frame_width: int) -> PatchMask:
        """The same in a frame whose left is right."""
        return PatchMask(frame_width - self.box_xyxy[2], self.y, np.ascontiguousarray(self.mask[:, ::-1]))

    def intersection(self, other: PatchMask) -> int:
        """Number of pixels in both masks."""
        if self.area == 0 or other.area == 0:
            return 0
        return int(np.count_nonzero(self.mask & other.window(self.box_xyxy)))

    def iou(self, other: PatchMask) -> float:
        """Intersection over union, 0..1; two empty masks give 0."""
        common = self.intersection(other)
        union = self.area + other.area - common
        return common / union if union else 0.0
