"""The street without what moves, drawn once.

Three textures in the frame's resolution, averaged down from three times that: albedo (as its square root) with
emission, light (how much sun, open sky and lamp light arrives), and position, which shadows of moving things need.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import moderngl
import numpy as np

from walt_train.rwalt.gl import make_program, set_uniforms
from walt_train.rwalt.layout import CROSSWALK_M, LANE_M, Layout
from walt_train.rwalt.surfaces import surface_mesh

SUPERSAMPLE = 3


@dataclass(frozen=True, slots=True, eq=False)
class Baked:
    """The three textures."""

    albedo: moderngl.Texture
    light: moderngl.Texture
    world: moderngl.Texture

    def use(self, first_unit: int) -> None:
        """Binds them to three consecutive texture units."""
        for offset, texture in enumerate((self.albedo, self.light, self.world)):
            texture.use(first_unit + offset)


def bake_street(context: moderngl.Context, layout: Layout, uniforms: Mapping[str, Any]) -> Baked:
    """Draws the surfaces; `uniforms` are those of light.glsl and the clip matrix."""
    width, height = layout.camera.size_wh
    size = (width * SUPERSAMPLE, height * SUPERSAMPLE)
    targets = [
        context.texture(size, 4, dtype="f1"),
        context.texture(size, 4, dtype="f1"),
        context.texture(size, 4, dtype="f4"),
    ]
    frame = context.framebuffer(targets, context.depth_renderbuffer(size))
    program = make_program(context, "surface", "surface")
    set_uniforms(program, uniforms)
    set_uniforms(program, _street_uniforms(layout))
    mesh = context.buffer(surface_mesh(layout.road).tobytes())
    array = context.vertex_array(program, [(mesh, "3f 3f 1f", "in_position", "in_normal", "in_surface")])
    frame.use()
    frame.clear()
    context.enable_only(moderngl.DEPTH_TEST)
    array.render()
    small = [_averaged(context, texture, layout.camera.size_wh) for texture in targets[:2]]
    world = np.frombuffer(targets[2].read(), dtype=np.float32).reshape(size[1], size[0], 4)
    middle = SUPERSAMPLE // 2
    points = np.ascontiguousarray(world[middle::SUPERSAMPLE, middle::SUPERSAMPLE])
    _release([array, mesh, program, frame, *targets])
    return Baked(small[0], small[1], context.texture(layout.camera.size_wh, 4, points.tobytes(), dtype="f4"))


def _release(resources: Sequence[Any]) -> None:
    for resource in resources:
        resource.release()


def _averaged(context: moderngl.Context, texture: moderngl.Texture, size_wh: tuple[int, int]) -> moderngl.Texture:
    large = np.frombuffer(texture.read(), dtype=np.uint8).reshape(texture.height, texture.width, 4)
    small = cv2.resize(large, size_wh, interpolation=cv2.INTER_AREA)
    return context.texture(size_wh, 4, small.tobytes(), dtype="f1")


def _street_uniforms(layout: Layout) -> dict[str, Any]:
    road = layout.road
    lines = [(y, float(dashed)) for y, dashed in road.lane_lines][:8]
    lamps = [(p.x_m, p.y_m, 5.2) for p in layout.props if p.kind == "lamp" and layout.light.dusk][:4]
    half = max(abs(lane.y_m) for lane in road.lanes) + LANE_M / 2
    stops = [
        (lane.direction * lane.stop_s + lane.direction * 0.3, float(np.sign(lane.y_m)))
        for lane in (road.lanes[0], road.lanes[-1])
    ]
    return {
        "surface_seed": layout.surface_seed,
        "lane_lines": lines + [(0.0, 0.0)] * (8 - len(lines)),
        "lane_line_count": len(lines),
        "road": (road.kerb_near, road.kerb_far, road.front_near, road.front_far),
        "crosswalk": (road.crosswalk_x, CROSSWALK_M / 2, half),
        "stop_lines": stops,
        "street_lamps": lamps + [(0.0, 0.0, 0.0)] * (4 - len(lamps)),
    }
