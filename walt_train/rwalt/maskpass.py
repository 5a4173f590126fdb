"""Amodal masks: every object alone in its own tile of an atlas, in one pass with one read-back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import moderngl
import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.masks import PatchMask
from walt_train.rwalt.atlas import Sheet, pack
from walt_train.rwalt.gl import Batch, MeshStore, make_program, set_uniforms

ATLAS_WH = (2048, 1024)
_CLIP_DISTANCES = range(0x3000, 0x3004)
_EMPTY = PatchMask(0, 0, np.zeros((0, 0), dtype=bool))


class MaskPass:
    """Draws masks at pixel centres, without shading.

    Args:
        context: The OpenGL context.
        store: The street's meshes.
        size_wh: Frame size, pixels.
        uniforms: Of the street.
    """

    def __init__(
        self, context: moderngl.Context, store: MeshStore, size_wh: tuple[int, int], uniforms: Mapping[str, Any]
    ) -> None:
        self._gl = context
        self._store = store
        self._size = size_wh
        self._programs = {leaves: make_program(context, "mask", "mask", leaves) for leaves in (False, True)}
        for program in self._programs.values():
            set_uniforms(program, uniforms)
        self._atlas_wh = (max(ATLAS_WH[0], size_wh[0]), max(ATLAS_WH[1], size_wh[1]))
        self._atlas = context.framebuffer([context.texture(self._atlas_wh, 1, dtype="u2")])
        self._frame = context.framebuffer(
            [context.texture(size_wh, 1, dtype="u2")], context.depth_renderbuffer(size_wh)
        )

    def amodal(self, batch: Batch, leaves: bool = False) -> list[PatchMask]:
        """The mask of every owner in a batch, cut to its pixels; empty where it is out of the frame.

        Args:
            batch: What to draw.
            leaves: Whether there is foliage in it.
        """
        boxes = batch.boxes
        sizes = [(x1 - x0, y1 - y0) for x0, y0, x1, y1 in boxes]
        out = [_EMPTY] * len(boxes)
        for sheet in pack(sizes, self._atlas_wh):
            covered = self._draw(sheet, batch, self._programs[leaves])
            for index, x, y in sheet.places:
                width, height = sizes[index]
                patch = PatchMask.from_full(covered[y : y + height, x : x + width] == index + 1)
                out[index] = PatchMask(patch.x + boxes[index][0], patch.y + boxes[index][1], patch.mask)
        return out

    def id_map(self, batches: Sequence[Batch], sliced: bool) -> NDArray[np.uint16]:
        """(H, W): the tint number of what the centre of each pixel shows, 0 for the street itself.

        Args:
            batches: What to draw.
            sliced: Whether depth order is by rank, as in the picture, or by geometry alone.
        """
        self._frame.use()
        self._frame.clear()
        self._gl.enable_only(moderngl.DEPTH_TEST)
        size = tuple(float(v) for v in self._size)
        set_uniforms(self._programs[True], {"tiled": 0, "sliced": int(sliced), "target_wh": size})
        for batch in batches:
            self._store.draw(self._programs[True], batch)
        width, height = self._size
        return _pixels(self._frame, (0, 0, width, height))

    def _draw(self, sheet: Sheet, batch: Batch, program: moderngl.Program) -> NDArray[np.uint16]:
        shifts = np.zeros((len(batch.boxes), 2))
        for index, x, y in sheet.places:
            shifts[index] = x - batch.boxes[index][0], y - batch.boxes[index][1]
        part = batch.of({index for index, _, _ in sheet.places})
        part.rows["place"][:, 2:] = shifts[part.owners]
        self._atlas.use()
        self._atlas.clear()
        self._gl.enable_only(moderngl.NOTHING)
        size = tuple(float(v) for v in self._atlas_wh)
        set_uniforms(program, {"tiled": 1, "sliced": 0, "target_wh": size})
        for distance in _CLIP_DISTANCES:
            self._gl.enable_direct(distance)
        self._store.draw(program, part)
        for distance in _CLIP_DISTANCES:
            self._gl.disable_direct(distance)
        return _pixels(self._atlas, (0, 0, self._atlas_wh[0], sheet.used_h))


def _pixels(frame: moderngl.Framebuffer, viewport: tuple[int, int, int, int]) -> NDArray[np.uint16]:
    data = frame.read(viewport, components=1, dtype="u2", alignment=1)
    return np.frombuffer(data, dtype=np.uint16).reshape(viewport[3], viewport[2])
