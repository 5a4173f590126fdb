"""Draws a street: the picture, and every object's amodal mask.

Per frame: (1) one pass into an atlas draws every object alone into its own tile, which gives all amodal masks with
one read-back; (2) the depth order; (3) a shadow map of what moves; (4) the picture, in which every thing has its own
slice of the depth range in that order, so that picture and layers agree by construction; (5) lens and sensor.

What bounds the speed on a software rasteriser is the picture: its fill rate (street, resolve, sensor) and the set-up
of its small triangles at four samples a pixel. The masks cost their own pixels once, without shading.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.masks import PatchMask
from walt_train.rwalt.gl import Batch, MeshStore, make_context
from walt_train.rwalt.maskpass import MaskPass
from walt_train.rwalt.order import depth_ranks
from walt_train.rwalt.picture import PicturePass
from walt_train.rwalt.scene import SceneObject, instances_of, static_instances
from walt_train.rwalt.street import Street
from walt_train.rwalt.uniforms import street_uniforms

MIN_AREA_PX = 16
"""An object with fewer amodal pixels in the frame is neither drawn nor labelled."""


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """One frame as drawn.

    Attributes:
        index: Its number.
        bgr: (H, W, 3) uint8.
        objects: What is in it, nearest first.
        amodal: Each object's mask, as if alone, clipped to the frame.
        ranks: Each object's place among objects and static pieces together, 0 = nearest.
        static_ranks: The static pieces' places.
        static: (rank, mask) of every static piece in the frame.
    """

    index: int
    bgr: NDArray[np.uint8]
    objects: list[SceneObject]
    amodal: list[PatchMask]
    ranks: list[int]
    static_ranks: list[int]
    static: list[tuple[int, PatchMask]]


class Renderer:
    """Draws the frames of one street.

    Raises:
        RenderError: No EGL, or no software rasteriser behind it.
    """

    def __init__(self, street: Street) -> None:
        self.street = street
        self._gl = make_context()
        self._store = MeshStore(self._gl, street.meshes)
        self._statics = self._store.batch(
            *static_instances(street.pieces), [piece.standing.box for piece in street.pieces]
        )
        uniforms = street_uniforms(street.layout)
        self._mask_pass = MaskPass(self._gl, self._store, street.config.size_wh, uniforms)
        self._picture_pass = PicturePass(self._gl, self._store, street.layout, self._statics, uniforms)
        self._static_masks = self._mask_pass.amodal(self._statics, leaves=True)

    def close(self) -> None:
        """Gives everything back to the driver."""
        self._gl.release()

    def draw(self, index: int, with_masks: bool = True) -> Drawn:
        """Draws frame `index`; without masks the picture alone, for comparison of cost."""
        # Another renderer may have made its own context the current one.
        with self._gl:
            return self._draw(index, with_masks)

    def _draw(self, index: int, with_masks: bool) -> Drawn:
        objects = self.street.objects(index)
        batch = self._batch(objects)
        masks = self._mask_pass.amodal(batch) if with_masks else []
        seen = (
            [i for i, mask in enumerate(masks) if mask.area >= MIN_AREA_PX]
            if with_masks
            else list(range(len(objects)))
        )
        ranks, static_ranks = self._ranks([objects[i] for i in seen])
        shown = batch.of(set(seen))
        slices = dict(zip(seen, ranks, strict=True))
        self._slice(shown, slices, len(seen))
        bgr = self._picture_pass.draw(
            self.street.time_s(index),
            self.street.number(index),
            batch,
            shown,
            self._lit_statics(index, static_ranks, len(seen)),
            [objects[i] for i in seen],
        )
        seen.sort(key=slices.__getitem__)
        static = [pair for pair in zip(static_ranks, self._static_masks, strict=True) if pair[1].area]
        amodal = [masks[i] for i in seen] if with_masks else []
        return Drawn(index, bgr, [objects[i] for i in seen], amodal, sorted(ranks), static_ranks, static)

    def id_map(self, drawn: Drawn, sliced: bool) -> NDArray[np.uint16]:
        """(H, W): 1 + the place in `drawn.objects` of what the centre of each pixel shows; 0 for all else.

        Args:
            drawn: A frame.
            sliced: Whether things are in depth order by rank, as in the picture, or by their geometry alone.
        """
        batch = self._batch(drawn.objects)
        self._slice(batch, dict(enumerate(drawn.ranks)), len(drawn.objects))
        statics = self._lit_statics(drawn.index, drawn.static_ranks, len(drawn.objects))
        statics.rows["tint"][:, 3] = 0
        with self._gl:
            return self._mask_pass.id_map([batch, statics], sliced)

    def _batch(self, objects: Sequence[SceneObject]) -> Batch:
        return self._store.batch(*instances_of(objects), [thing.standing.box for thing in objects])

    def _ranks(self, objects: Sequence[SceneObject]) -> tuple[list[int], list[int]]:
        standings = [thing.standing for thing in objects] + [piece.standing for piece in self.street.pieces]
        ranks = depth_ranks(standings, self.street.layout.camera.position[:2])
        return ranks[: len(objects)], ranks[len(objects) :]

    def _slice(self, batch: Batch, rank_of: dict[int, int], objects: int) -> None:
        """Gives every owner its slice of the depth range."""
        count = objects + len(self.street.pieces)
        batch.rows["place"][:, 0] = [rank_of[owner] / count for owner in batch.owners.tolist()]
        batch.rows["place"][:, 1] = 1.0 / max(count, 1)

    def _lit_statics(self, index: int, ranks: Sequence[int], objects: int) -> Batch:
        batch = self._statics.of(set(range(len(ranks))))
        self._slice(batch, dict(enumerate(ranks)), objects)
        batch.rows["lamps"] = self.street.signal_lamps(index)
        return batch
