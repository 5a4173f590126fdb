"""The picture: shadows, the baked street, contact patches, objects in depth order, lens and sensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import moderngl
import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.labels import Label
from walt_train.rwalt.bake import bake_street
from walt_train.rwalt.gl import Batch, MeshStore, make_program, set_uniforms
from walt_train.rwalt.layout import Layout, stream
from walt_train.rwalt.scene import SceneObject
from walt_train.rwalt.uniforms import TEXTURE_UNITS, moment_uniforms

SAMPLES = 4
SHADOW_PX = 1024
STATIC_SHADOW_PX = 2048
NOISE_PX = 1024
SHARPNESS = 0.62
"""Weight of the centre in the lens' blur."""
NOISE_DAY, NOISE_DUSK = (0.006, 0.008), (0.010, 0.013)
"""Standard deviation at black, and what is added at white, of full scale."""

_PATCH_BYTES = 32


class PicturePass:
    """Draws pictures of one street.

    Args:
        context: The OpenGL context.
        store: The street's meshes.
        layout: The street.
        statics: Its static pieces, whose shadows are drawn once.
        uniforms: Of the street.
    """

    def __init__(
        self,
        context: moderngl.Context,
        store: MeshStore,
        layout: Layout,
        statics: Batch,
        uniforms: Mapping[str, Any],
    ) -> None:
        self._gl = context
        self._store = store
        self._layout = layout
        self._make_programs(uniforms)
        self._make_targets(layout.camera.size_wh)
        self._draw_shadows(self._static_shadow, self._static_shadow_program, statics)
        self._use_shadows()
        self._baked = bake_street(context, layout, uniforms)

    def draw(
        self,
        time_s: float,
        noise_number: int,
        casting: Batch,
        moving: Batch,
        statics: Batch,
        seen: Sequence[SceneObject],
    ) -> NDArray[np.uint8]:
        """Draws one picture.

        Args:
            time_s: Decides the light.
            noise_number: Decides the sensor's noise.
            casting: What throws moving shadows.
            moving: The objects to draw, their depth slices set.
            statics: The static pieces, likewise.
            seen: The objects that are drawn, which darken the ground under them.

        Returns:
            (H, W, 3) uint8, BGR.
        """
        self._draw_shadows(self._moving_shadow, self._shadow_program, casting)
        self._draw_street(time_s)
        self._draw_patches(seen)
        self._gl.enable_only(moderngl.DEPTH_TEST)
        self._store.draw(self._object_program, moving)
        self._store.draw(self._static_program, statics)
        self._gl.copy_framebuffer(self._resolved, self._canvas)
        return self._expose(noise_number)

    def _make_programs(self, uniforms: Mapping[str, Any]) -> None:
        gl = self._gl
        self._object_program = make_program(gl, "object", "object")
        self._static_program = make_program(gl, "object", "object", leaves=True)
        self._shadow_program = make_program(gl, "shadow", "shadow")
        self._static_shadow_program = make_program(gl, "shadow", "shadow", leaves=True)
        self._street_program = make_program(gl, "screen", "street")
        self._patch_program = make_program(gl, "patch", "patch")
        self._sensor_program = make_program(gl, "screen", "sensor")
        lit = [self._street_program, self._object_program, self._static_program]
        self._lit_programs = lit
        for program in (*lit, self._shadow_program, self._static_shadow_program, self._patch_program):
            set_uniforms(program, uniforms)
        square = gl.buffer(np.array([-1, -1, 1, -1, -1, 1, 1, 1], dtype=np.float32).tobytes())
        self._patches = gl.buffer(reserve=_PATCH_BYTES * 1024, dynamic=True)
        self._street_array = gl.vertex_array(self._street_program, [(square, "2f", "in_corner")])
        self._sensor_array = gl.vertex_array(self._sensor_program, [(square, "2f", "in_corner")])
        self._patch_array = gl.vertex_array(
            self._patch_program, [(square, "2f", "in_corner"), (self._patches, "4f 4f/i", "in_frame", "in_extent")]
        )

    def _make_targets(self, size: tuple[int, int]) -> None:
        gl = self._gl
        self._static_shadow_map, self._static_shadow = self._shadow_target(STATIC_SHADOW_PX)
        self._moving_shadow_map, self._moving_shadow = self._shadow_target(SHADOW_PX)
        colour = gl.renderbuffer(size, 4, samples=SAMPLES)
        self._canvas = gl.framebuffer([colour], gl.depth_renderbuffer(size, samples=SAMPLES))
        self._resolved_map = gl.texture(size, 4)
        self._resolved = gl.framebuffer([self._resolved_map])
        self._output = gl.framebuffer([gl.renderbuffer(size, 4)])
        noise = stream(self._layout.seed, "noise").standard_normal((NOISE_PX, NOISE_PX, 3), dtype=np.float32)
        self._noise = gl.texture((NOISE_PX, NOISE_PX), 3, noise.astype(np.float16).tobytes(), dtype="f2")
        levels = NOISE_DUSK if self._layout.light.dusk else NOISE_DAY
        constants = {"size": size, "noise_levels": levels, "sharpness": SHARPNESS, "scene": 0, "noise": 1}
        set_uniforms(self._sensor_program, constants)

    def _shadow_target(self, pixels: int) -> tuple[moderngl.Texture, moderngl.Framebuffer]:
        texture = self._gl.depth_texture((pixels, pixels))
        texture.compare_func = "<="
        texture.repeat_x = texture.repeat_y = False
        frame = self._gl.framebuffer(depth_attachment=texture)
        frame.clear(depth=1.0)
        return texture, frame

    def _use_shadows(self) -> None:
        self._static_shadow_map.use(TEXTURE_UNITS["static_shadow"])
        self._moving_shadow_map.use(TEXTURE_UNITS["moving_shadow"])

    def _draw_shadows(self, target: moderngl.Framebuffer, program: moderngl.Program, batch: Batch) -> None:
        target.use()
        target.clear(depth=1.0)
        self._gl.enable_only(moderngl.DEPTH_TEST)
        self._store.draw(program, batch)

    def _draw_street(self, time_s: float) -> None:
        moment = moment_uniforms(self._layout, time_s)
        for program in self._lit_programs:
            set_uniforms(program, moment)
        self._canvas.use()
        self._canvas.clear(depth=1.0)
        self._use_shadows()
        self._baked.use(TEXTURE_UNITS["baked_albedo"])
        self._gl.enable_only(moderngl.NOTHING)
        self._street_array.render(moderngl.TRIANGLE_STRIP)

    def _draw_patches(self, seen: Sequence[SceneObject]) -> None:
        """Contact shadows, and at dusk the light before headlights, on the ground under everything."""
        self._gl.enable_only(moderngl.BLEND)
        self._gl.blend_func = moderngl.SRC_ALPHA, moderngl.ONE_MINUS_SRC_ALPHA
        ground = self._layout.road.ground_m
        self._draw_patch_rows([_contact_patch(thing, ground(thing.state.y_m)) for thing in seen])
        if self._layout.light.dusk:
            self._gl.blend_func = moderngl.SRC_ALPHA, moderngl.ONE
            driving = [thing for thing in seen if thing.label is Label.VEHICLE and thing.lamps[1] > 0]
            self._draw_patch_rows([_headlight_patch(thing) for thing in driving])

    def _draw_patch_rows(self, rows: list[tuple[float, ...]]) -> None:
        if rows:
            self._patches.orphan()
            self._patches.write(np.array(rows, dtype=np.float32).tobytes())
            self._patch_array.render(moderngl.TRIANGLE_STRIP, instances=len(rows))

    def _expose(self, noise_number: int) -> NDArray[np.uint8]:
        shift = stream(self._layout.seed, "noise shift", noise_number).integers(0, NOISE_PX, 2).tolist()
        set_uniforms(self._sensor_program, {"noise_shift": (shift[0], shift[1])})
        self._output.use()
        self._gl.enable_only(moderngl.NOTHING)
        self._resolved_map.use(0)
        self._noise.use(1)
        self._sensor_array.render(moderngl.TRIANGLE_STRIP)
        width, height = self._layout.camera.size_wh
        data = self._output.read(components=4, alignment=1)
        return np.ascontiguousarray(np.frombuffer(data, dtype=np.uint8).reshape(height, width, 4)[..., :3])


def _contact_patch(thing: SceneObject, ground_m: float) -> tuple[float, ...]:
    """Centre, heading, half extents, height, darkness: as `patch.vert` reads it."""
    state = thing.state
    frame = (state.x_m, state.y_m, float(np.cos(state.heading)), float(np.sin(state.heading)))
    if thing.box3d is None:
        return (*frame, 0.36, 0.3, ground_m + 0.012, 0.5)
    length, width, _ = thing.box3d.size_lwh
    return (*frame, length * 0.49, width * 0.49, 0.012, 0.8)


def _headlight_patch(thing: SceneObject) -> tuple[float, ...]:
    assert thing.box3d is not None
    cos, sin = float(np.cos(thing.state.heading)), float(np.sin(thing.state.heading))
    ahead = thing.box3d.size_lwh[0] / 2 + 4.2
    return (thing.state.x_m + cos * ahead, thing.state.y_m + sin * ahead, cos, sin, 4.2, 1.25, 0.014, -0.16)
