"""Synthetic occlusion: cut-outs pasted anywhere at any scale, the baseline that knows neither ground nor depth.

The usual way to get amodal labels without a camera's help: instances of any data set are taken as whole and pasted
over pictures at uniformly random places, sizes and depths, so that what lies below has a known hidden part. Kept here
to be compared with; `walt_train.clipart` is what a fixed camera allows instead.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.clipart import FILE_NAME
from walt_edge.contract.errors import UsageError
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import Mask, PatchMask
from walt_train.clipart.chance import Chance, Purpose
from walt_train.clipart.pieces import ALPHA_HALF
from walt_train.data.instances import ClipArtStock, InstanceStock, Piece, Scene, Stock
from walt_train.data.sample import AmodalObject, AmodalSample, Split

VISIBLE_MIN_PX = 16
"""Nothing is pasted that would leave less of an object below, or less than a tenth of it."""
_ONE = 1 << 16
_SIDE_MIN_PX = 12
_ATTEMPTS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticSettings:
    """How much is pasted.

    Attributes:
        pasted: Fewest and most cut-outs; what finds no place is left out.
        scale: Smallest and largest part of its own size, each step between equally likely.
    """

    pasted: tuple[int, int] = (2, 8)
    scale: tuple[float, float] = (0.5, 1.5)

    def __post_init__(self) -> None:
        """Checks the ranges.

        Raises:
            UsageError: One is empty or out of its bounds.
        """
        if not 1 <= self.pasted[0] <= self.pasted[1]:
            raise UsageError(f"{self.pasted[0]} to {self.pasted[1]} cut-outs: give 1 or more, the fewer first")
        if not 0.1 <= self.scale[0] <= self.scale[1] <= 4:
            raise UsageError(f"scale {self.scale[0]:g} to {self.scale[1]:g}: give 0.1 to 4, the smaller first")


class SyntheticSamples:
    """Pictures with cut-outs pasted at random: a pure function of (data, split, settings, seed, epoch, index).

    Args:
        path: A clip-art folder (plates are the pictures), or a COCO instance file with its pictures beside it.
        split: Clip art is split by object, pictures by file name; cut-outs come from the same part.
        per_epoch: Samples in an epoch, at least 1.
        seed: 0..2^64-1.
        settings: How much is pasted.

    Raises:
        ClipArtError: The clip art is missing, malformed or not enough.
        DataError: The instance file is missing or malformed, or has nothing to cut out.
        UsageError: A number is out of its range.
    """

    def __init__(
        self,
        path: Path,
        *,
        split: Split,
        per_epoch: int,
        seed: int,
        settings: SyntheticSettings | None = None,
    ) -> None:
        if per_epoch < 1:
            raise UsageError(f"{per_epoch} samples an epoch: give at least 1")
        is_clipart = (path / FILE_NAME).is_file() or not path.is_file()
        self._stock: Stock = ClipArtStock(path, split) if is_clipart else InstanceStock(path, split)
        self.settings = settings or SyntheticSettings()
        self._per_epoch, self._seed = per_epoch, seed

    @property
    def sha256(self) -> str:
        """Of the data, settings and seed, 64 hex digits."""
        return hashlib.sha256(f"synthetic {self._stock.sha256} {self.settings} {self._seed}".encode()).hexdigest()

    @property
    def frame_wh(self) -> tuple[int, int]:
        """Size of the pictures, pixels.

        Raises:
            DataError: They have different sizes.
        """
        return self._stock.frame_wh

    @property
    def labels(self) -> Sequence[Label]:
        """The classes that occur, in the contract's order."""
        return self._stock.labels

    def __len__(self) -> int:
        """Samples in an epoch."""
        return self._per_epoch

    def sample(self, epoch: int, index: int) -> AmodalSample:
        """Sample `index` of `epoch`.

        Raises:
            IndexError: The index is not in the epoch.
            DataError: A picture or a mask is malformed.
        """
        if not 0 <= index < self._per_epoch:
            raise IndexError(f"sample {index} of an epoch of {self._per_epoch}")
        scene = self._stock.scene(Chance(self._seed, epoch, index, Purpose.PLATE))
        chance = Chance(self._seed, epoch, index, Purpose.ARRANGEMENT)
        canvas = scene.image_bgr.copy()
        objects = list(scene.objects)
        for _ in range(chance.between(*self.settings.pasted)):
            piece = self._stock.piece(chance)
            for _ in range(_ATTEMPTS):
                pasted = self._place(piece, scene, chance)
                if pasted is not None and self._leaves_enough(pasted, objects, scene):
                    _blend(canvas, pasted)
                    objects.insert(0, AmodalObject(piece.label, _mask_of(pasted, scene), piece.object_id))
                    break
        name = f"synthetic occlusion {index} of epoch {epoch}, seed {self._seed}"
        return AmodalSample(canvas, tuple(objects), name=name, frame=index, camera=scene.camera)

    def _place(self, piece: Piece, scene: Scene, chance: Chance) -> _Pasted | None:
        """Its middle anywhere in the picture; None where it would be too small or none of it would show."""
        low, high = (round(scale * _ONE) for scale in self.settings.scale)
        scale = chance.between(low, high)
        height, width = ((side * scale + _ONE // 2) >> 16 for side in piece.alpha.shape)
        centre = chance.below(scene.size_wh[0]), chance.below(scene.size_wh[1])
        if min(height, width) < _SIDE_MIN_PX:
            return None
        # INTER_LINEAR_EXACT is OpenCV's fixed-point bilinear: bit-exact on every processor.
        image, alpha = (
            cv2.resize(part, (width, height), interpolation=cv2.INTER_LINEAR_EXACT)
            for part in (piece.image_bgr, piece.alpha)
        )
        x, y = centre[0] - width // 2, centre[1] - height // 2
        left, top = max(0, -x), max(0, -y)
        right, bottom = min(width, scene.size_wh[0] - x), min(height, scene.size_wh[1] - y)
        part = np.s_[top:bottom, left:right]
        shown = _Pasted(x + left, y + top, image[part], alpha[part])
        return shown if (shown.alpha >= ALPHA_HALF).any() else None

    def _leaves_enough(self, pasted: _Pasted, objects: list[AmodalObject], scene: Scene) -> bool:
        covered = _mask_of(pasted, scene).full(*scene.size_wh[::-1])
        for thing in objects:
            x0, y0, x1, y1 = thing.amodal.box_xyxy
            seen = int(np.count_nonzero(thing.amodal.mask & ~covered[y0:y1, x0:x1]))
            if seen < VISIBLE_MIN_PX or seen * 10 < thing.amodal.area:
                return False
            covered[y0:y1, x0:x1] |= thing.amodal.mask
        return True


@dataclass(frozen=True, slots=True, eq=False)
class _Pasted:
    """A cut-out in the picture, clipped to it."""

    x: int
    y: int
    image_bgr: NDArray[np.uint8]
    alpha: NDArray[np.uint8]


def _mask_of(pasted: _Pasted, scene: Scene) -> PatchMask:
    full: Mask = np.zeros(scene.size_wh[::-1], dtype=bool)
    height, width = pasted.alpha.shape
    full[pasted.y : pasted.y + height, pasted.x : pasted.x + width] = pasted.alpha >= ALPHA_HALF
    return PatchMask.from_full(full)


def _blend(canvas: NDArray[np.uint8], pasted: _Pasted) -> None:
    height, width = pasted.alpha.shape
    under = canvas[pasted.y : pasted.y + height, pasted.x : pasted.x + width]
    # 255 weighs as 256, so that the middle of a cut-out keeps its own pixels.
    weight = (pasted.alpha.astype(np.uint16) + (pasted.alpha >> 7))[..., None]
    under[:] = (pasted.image_bgr * weight + under * (256 - weight) + 128) >> 8
