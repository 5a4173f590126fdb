"""Articulated people: a body of parts, and a gait that moves them.

The gait is driven by the distance walked, so that feet do not slide: hips swing as sines half a turn apart, the
knee bends while its leg swings forward, arms swing against the legs, and the pelvis is as high as the standing
leg allows (which makes the body bob). Who stands is not still (`walt_train.rwalt.idle`), but their feet are. All
people of a frame are posed in one batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from walt_train.rwalt.idle import Idle
from walt_train.rwalt.meshes import Colour, Floats, Kind, Mesh, ball, box, from_triangles, join, moved, tube
from walt_train.rwalt.transforms import at, origins, pitch, roll, scale, shift, yaw

KEYPOINTS = (
    "nose",
    "left_eye",
    "right_eye",
    "left_ear",
    "right_ear",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_hip",
    "right_hip",
    "left_knee",
    "right_knee",
    "left_ankle",
    "right_ankle",
)

SKELETON = (
    (16, 14), (14, 12), (17, 15), (15, 13), (12, 13), (6, 12), (7, 13), (6, 7), (6, 8), (7, 9), (8, 10), (9, 11),
    (2, 3), (1, 2), (1, 3), (2, 4), (3, 5), (4, 6), (5, 7),
)  # fmt: skip
"""Pairs of keypoints, from 1, as COCO has them."""

SWING = 0.43
"""Amplitude of the hip, radians, at walking pace."""

# Lengths as fractions of the body's height (after Drillis and Contini's segment table, rounded).
THIGH, SHIN, ANKLE = 0.245, 0.246, 0.039
HIP_HALF, SHOULDER_HALF = 0.052, 0.107
TORSO, NECK, HEAD = 0.288, 0.052, 0.13
UPPER_ARM, FOREARM = 0.172, 0.157

LEFT_RIGHT = ((0, 1.0), (1, -1.0))

_SKIN: tuple[Colour, ...] = (
    (0.56, 0.34, 0.24),
    (0.48, 0.27, 0.18),
    (0.33, 0.17, 0.1),
    (0.18, 0.085, 0.05),
    (0.09, 0.042, 0.028),
)
_HAIR: tuple[Colour, ...] = (
    (0.01, 0.008, 0.007),
    (0.035, 0.018, 0.01),
    (0.11, 0.055, 0.022),
    (0.32, 0.22, 0.09),
    (0.3, 0.3, 0.29),
)
_TOPS: tuple[Colour, ...] = (
    (0.7, 0.7, 0.68), (0.02, 0.02, 0.022), (0.05, 0.055, 0.07), (0.4, 0.02, 0.02), (0.03, 0.08, 0.3),
    (0.08, 0.2, 0.1), (0.6, 0.42, 0.05), (0.45, 0.17, 0.05), (0.25, 0.27, 0.3),
    (0.4, 0.1, 0.2), (0.15, 0.3, 0.42), (0.22, 0.14, 0.09),
)  # fmt: skip
_BOTTOMS: tuple[Colour, ...] = (
    (0.025, 0.04, 0.085), (0.015, 0.015, 0.018), (0.05, 0.075, 0.14), (0.3, 0.24, 0.15), (0.16, 0.16, 0.17),
    (0.1, 0.07, 0.045),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class PersonModel:
    """What one person looks like.

    Attributes:
        height_m: Standing height.
        girth: Width of body and limbs relative to the average.
        skin, hair, top, bottom, shoes, bag: Linear RGB.
        short_sleeves: Bare forearms.
        legwear: `trousers`, `shorts` or `skirt`.
        long_hair: Hair down to the shoulders.
        backpack: Carries one.
    """

    height_m: float
    girth: float
    skin: Colour
    hair: Colour
    top: Colour
    bottom: Colour
    shoes: Colour
    bag: Colour
    short_sleeves: bool
    legwear: str
    long_hair: bool
    backpack: bool


def draw_person(rng: np.random.Generator) -> PersonModel:
    """A random person: four in five adults, the rest children."""
    child = rng.random() < 0.12
    height = rng.uniform(1.1, 1.5) if child else np.clip(rng.normal(1.71, 0.09), 1.5, 1.96)

    def pick(palette: tuple[Colour, ...]) -> Colour:
        red, green, blue = np.clip(
            np.asarray(palette[int(rng.integers(len(palette)))]) * rng.uniform(0.8, 1.2, 3), 0, 0.9
        )
        return float(red), float(green), float(blue)

    return PersonModel(
        height_m=float(height),
        girth=float(rng.uniform(0.9, 1.2)),
        skin=pick(_SKIN),
        hair=pick(_HAIR),
        top=pick(_TOPS),
        bottom=pick(_BOTTOMS),
        shoes=pick(_BOTTOMS + _TOPS[:2]),
        bag=pick(_TOPS),
        short_sleeves=bool(rng.random() < 0.45),
        legwear=str(rng.choice(["trousers", "shorts", "skirt"], p=[0.72, 0.14, 0.14])),
        long_hair=bool(rng.random() < 0.4),
        backpack=bool(rng.random() < 0.25),
    )


def part_meshes() -> dict[str, Mesh]:
    """The unit parts that every body is scaled from; limbs hang from the origin to z = -1."""
    limb = tube([(0.0, 0.05), (0.85, 0.02), (1.0, -0.18), (0.72, -0.95), (0.0, -1.03)], 6)
    torso = tube([(0.78, -0.02), (0.84, 0.15), (0.82, 0.35), (0.98, 0.72), (0.9, 0.9), (0.5, 1.0), (0.0, 1.02)], 8)
    pelvis = tube([(0.0, -0.75), (0.7, -0.65), (1.0, 0.1), (0.88, 0.6)], 8)
    skirt = tube([(1.25, -1.0), (1.05, -0.4), (0.85, 0.12)], 10)
    white: Colour = (1.0, 1.0, 1.0)

    def part(triangles: Floats, kind: Kind = Kind.CLOTH) -> Mesh:
        return from_triangles(triangles, white, 1.0, kind)

    shoe = join(part(box((0.7, 0.85, 0.9), (0.0, 0, 0.0))), moved(part(ball(4, 6)), (0.4, 0, -0.1), (0.5, 0.45, 0.4)))
    hair = moved(part(ball(5, 8)), (-0.1, 0, 0.13), (1.04, 1.08, 1.0))
    return {
        "limb": part(limb),
        "torso": part(torso),
        "pelvis": part(pelvis),
        "skirt": part(skirt),
        "head": part(ball(6, 8)),
        "hand": part(ball(4, 6)),
        "hair": hair,
        "long_hair": moved(part(ball(5, 8)), (-0.5, 0, -0.55), (0.62, 0.95, 1.15)),
        "shoe": shoe,
        "pack": part(ball(5, 8)),
    }


def stride_phase(distance_m: Floats, height_m: Floats) -> Floats:
    """Gait phase, radians, after walking `distance_m`: half a turn a step, as long as the hips' swing makes it."""
    step = 2 * (THIGH + SHIN + ANKLE) * height_m * np.sin(SWING)
    return np.asarray(distance_m / step * np.pi)


