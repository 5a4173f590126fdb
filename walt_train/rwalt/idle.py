"""What people do who only stand: they sway, shift their weight, turn their heads and move their arms.

Nobody stands like a statue: the body sways over the ankles by a few centimetres with periods of some seconds, the
weight goes from one leg to the other now and then, and heads and arms are never quite at rest. Everything is a sum of
sines whose rates and phases are a person's own, so that it is a pure function of (person, time).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from walt_train.rwalt.meshes import Floats

SWAY_M = (0.016, 0.012)
"""Amplitude of the sway at the hip, forwards and sideways; a head sways twice as far."""
SHIFT_M = 0.025
"""How far the pelvis goes to the side when the weight changes legs."""
HEAD_TURN, HEAD_NOD = 0.55, 0.12
ARM_SWING, ELBOW_BEND = 0.06, 0.16

_PERIODS_S = ((2.0, 6.0),) * 4 + ((9.0, 22.0), (5.0, 14.0)) + ((2.5, 6.0),) * 5
"""Of every sine: sway forwards twice and sideways twice, weight, head turn, nod, arms, elbows."""


@dataclass(frozen=True, slots=True, eq=False)
class Idle:
    """How P people stand at one moment, each (P,).

    Attributes:
        forward_m, left_m: The hip's way out of the upright, swayed over the ankles with the whole body.
        weight_m: What the pelvis alone goes to the left.
        head_yaw, head_pitch: Radians; left and down are positive.
        arms: (P, 2) forward swing of the left and right shoulder, radians.
        elbows: (P, 2) additional bend, radians, never negative.
    """

    forward_m: Floats
    left_m: Floats
    weight_m: Floats
    head_yaw: Floats
    head_pitch: Floats
    arms: Floats
    elbows: Floats


def draw_habit(rng: np.random.Generator) -> Floats:
    """(2, n) angular rates and phases of one person's sines."""
    low, high = np.array(_PERIODS_S).T
    periods = rng.uniform(low, high)
    return np.stack([2 * np.pi / periods, rng.uniform(0, 2 * np.pi, len(periods))])


def idle_at(habits: Floats, time_s: float, share: Floats) -> Idle:
    """How people stand at a time.

    Args:
        habits: (P, 2, n) of `draw_habit`.
        time_s: Seconds.
        share: (P,) 1 for who stands, 0 for who walks.
    """
    waves = np.sin(habits[:, 0] * time_s + habits[:, 1]) * share[:, None]
    return Idle(
        forward_m=SWAY_M[0] * (0.6 * waves[:, 0] + 0.4 * waves[:, 1]),
        left_m=SWAY_M[1] * (0.6 * waves[:, 2] + 0.4 * waves[:, 3]),
        # Steep: a leg is stood on for a while and then changed.
        weight_m=SHIFT_M * np.tanh(3 * waves[:, 4]),
        head_yaw=HEAD_TURN * np.tanh(2 * waves[:, 5]),
        head_pitch=HEAD_NOD * waves[:, 6],
        arms=ARM_SWING * waves[:, 7:9],
        elbows=ELBOW_BEND * np.clip(waves[:, 9:11], 0, None),
    )
