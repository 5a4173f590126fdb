"""What the shaders are told about the camera, the sun and the moment."""

from __future__ import annotations

from typing import Any

import numpy as np

from walt_train.rwalt.layout import Layout
from walt_train.rwalt.meshes import Floats

TEXTURE_UNITS = {"static_shadow": 0, "moving_shadow": 1, "baked_albedo": 2, "baked_light": 3, "baked_world": 4}


def street_uniforms(layout: Layout) -> dict[str, Any]:
    """What stays the same over all frames."""
    width, height = layout.camera.size_wh
    return {
        "clip_matrix": layout.camera.clip_matrix(),
        "sun_matrix": sun_matrix(layout),
        "sun_direction": layout.light.sun_direction,
        "eye": tuple(layout.camera.position.tolist()),
        "frame_wh": (float(width), float(height)),
        **moment_uniforms(layout, 0.0),
        **TEXTURE_UNITS,
    }


def moment_uniforms(layout: Layout, time_s: float) -> dict[str, Any]:
    """The light at a time."""
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
    xs = (min(span[0] for span in spans) - 5, max(span[1] for span in spans) + 5)
    ys = (road.front_near - 4, road.front_far + 0.5)
    seen = np.array([(x, y, z) for x in xs for y in ys for z in (0.0, 6.0)]) @ axes.T
    low, high = seen.min(axis=0), seen.max(axis=0)
    out = np.eye(4)
    out[:3, :3] = axes * (2 / (high - low))[:, None]
    out[:3, 3] = -(high + low) / (high - low)
    return out