@dataclass(frozen=True, slots=True, eq=False)
class Pose:
    """P people, posed.

    Attributes:
        parts: Per part name, (P, 3, 4) part to world; left and right limbs are parts of their own.
        keypoints: (P, 17, 3) world, metres.
        facing: (P, 3) where each looks.
    """

    parts: dict[str, Floats]
    keypoints: Floats
    facing: Floats


def walking_share(speeds: Floats) -> Floats:
    """How much of a full gait people at these speeds show: 0 who stands, 1 from walking pace on."""
    return np.clip(speeds / 0.9, 0.0, 1.0)


def pose_people(
    models: list[PersonModel], positions: Floats, headings: Floats, phases: Floats, speeds: Floats, idle: Idle
) -> Pose:
    """Poses P people.

    Args:
        models: P looks.
        positions: (P, 3) where they stand, metres.
        headings: (P,) radians about z, 0 along +x.
        phases: (P,) gait phase, radians.
        speeds: (P,) metres a second; the swing fades below walking pace.
        idle: What they do beside walking.
    """
    return _Poser(models, positions, headings, phases, speeds, idle).pose()


class _Poser:
    """The batch of one frame, built from the pelvis outwards."""

    def __init__(
        self,
        models: list[PersonModel],
        positions: Floats,
        headings: Floats,
        phases: Floats,
        speeds: Floats,
        idle: Idle,
    ) -> None:
        self.height = np.array([m.height_m for m in models])
        self.girth = np.array([m.girth for m in models])
        self.phase = phases
        self.swing = walking_share(speeds)
        self.idle = idle
        # Angles over the ankles: of the trunk, and of the legs, which take the weight's shift as well.
        leg = self.height * (THIGH + SHIN)
        self.lean = np.stack([idle.forward_m, idle.left_m], axis=1) / leg[:, None]
        self.leg_lean = self.lean + np.stack([np.zeros_like(leg), idle.weight_m / leg], axis=1)
        self.root = at(headings, positions)
        self.parts: dict[str, Floats] = {}
        self.points: dict[str, Floats] = {}

    def pose(self) -> Pose:
        self._legs()
        self._torso()
        self._arms()
        self._head()
        keypoints = np.stack([self.points[name] for name in KEYPOINTS], axis=1)
        return Pose({name: m[:, :3, :] for name, m in self.parts.items()}, keypoints, self.facing)

    def _legs(self) -> None:
        height, thigh, shin = self.height, self.height * THIGH, self.height * SHIN
        angles, reach = [], []
        for _, side in LEFT_RIGHT:
            phase = self.phase + (np.pi if side < 0 else 0.0)
            hip = self.swing * (SWING * np.sin(phase) + 0.06)
            knee = self.swing * (0.1 + 0.85 * np.clip(np.cos(phase + 0.5), 0, 1) ** 1.5)
            angles.append((hip, knee, phase))
            reach.append(thigh * np.cos(hip) + shin * np.cos(hip - knee))
        hip_z = np.maximum(*reach) + height * ANKLE
        hip_z -= self.height * (THIGH + SHIN) * (1 - np.cos(np.hypot(*self.leg_lean.T)))
        self.pelvis = self.root @ shift(self.idle.forward_m, self.idle.left_m + self.idle.weight_m, hip_z)
        for (hip, knee, phase), (_, side) in zip(angles, LEFT_RIGHT, strict=True):
            name = "left" if side > 0 else "right"
            hung = self.pelvis @ shift(y=side * HIP_HALF * height) @ roll(-self.leg_lean[:, 1])
            joint = hung @ pitch(self.leg_lean[:, 0] - hip)
            lower = joint @ shift(z=-thigh) @ pitch(knee)
            foot = (
                lower
                @ shift(z=-shin)
                @ pitch(self.swing * 0.5 * np.clip(np.cos(phase + 1.2), -0.2, 1) - (knee - hip) * 0.3)
            )
            self._limb(f"{name}_thigh", joint, thigh, 0.046)
            self._limb(f"{name}_shin", lower, shin, 0.034)
            self.parts[f"{name}_shoe"] = (
                foot @ shift(x=0.035 * height, z=-0.01 * height) @ scale(0.13 * height, 0.06 * height, 0.05 * height)
            )
            self.points[f"{name}_hip"], self.points[f"{name}_knee"], self.points[f"{name}_ankle"] = origins(
                joint, lower, foot
            )
        wide = 0.085 * height * self.girth
        self.parts["pelvis"] = self.pelvis @ scale(wide * 0.8, wide, 0.075 * height)
        self.parts["skirt"] = self.pelvis @ scale(wide * 0.95, wide * 1.02, 0.24 * height)

    def _torso(self) -> None:
        height = self.height
        twist = self.swing * 0.12 * np.sin(self.phase)
        upright = self.pelvis @ roll(-self.lean[:, 1]) @ yaw(twist)
        self.chest = upright @ pitch(0.03 + 0.04 * self.swing + self.lean[:, 0])
        wide = 0.108 * height * self.girth
        self.parts["torso"] = self.chest @ scale(wide * 0.62, wide, height * (TORSO + 0.02))
        self.parts["pack"] = (
            self.chest
            @ shift(x=-0.1 * height, z=0.19 * height)
            @ scale(0.065 * height, 0.085 * height, 0.12 * height)
        )

    def _arms(self) -> None:
        height = self.height
        for index, side in LEFT_RIGHT:
            name = "left" if side > 0 else "right"
            swing = -self.swing * 0.5 * np.sin(self.phase + index * np.pi)
            shoulder = self.chest @ shift(y=side * SHOULDER_HALF * height * self.girth, z=TORSO * 0.93 * height)
            upper = shoulder @ roll(np.full_like(height, side * 0.1)) @ pitch(-swing - self.idle.arms[:, index])
            lower = (
                upper
                @ shift(z=-UPPER_ARM * height)
                @ pitch(-(0.18 + self.swing * (0.3 + 0.25 * np.clip(swing, 0, 1)) + self.idle.elbows[:, index]))
            )
            hand = lower @ shift(z=-FOREARM * height)
            self._limb(f"{name}_upper_arm", upper, UPPER_ARM * height, 0.031)
            self._limb(f"{name}_forearm", lower, FOREARM * height, 0.024)
            self.parts[f"{name}_hand"] = (
                hand @ shift(z=-0.02 * height) @ scale(0.025 * height, 0.018 * height, 0.045 * height)
            )
            self.points[f"{name}_shoulder"], self.points[f"{name}_elbow"], self.points[f"{name}_wrist"] = origins(
                upper, lower, hand
            )

    def _head(self) -> None:
        height = self.height
        top = self.chest @ shift(z=TORSO * height)
        self._limb("neck", top @ shift(z=NECK * height), NECK * 1.3 * height, 0.033)
        turned = top @ yaw(self.idle.head_yaw) @ pitch(self.idle.head_pitch)
        centre = turned @ shift(x=0.012 * height, z=(NECK + HEAD * 0.42) * height)
        radii = (0.054 * height, 0.044 * height, HEAD / 2 * height)
        self.parts["head"] = centre @ scale(*radii)
        self.facing = turned[:, :3, 0]
        self.parts["hair"] = self.parts["long_hair"] = self.parts["head"]
        for name, x, y, z in (
            ("nose", 1.05, 0, -0.1),
            ("left_eye", 0.85, 0.42, 0.12),
            ("right_eye", 0.85, -0.42, 0.12),
            ("left_ear", -0.05, 1.0, 0.0),
            ("right_ear", -0.05, -1.0, 0.0),
        ):
            self.points[name] = self.parts["head"][:, :3] @ np.array([x, y, z, 1.0])

    def _limb(self, name: str, joint: Floats, length: Floats, radius: float) -> None:
        thick = radius * self.height * self.girth
        self.parts[name] = joint @ scale(thick, thick, length)


def part_list(model: PersonModel) -> list[tuple[str, str, Colour]]:
    """What one person is drawn from: (part, mesh, colour)."""
    legs = model.skin if model.legwear != "trousers" else model.bottom
    thighs = model.skin if model.legwear == "skirt" else model.bottom
    sleeves = model.skin if model.short_sleeves else model.top
    parts = [("torso", "torso", model.top), ("pelvis", "pelvis", model.bottom), ("neck", "limb", model.skin)]
    parts += [("head", "head", model.skin), ("hair", "hair", model.hair)]
    for side in ("left", "right"):
        parts += [
            (f"{side}_thigh", "limb", thighs),
            (f"{side}_shin", "limb", legs),
            (f"{side}_shoe", "shoe", model.shoes),
            (f"{side}_upper_arm", "limb", model.top),
            (f"{side}_forearm", "limb", sleeves),
            (f"{side}_hand", "hand", model.skin),
        ]
    if model.legwear == "skirt":
        parts.append(("skirt", "skirt", model.bottom))
    if model.long_hair:
        parts.append(("long_hair", "long_hair", model.hair))
    if model.backpack:
        parts.append(("pack", "pack", model.bag))
    return parts
