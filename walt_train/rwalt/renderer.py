"""Draws a street: the picture, and every object's amodal mask.

Per frame: (1) one pass into an atlas draws every object alone into its own tile, which gives all amodal masks with
one read-back; (2) the depth order; (3) a shadow map of what moves; (4) the picture, in which every thing has its own
slice of the depth range in that order, so that picture and layers agree by construction; (5) lens and sensor.

What bounds the speed on a software rasteriser is the fill rate of the picture (shading, resolving, sensor); the
masks cost their own pixels once, without shading.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import moderngl
import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.labels import Label
from walt_edge.contract.masks import PatchMask
from walt_train.rwalt.atlas import Sheet, pack
from walt_train.rwalt.bake import bake_street
from walt_train.rwalt.gl import MeshStore, make_context, make_program, set_uniforms
from walt_train.rwalt.layout import Layout, stream
from walt_train.rwalt.meshes import Floats
from walt_train.rwalt.order import depth_ranks
from walt_train.rwalt.scene import INSTANCE, SceneObject, instances_of
from walt_train.rwalt.street import Street

SAMPLES = 4
SHADOW_PX = 1024
STATIC_SHADOW_PX = 2048
NOISE_PX = 1024
MIN_AREA_PX = 16
"""An object with fewer amodal pixels in the frame is neither drawn nor labelled."""

_CLIP_PLANES = (0x3000, 0x3001, 0x3002, 0x3003)
_UNITS = {"static_shadow": 0, "moving_shadow": 1, "baked_albedo": 2, "baked_light": 3, "baked_world": 4}


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """One frame as drawn.

    Attributes:
        bgr: (H, W, 3) uint8.
        objects: What is in it, nearest first.
        amodal: Each object's mask, as if alone, clipped to the frame.
        ranks: Each object's place among objects and static pieces together, 0 = nearest.
        static: (rank, mask) of every static piece in the frame.
    """

    bgr: NDArray[np.uint8]
    objects: list[SceneObject]
    amodal: list[PatchMask]
    ranks: list[int]
    static: list[tuple[int, PatchMask]]


class Renderer:
    """Draws the frames of one street.

    Raises:
        RenderError: No EGL, or no software rasteriser behind it.
    """

    def __init__(self, street: Street) -> None:
        self.street = street
        self._size = street.config.size_wh
        self._eye_xy = street.layout.camera.position[:2]
        self._gl = make_context()
        self._store = MeshStore(self._gl, street.meshes)
        self._common = _common_uniforms(street.layout)
        self._make_programs()
        self._make_targets()
        self._statics, self._static_meshes = self._static_instances()
        self._draw_shadows(self._static_shadow, self._statics, self._static_meshes)
        self._static_shadow_map.use(_UNITS["static_shadow"])
        self._moving_shadow_map.use(_UNITS["moving_shadow"])
        self._baked = bake_street(self._gl, street.layout, self._common)
        self._static_masks = self._masks(
            self._statics, self._static_meshes, [piece.standing.box for piece in street.pieces]
        )

    def close(self) -> None:
        """Gives everything back to the driver."""
        self._gl.release()

    def draw(self, index: int) -> Drawn:
        """Draws frame `index`."""
        objects = self.street.objects(index)
        rows, meshes, owners = instances_of(objects)
        masks = self._masks(rows, meshes, [thing.standing.box for thing in objects])
        seen = [i for i, mask in enumerate(masks) if mask.area >= MIN_AREA_PX]
        ranks = self._ranks([objects[i] for i in seen])
        rank_of = dict(zip(seen, ranks[: len(seen)], strict=True))
        self._draw_shadows(self._moving_shadow, rows, meshes)
        drawn = np.isin(owners, seen)
        self._slice(rows, owners, rank_of, ranks)
        visible = np.concatenate([rows[drawn], self._lit_statics(index, ranks[len(seen) :], len(ranks))])
        names = [name for name, keep in zip(meshes, drawn, strict=True) if keep] + self._static_meshes
        self._draw_picture(index, [objects[i] for i in seen], visible, names)
        bgr = self._draw_sensor(index)
        seen.sort(key=rank_of.__getitem__)
        static = [pair for pair in zip(ranks[len(seen) :], self._static_masks, strict=True) if pair[1].area]
        return Drawn(bgr, [objects[i] for i in seen], [masks[i] for i in seen], [rank_of[i] for i in seen], static)

    def id_map(self, drawn: Drawn, sliced: bool) -> NDArray[np.uint16]:
        """(H, W) uint16: 1 + the place in `drawn.objects` of what a pixel's centre shows; 0 elsewhere.

        Args:
            drawn: A frame.
            sliced: Whether things are in depth order by rank as in the picture, or by their geometry alone.
        """
        rows, meshes, owners = instances_of(drawn.objects)
        total = len(drawn.ranks) + len(self._statics)
        self._slice(rows, owners, dict(enumerate(drawn.ranks)), [0] * total)
        used = set(drawn.ranks)
        free = [rank for rank in range(total) if rank not in used]
        ranks = self._ranks(drawn.objects)[len(drawn.objects) :] if drawn.objects else free
        statics = self._lit_statics(0, ranks, total)
        statics["tint"][:, 3] = 0
        self._id_frame.use()
        self._id_frame.clear()
        self._gl.enable_only(moderngl.DEPTH_TEST)
        self._mask_program["tiled"].value = 0
        self._mask_program["sliced"].value = int(sliced)
        self._mask_program["target_wh"].value = self._size
        self._store.draw(self._mask_program, np.concatenate([rows, statics]), meshes + self._static_meshes)
        width, height = self._size
        data = self._id_frame.read(components=1, dtype="u2", alignment=1)
        return np.frombuffer(data, dtype=np.uint16).reshape(height, width)

    def _make_programs(self) -> None:
        gl = self._gl
        self._object_program = make_program(gl, "object", "object")
        self._mask_program = make_program(gl, "mask", "mask")
        self._shadow_program = make_program(gl, "shadow", "shadow")
        self._street_program = make_program(gl, "screen", "street")
        self._patch_program = make_program(gl, "patch", "patch")
        self._sensor_program = make_program(gl, "screen", "sensor")
        for program in (
            self._object_program,
            self._mask_program,
            self._shadow_program,
            self._street_program,
            self._patch_program,
        ):
            set_uniforms(program, self._common)
        square = gl.buffer(np.array([-1, -1, 1, -1, -1, 1, 1, 1], dtype=np.float32).tobytes())
        self._patches = gl.buffer(reserve=32 * 1024, dynamic=True)
        self._street_array = gl.vertex_array(self._street_program, [(square, "2f", "in_corner")])
        self._sensor_array = gl.vertex_array(self._sensor_program, [(square, "2f", "in_corner")])
        self._patch_array = gl.vertex_array(
            self._patch_program, [(square, "2f", "in_corner"), (self._patches, "4f 4f/i", "in_frame", "in_extent")]
        )
        noise = stream(self.street.config.seed, "noise").standard_normal((NOISE_PX, NOISE_PX, 3), dtype=np.float32)
        self._noise = gl.texture((NOISE_PX, NOISE_PX), 3, noise.astype(np.float16).tobytes(), dtype="f2")
        self._sensor_program["size"].value = self._size
        self._sensor_program["noise_levels"].value = (
            (0.006, 0.008) if not self.street.layout.light.dusk else (0.011, 0.014)
        )
        self._sensor_program["sharpness"].value = 0.62
        self._sensor_program["scene"].value = 0
        self._sensor_program["noise"].value = 1

    def _make_targets(self) -> None:
        gl, size = self._gl, self._size
        self._atlas_wh = (max(2048, size[0]), max(1024, size[1]))
        self._atlas = gl.framebuffer([gl.texture(self._atlas_wh, 1, dtype="u2")])
        self._id_frame = gl.framebuffer([gl.texture(size, 1, dtype="u2")], gl.depth_renderbuffer(size))
        self._static_shadow_map, self._static_shadow = self._shadow_target(STATIC_SHADOW_PX)
        self._moving_shadow_map, self._moving_shadow = self._shadow_target(SHADOW_PX)
        self._canvas = gl.framebuffer(
            [gl.renderbuffer(size, 4, samples=SAMPLES)], gl.depth_renderbuffer(size, samples=SAMPLES)
        )
        self._resolved_map = gl.texture(size, 4)
        self._resolved = gl.framebuffer([self._resolved_map])
        self._output = gl.framebuffer([gl.renderbuffer(size, 4)])

    def _shadow_target(self, pixels: int) -> tuple[moderngl.Texture, moderngl.Framebuffer]:
        texture = self._gl.depth_texture((pixels, pixels))
        texture.compare_func = "<="
        texture.repeat_x = texture.repeat_y = False
        frame = self._gl.framebuffer(depth_attachment=texture)
        frame.clear(depth=1.0)
        return texture, frame

    def _static_instances(self) -> tuple[NDArray[np.void], list[str]]:
        rows = np.zeros(len(self.street.pieces), dtype=INSTANCE)
        rows["rows"] = np.eye(4)[:3]
        rows["tint"][:, 3] = np.arange(len(rows)) + 1
        if len(rows):
            rows["box"] = np.array([piece.standing.box for piece in self.street.pieces])
        return rows, [piece.mesh for piece in self.street.pieces]

    def _ranks(self, objects: Sequence[SceneObject]) -> list[int]:
        standings = [thing.standing for thing in objects] + [piece.standing for piece in self.street.pieces]
        return depth_ranks(standings, self._eye_xy)

    @staticmethod
    def _slice(
        rows: NDArray[np.void], owners: NDArray[np.int64], rank_of: dict[int, int], ranks: Sequence[int]
    ) -> None:
        count = max(len(ranks), 1)
        begins = np.array(
            [rank_of.get(owner, 0) / count for owner in range(int(owners.max()) + 1 if len(owners) else 0)]
        )
        if len(owners):
            rows["place"][:, 0] = begins[owners]
        rows["place"][:, 1] = 1.0 / count

    def _lit_statics(self, index: int, ranks: Sequence[int], count: int) -> NDArray[np.void]:
        rows = self._statics.copy()
        if len(rows):
            rows["place"][:, 0] = np.asarray(ranks) / count
            rows["place"][:, 1] = 1.0 / count
            rows["lamps"] = self.street.signal_lamps(index)
        return rows

    def _masks(
        self, rows: NDArray[np.void], meshes: Sequence[str], boxes: Sequence[tuple[int, int, int, int]]
    ) -> list[PatchMask]:
        """The amodal mask of every owner of rows, cut to its pixels; empty where it is out of the frame."""
        out = [PatchMask(0, 0, np.zeros((0, 0), dtype=bool))] * len(boxes)
        sizes = [(x1 - x0, y1 - y0) for x0, y0, x1, y1 in boxes]
        owners = rows["tint"][:, 3].astype(np.int64) - 1
        for sheet in pack(sizes, self._atlas_wh):
            covered = self._draw_sheet(sheet, rows, meshes, owners, boxes)
            for index, x, y in sheet.places:
                width, height = sizes[index]
                tile = covered[y : y + height, x : x + width] == index + 1
                patch = PatchMask.from_full(tile)
                out[index] = PatchMask(patch.x + boxes[index][0], patch.y + boxes[index][1], patch.mask)
        return out

    def _draw_sheet(
        self,
        sheet: Sheet,
        rows: NDArray[np.void],
        meshes: Sequence[str],
        owners: NDArray[np.int64],
        boxes: Sequence[tuple[int, int, int, int]],
    ) -> NDArray[np.uint16]:
        shifts = np.zeros((len(boxes), 2))
        for index, x, y in sheet.places:
            shifts[index] = x - boxes[index][0], y - boxes[index][1]
        chosen = np.isin(owners, [index for index, _, _ in sheet.places])
        part = rows[chosen]
        part["place"][:, 2:] = shifts[owners[chosen]]
        width = self._atlas_wh[0]
        self._atlas.use()
        self._atlas.clear()
        self._gl.enable_only(moderngl.NOTHING)
        for plane in _CLIP_PLANES:
            self._gl.enable_direct(plane)
        self._mask_program["tiled"].value = 1
        self._mask_program["sliced"].value = 0
        self._mask_program["target_wh"].value = self._atlas_wh
        self._store.draw(self._mask_program, part, [name for name, keep in zip(meshes, chosen, strict=True) if keep])
        for plane in _CLIP_PLANES:
            self._gl.disable_direct(plane)
        data = self._atlas.read((0, 0, width, sheet.used_h), components=1, dtype="u2", alignment=1)
        return np.frombuffer(data, dtype=np.uint16).reshape(sheet.used_h, width)

    def _draw_shadows(self, target: moderngl.Framebuffer, rows: NDArray[np.void], meshes: Sequence[str]) -> None:
        target.use()
        target.clear(depth=1.0)
        self._gl.enable_only(moderngl.DEPTH_TEST)
        self._store.draw(self._shadow_program, rows, meshes)

    def _draw_picture(
        self, index: int, seen: Sequence[SceneObject], rows: NDArray[np.void], meshes: Sequence[str]
    ) -> None:
        gl = self._gl
        moment = _moment_uniforms(self.street.layout, self.street.time_s(index))
        for program in (self._street_program, self._object_program):
            set_uniforms(program, moment)
        self._canvas.use()
        self._canvas.clear(depth=1.0)
        self._static_shadow_map.use(_UNITS["static_shadow"])
        self._moving_shadow_map.use(_UNITS["moving_shadow"])
        self._baked.use(_UNITS["baked_albedo"])
        gl.enable_only(moderngl.NOTHING)
        self._street_array.render(moderngl.TRIANGLE_STRIP)
        self._draw_patches(seen)
        gl.enable_only(moderngl.DEPTH_TEST)
        self._store.draw(self._object_program, rows, meshes)
        gl.copy_framebuffer(self._resolved, self._canvas)

    def _draw_patches(self, seen: Sequence[SceneObject]) -> None:
        """Contact shadows, and at dusk the light before headlights, on the ground under everything."""
        gl = self._gl
        gl.enable_only(moderngl.BLEND)
        ground = self.street.layout.road.ground_m
        shadows = [_contact_patch(thing, ground(thing.state.y_m)) for thing in seen]
        gl.blend_func = moderngl.SRC_ALPHA, moderngl.ONE_MINUS_SRC_ALPHA
        self._draw_patch_rows(shadows)
        if self.street.layout.light.dusk:
            gl.blend_func = moderngl.SRC_ALPHA, moderngl.ONE
            self._draw_patch_rows(
                [
                    _headlight_patch(thing)
                    for thing in seen
                    if thing.label is Label.VEHICLE and thing.state.speed > 0.1
                ]
            )

    def _draw_patch_rows(self, rows: list[tuple[float, ...]]) -> None:
        if rows:
            self._patches.orphan()
            self._patches.write(np.array(rows, dtype=np.float32).tobytes())
            self._patch_array.render(moderngl.TRIANGLE_STRIP, instances=len(rows))

    def _draw_sensor(self, index: int) -> NDArray[np.uint8]:
        shift = stream(self.street.config.seed, "noise shift", index).integers(0, NOISE_PX, 2)
        self._sensor_program["noise_shift"].value = (int(shift[0]), int(shift[1]))
        self._output.use()
        self._gl.enable_only(moderngl.NOTHING)
        self._resolved_map.use(0)
        self._noise.use(1)
        self._sensor_array.render(moderngl.TRIANGLE_STRIP)
        width, height = self._size
        data = self._output.read(components=4, alignment=1)
        return np.ascontiguousarray(np.frombuffer(data, dtype=np.uint8).reshape(height, width, 4)[..., :3])


def _contact_patch(thing: SceneObject, ground_m: float) -> tuple[float, ...]:
    state = thing.state
    if thing.box3d is not None:
        half_length, half_width = thing.box3d.size_lwh[0] / 2, thing.box3d.size_lwh[1] / 2
        extent = (half_length * 0.98, half_width * 0.98, 0.012, 0.8)
    else:
        extent = (0.3, 0.24, ground_m + 0.012, 0.55)
    return (state.x_m, state.y_m, float(np.cos(state.heading)), float(np.sin(state.heading)), *extent)


def _headlight_patch(thing: SceneObject) -> tuple[float, ...]:
    assert thing.box3d is not None
    cos, sin = float(np.cos(thing.state.heading)), float(np.sin(thing.state.heading))
    ahead = thing.box3d.size_lwh[0] / 2 + 4.2
    return (thing.state.x_m + cos * ahead, thing.state.y_m + sin * ahead, cos, sin, 4.2, 1.25, 0.014, -0.16)


def _common_uniforms(layout: Layout) -> dict[str, Any]:
    return {
        "clip_matrix": layout.camera.clip_matrix(),
        "sun_matrix": sun_matrix(layout),
        "sun_direction": layout.light.sun_direction,
        "eye": tuple(layout.camera.position.tolist()),
        "frame_wh": tuple(float(v) for v in layout.camera.size_wh),
        **_moment_uniforms(layout, 0.0),
        **_UNITS,
    }


def _moment_uniforms(layout: Layout, time_s: float) -> dict[str, Any]:
    light = layout.light
    sun, sky = light.at(time_s)
    return {
        "sun_light": tuple(sun * c for c in light.sun),
        "sky_light": tuple(sky * c for c in light.sky),
        "lamp_light": light.lamp,
        "exposure": light.exposure,
        "glow": 0.75 if light.dusk else 0.03,
    }


def sun_matrix(layout: Layout) -> Floats:
    """(4, 4) world to the sun's clip space: orthographic, around all that the frame shows."""
    towards = np.array(layout.light.sun_direction)
    side = np.cross((0.0, 0.0, 1.0), towards)
    side /= np.linalg.norm(side)
    axes = np.stack([side, np.cross(towards, side), -towards])
    road = layout.road
    spans = [layout.camera.visible_x(y, (0.0, 2.0)) for y in (road.front_near, road.front_far)]
    left, right = min(s[0] for s in spans) - 5, max(s[1] for s in spans) + 5
    corners = np.array(
        [(x, y, z) for x in (left, right) for y in (road.front_near - 4, road.front_far + 0.5) for z in (0.0, 6.0)]
    )
    seen = corners @ axes.T
    low, high = seen.min(axis=0), seen.max(axis=0)
    out = np.eye(4)
    out[:3, :3] = axes * (2 / (high - low))[:, None]
    out[:3, 3] = -(high + low) / (high - low)
    return out
