"""Batches of 4x4 transforms, for columns: metres and radians, x forwards, y left, z up."""

from __future__ import annotations

import numpy as np

from walt_train.rwalt.meshes import Floats


def at(headings: Floats, positions: Floats) -> Floats:
    """(N, 4, 4): turned to headings (N,) about z, then put at positions (N, 3)."""
    out = yaw(headings)
    out[:, :3, 3] = positions
    return out


def shift(x: Floats | float = 0.0, y: Floats | float = 0.0, z: Floats | float = 0.0) -> Floats:
    """(N, 4, 4), each of x, y and z one number or (N,); N = 1 where all are numbers."""
    out = _identity(np.broadcast(x, y, z).size)
    out[:, 0, 3], out[:, 1, 3], out[:, 2, 3] = x, y, z
    return out


def scale(x: Floats, y: Floats, z: Floats) -> Floats:
    """(N, 4, 4) from factors (N,)."""
    out = _identity(len(x))
    out[:, 0, 0], out[:, 1, 1], out[:, 2, 2] = x, y, z
    return out


def yaw(angle: Floats) -> Floats:
    """About z, (N,) to (N, 4, 4); positive turns left."""
    return _turn(angle, 0, 1)


def pitch(angle: Floats) -> Floats:
    """About y, (N,) to (N, 4, 4); positive swings a hanging limb backwards and tips a trunk forwards."""
    return _turn(angle, 2, 0)


def roll(angle: Floats) -> Floats:
    """About x, (N,) to (N, 4, 4); positive swings a hanging limb to the left."""
    return _turn(angle, 1, 2)


def origins(*frames: Floats) -> list[Floats]:
    """Where each (N, 4, 4) puts the origin, (N, 3)."""
    return [frame[:, :3, 3] for frame in frames]


def _turn(angle: Floats, first: int, second: int) -> Floats:
    out = _identity(len(angle))
    cos, sin = np.cos(angle), np.sin(angle)
    out[:, first, first], out[:, second, second] = cos, cos
    out[:, first, second], out[:, second, first] = -sin, sin
    return out


def _identity(count: int) -> Floats:
    return np.broadcast_to(np.eye(4), (count, 4, 4)).copy()
