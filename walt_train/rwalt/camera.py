"""The fixed camera: a pinhole on a pole.

World: metres, x along the road, y across it (away from the camera), z up. Camera: x right, y down, z forward
(OpenCV). Pixels: continuous, the centre of pixel (0, 0) is (0.5, 0.5).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

NEAR_M = 0.5
FAR_M = 400.0


@dataclass(frozen=True, slots=True, eq=False)
class Camera:
    """A pinhole without distortion.

    Attributes:
        size_wh: Frame size, pixels.
        focal_px: Focal length, pixels; the principal point is the frame's centre.
        position: (3,) in the world, metres.
        rotation: (3, 3) world to camera; its rows are right, down, forward.
    """

    size_wh: tuple[int, int]
    focal_px: float
    position: Floats
    rotation: Floats

    @classmethod
    def looking_at(cls, position: Floats, target: Floats, focal_px: float, size_wh: tuple[int, int]) -> Camera:
        """A level camera at `position` whose centre sees `target`."""
        forward = (target - position) / np.linalg.norm(target - position)
        right = np.cross(forward, (0.0, 0.0, 1.0))
        right /= np.linalg.norm(right)
        down = np.cross(forward, right)
        return cls(size_wh, focal_px, position, np.stack([right, down, forward]))

    @property
    def intrinsics(self) -> Floats:
        """(3, 3) camera matrix."""
        width, height = self.size_wh
        return np.array([[self.focal_px, 0, width / 2], [0, self.focal_px, height / 2], [0, 0, 1]])

    def to_camera(self, points: Floats) -> Floats:
        """World points (..., 3) in camera coordinates."""
        return (points - self.position) @ self.rotation.T

    def project(self, points: Floats) -> Floats:
        """World points (..., 3) as (..., 3): x and y in pixels, depth in metres.

        Points behind the camera come out with a depth <= 0 and meaningless pixels.
        """
        seen = self.to_camera(points)
        depth = seen[..., 2:]
        safe = np.where(np.abs(depth) < 1e-6, 1e-6, depth)
        centre = np.array(self.size_wh) / 2
        return np.concatenate([seen[..., :2] / safe * self.focal_px + centre, depth], axis=-1)

    def clip_matrix(self) -> Floats:
        """(4, 4) world to clip space with image row 0 at clip y = -1, so that read-backs need no flip."""
        width, height = self.size_wh
        near, far = NEAR_M, FAR_M
        projection = np.array(
            [
                [2 * self.focal_px / width, 0, 0, 0],
                [0, 2 * self.focal_px / height, 0, 0],
                [0, 0, (far + near) / (far - near), -2 * far * near / (far - near)],
                [0, 0, 1, 0],
            ]
        )
        view = np.eye(4)
        view[:3, :3] = self.rotation
        view[:3, 3] = -self.rotation @ self.position
        return projection @ view

    def visible_x(self, y_m: float, heights_m: tuple[float, ...] = (0.0, 1.8)) -> tuple[float, float]:
        """The range of x, metres, that the frame shows of the line at y = `y_m`; (0, 0) if none of it."""
        xs = np.linspace(-120.0, 120.0, 961)
        width, height = self.size_wh
        shown = np.zeros(xs.size, dtype=bool)
        for z in heights_m:
            line = np.stack([xs, np.full_like(xs, y_m), np.full_like(xs, z)], axis=-1)
            u, v, depth = self.project(line).T
            shown |= (depth > NEAR_M) & (u >= 0) & (u < width) & (v >= 0) & (v < height)
        if not shown.any():
            return 0.0, 0.0
        return float(xs[shown][0]), float(xs[shown][-1])
