"""Small scenes of a fixed camera whose truth is exact: drawn by arithmetic, for tests of the eyes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from walt_edge.camera import Frame
from walt_edge.contract.masks import Mask
from walt_edge.contract.messages import Clock, Moment

FPS = 10.0
Path = Callable[[float], tuple[float, float] | None]
"""Media time to (x, y) of the ground contact, or None while away."""


@dataclass(frozen=True)
class Thing:
    """Something that moves.

    Attributes:
        path: Where it stands at a time.
        kind: `person` (a walker), `stander`, `car`, or `box`.
        height: Pixels.
        colour: BGR.
        shadow: How much light its shadow leaves, 1 for none.
    """

    path: Path
    kind: str = "person"
    height: int = 70
    colour: tuple[int, int, int] = (40, 30, 150)
    shadow: float = 1.0

    def mask(self, time_s: float, shape: tuple[int, int]) -> Mask:
        """Its full outline, clipped to the frame."""
        place = self.path(time_s)
        canvas = np.zeros(shape, np.uint8)
        if place is not None:
            draw = {"person": _person, "stander": _stander, "car": _car, "box": _box}[self.kind]
            draw(canvas, place, self.height, time_s)
        return canvas > 0


@dataclass
class Scene:
    """A place with things in it; nearer things come later in the list.

    Attributes:
        wh: Frame size.
        things: What moves.
        poles: Static occluders in front of all, xyxy.
        light: Gain over time.
        shift: Camera position over time, pixels.
        noise: Standard deviation, grey levels.
    """

    wh: tuple[int, int] = (320, 240)
    things: list[Thing] = field(default_factory=list)
    poles: list[tuple[int, int, int, int]] = field(default_factory=list)
    light: Callable[[float], float] = lambda _: 1.0
    shift: Callable[[float], tuple[int, int]] = lambda _: (0, 0)
    noise: float = 1.5
    seed: int = 3

    def background(self) -> NDArray[np.uint8]:
        """The empty place, poles included."""
        return self._background.copy()

    @cached_property
    def _background(self) -> NDArray[np.uint8]:
        width, height = self.wh
        random = np.random.default_rng(self.seed)
        coarse = random.uniform(70, 150, (height // 16 + 1, width // 16 + 1, 3)).astype(np.float32)
        picture = cv2.GaussianBlur(cv2.resize(coarse, self.wh, interpolation=cv2.INTER_CUBIC), (0, 0), 2)
        for x in range(0, width, 40):
            cv2.line(picture, (x, 0), (x + 30, height), (90.0, 95.0, 100.0), 1)
        for x0, y0, x1, y1 in self.poles:
            picture[y0:y1, x0:x1] = (60, 120, 60)
        return np.asarray(np.clip(picture, 0, 255), np.uint8)

    def picture(self, time_s: float) -> NDArray[np.uint8]:
        """The frame at a time."""
        width, height = self.wh
        out = self.background().astype(np.float32)
        poles = out.copy()
        for thing in self.things:
            mask = thing.mask(time_s, (height, width))
            if thing.shadow < 1:
                out[_shadow_of(mask)] *= thing.shadow
            out[mask] = thing.colour
        for x0, y0, x1, y1 in self.poles:
            out[y0:y1, x0:x1] = poles[y0:y1, x0:x1]
        out = cv2.GaussianBlur(out, (3, 3), 0.5) * self.light(time_s)
        out = np.roll(out, self.shift(time_s), axis=(1, 0))
        random = np.random.default_rng((self.seed, round(time_s * 1000)))
        return np.clip(out + random.normal(0, self.noise, out.shape), 0, 255).astype(np.uint8)

    def visible(self, index: int, time_s: float) -> Mask:
        """What one sees of a thing."""
        width, height = self.wh
        mask = self.things[index].mask(time_s, (height, width))
        for nearer in self.things[index + 1 :]:
            mask &= ~nearer.mask(time_s, (height, width))
        for x0, y0, x1, y1 in self.poles:
            mask[y0:y1, x0:x1] = False
        return mask

    def frames(self, seconds: float, fps: float = FPS, start_s: float = 0.0) -> Iterator[Frame]:
        """Frames in order."""
        for index in range(round(seconds * fps)):
            yield frame_of(self.picture(start_s + index / fps), index, start_s + index / fps)


def frame_of(bgr: NDArray[np.uint8], index: int, media_time_s: float) -> Frame:
    """A frame as a camera would deliver it."""
    moment = Moment(
        utc_us=1_780_000_000_000_000 + round(media_time_s * 1e6),
        boot_id="test",
        monotonic_ns=round(media_time_s * 1e9),
        clock=Clock.SYNCHRONISED,
        media_time_s=media_time_s,
    )
    return Frame(bgr, index, moment)


def walk(
    start_xy: tuple[float, float], speed_xy: tuple[float, float], begin_s: float = 0.0, end_s: float = 1e9
) -> Path:
    """A straight path, away before and after."""

    def path(time_s: float) -> tuple[float, float] | None:
        if not begin_s <= time_s < end_s:
            return None
        passed = time_s - begin_s
        return start_xy[0] + speed_xy[0] * passed, start_xy[1] + speed_xy[1] * passed

    return path


def sway(at_xy: tuple[float, float], by_px: float = 2.0, until_s: float = 1e9) -> Path:
    """Standing as people do, swaying to the sides; away after `until_s`."""

    def path(time_s: float) -> tuple[float, float] | None:
        swayed = by_px * (0.7 * np.sin(2 * np.pi * time_s / 3.1) + 0.3 * np.sin(2 * np.pi * time_s / 1.9))
        return (at_xy[0] + swayed, at_xy[1]) if time_s < until_s else None

    return path


def _person(canvas: NDArray[np.uint8], place: tuple[float, float], height: int, time_s: float) -> None:
    x, y = place
    h = float(height)
    swing = 0.13 * h * np.sin(2 * np.pi * 0.9 * time_s)
    hip = (round(x), round(y - 0.48 * h))
    thick = max(2, round(0.11 * h))
    for side in (swing, -swing):
        cv2.line(canvas, hip, (round(x + side), round(y - 0.05 * h)), 255, thick)
    cv2.ellipse(canvas, (round(x), round(y - 0.66 * h)), (round(0.14 * h), round(0.22 * h)), 0, 0, 360, 255, -1)
    cv2.circle(canvas, (round(x), round(y - 0.92 * h)), max(2, round(0.08 * h)), 255, -1)


def _stander(canvas: NDArray[np.uint8], place: tuple[float, float], height: int, time_s: float) -> None:
    _person(canvas, place, height, 0.15)


def _car(canvas: NDArray[np.uint8], place: tuple[float, float], height: int, time_s: float) -> None:
    x, y = place
    h = float(height)
    cv2.rectangle(canvas, (round(x - 1.1 * h), round(y - 0.6 * h)), (round(x + 1.1 * h), round(y)), 255, -1)
    roof = [(x - 0.8 * h, y - 0.55 * h), (x - 0.5 * h, y - h), (x + 0.5 * h, y - h), (x + 0.8 * h, y - 0.55 * h)]
    cv2.fillPoly(canvas, [np.round(roof).astype(np.int32)], 255)


def _box(canvas: NDArray[np.uint8], place: tuple[float, float], height: int, time_s: float) -> None:
    x, y = place
    cv2.rectangle(canvas, (round(x - height / 2), round(y - height)), (round(x + height / 2), round(y)), 255, -1)


def _shadow_of(mask: Mask) -> Mask:
    """A shadow that falls to the right along the ground."""
    rows = np.flatnonzero(mask.any(axis=1))
    if not rows.size:
        return mask
    height, width = mask.shape
    bottom = float(rows[-1])
    flat = np.array([[1.0, -0.9, 0.9 * bottom], [0.0, 0.25, 0.75 * bottom]])
    fallen = cv2.warpAffine(mask.astype(np.uint8), flat, (width, height)) > 0
    shadow: Mask = fallen & ~mask
    return shadow
