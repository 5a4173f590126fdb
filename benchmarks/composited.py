"""People with faces, composited over real grounds: sizes, contrasts and hiding places that one street does not have.

Walkers with heads of known size cross the picture, in clothes between the ground's own colour and any, behind posts
out of which they step in the middle of the picture. Grounds are stills of a real camera where they lie beside the
checkout, else drawn. Everything is arithmetic with a seed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from walt_edge.camera import Frame
from walt_edge.capture.stills import read_still
from walt_edge.contract.masks import Mask, PatchMask
from walt_edge.contract.messages import Clock, Moment

GROUND = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "cameras" / "parking" / "day0"
WH = (960, 540)
FPS = 10.0
CALM_S = 13.0  # nobody is there while the plate is learned
HEADS_TALL = 7.2
SKINS_BGR = ((140, 180, 225), (95, 135, 190), (55, 80, 120), (40, 55, 80))
_SUPER = 2  # drawn so many times larger, and averaged
_POSTS = ((0.28, 0.07), (0.66, 0.12))  # middle and width, of the frame's


@dataclass(frozen=True, slots=True)
class Walker:
    """Somebody who crosses the picture once.

    Attributes:
        head_px: Diameter of the head.
        begins_s: When they come in.
        rightwards: Which way they go.
        bottom: Of their feet, pixels.
        clothes_bgr: Shirt and trousers; None takes the ground's colours, lighter or darker by a little.
        shade: How much lighter or darker then, grey levels.
        skin: Which of `SKINS_BGR`.
        phase: Of the step.
    """

    head_px: int
    begins_s: float
    rightwards: bool
    bottom: float
    clothes_bgr: tuple[tuple[int, int, int], tuple[int, int, int]] | None
    shade: float
    skin: int
    phase: float

    def x(self, time_s: float) -> float:
        """Middle, pixels: 0.7 of one's height a second, at least so fast that they are through in half a minute."""
        speed = max(0.7 * HEADS_TALL * self.head_px, WH[0] / 25)
        gone = speed * (time_s - self.begins_s) - self.head_px * 2
        return gone if self.rightwards else WH[0] - gone

    def is_there(self, time_s: float) -> bool:
        """Whether any of them may be in the picture."""
        return time_s >= self.begins_s and -3 * self.head_px < self.x(time_s) < WH[0] + 3 * self.head_px


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """One walker in one frame.

    Attributes:
        walker: Which, by number.
        head_px: Diameter of the head.
        head: Its visible pixels.
        body: All visible pixels.
        is_whole: Whether at least half of the head is visible.
    """

    walker: int
    head_px: int
    head: PatchMask
    body: PatchMask
    is_whole: bool


class Crowd:
    """The film.

    Args:
        seed: Of everything.
        heads_px: One walker of each size at a time, one after another.
        rounds: How often.
    """

    def __init__(self, seed: int, heads_px: tuple[int, ...], rounds: int) -> None:
        self._random = np.random.default_rng(seed)
        self._ground = _ground(self._random)
        self.walkers = [
            self._walker(head_px, CALM_S + 6.0 * turn + 0.9 * place)
            for turn in range(rounds)
            for place, head_px in enumerate(heads_px)
        ]
        self.seconds = max(one.begins_s for one in self.walkers) + 14.0

    def _walker(self, head_px: int, begins_s: float) -> Walker:
        random = self._random
        plain = random.random() < 0.5
        colours = tuple(tuple(int(v) for v in random.integers(20, 235, 3)) for _ in range(2))
        high = HEADS_TALL * head_px
        return Walker(
            head_px=head_px,
            begins_s=begins_s,
            rightwards=bool(random.random() < 0.5),
            bottom=float(random.uniform(max(high + 4, 0.45 * WH[1]), WH[1] - 4)),
            clothes_bgr=None if plain else (colours[0], colours[1]),  # type: ignore[arg-type]
            shade=float(random.choice([-1, 1]) * random.uniform(6, 40)),
            skin=int(random.integers(len(SKINS_BGR))),
            phase=float(random.uniform(0, 1)),
        )

    def frames(self) -> Iterator[tuple[Frame, list[Shown]]]:
        """Frames with their truth."""
        for index in range(round(self.seconds * FPS)):
            time_s = index / FPS
            bgr, shown = self._frame(time_s)
            moment = Moment(
                utc_us=1_780_000_000_000_000 + round(time_s * 1e6),
                boot_id="bench",
                monotonic_ns=round(time_s * 1e9),
                clock=Clock.SYNCHRONISED,
                media_time_s=time_s,
            )
            yield Frame(bgr, index, moment), shown

    def _frame(self, time_s: float) -> tuple[NDArray[np.uint8], list[Shown]]:
        canvas = self._ground.astype(np.float32)
        posts = _posts()
        there = [(n, one) for n, one in enumerate(self.walkers) if one.is_there(time_s)]
        seen: list[tuple[int, Walker, Mask, Mask]] = []
        for number, walker in sorted(there, key=lambda pair: pair[1].bottom):
            head, body = _draw(canvas, self._ground, walker, time_s)
            seen = [(n, w, h & ~body, b & ~body) for n, w, h, b in seen]
            seen.append((number, walker, head, body))
        canvas[posts] = self._ground[posts]
        noise = self._random.normal(0, 2.0, (WH[1] // 2, WH[0] // 2, 3)).astype(np.float32)
        canvas += cv2.resize(noise, WH, interpolation=cv2.INTER_NEAREST)
        bgr = np.clip(np.round(canvas), 0, 255).astype(np.uint8)
        _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 85])
        decoded = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
        shown = [_shown(number, walker, head & ~posts, body & ~posts) for number, walker, head, body in seen]
        return decoded, shown


def _shown(number: int, walker: Walker, head: Mask, body: Mask) -> Shown:
    whole = np.pi / 4 * walker.head_px * walker.head_px * 0.8
    is_whole = bool(head.sum() >= whole / 2)
    return Shown(number, walker.head_px, PatchMask.from_full(head), PatchMask.from_full(body), is_whole)


def _ground(random: np.random.Generator) -> NDArray[np.uint8]:
    stills = sorted(GROUND.glob("*.jpg")) if GROUND.is_dir() else []
    if stills:
        picture = np.asarray(cv2.resize(read_still(stills[0]), WH, interpolation=cv2.INTER_AREA), np.uint8)
    else:
        coarse = random.uniform(60, 160, (WH[1] // 30, WH[0] // 30, 3)).astype(np.float32)
        picture = np.asarray(cv2.resize(coarse, WH, interpolation=cv2.INTER_CUBIC).clip(0, 255), np.uint8)
    picture[_posts()] = np.array((70, 95, 90), np.uint8)
    return picture


def _posts() -> Mask:
    posts = np.zeros((WH[1], WH[0]), bool)
    for middle, width in _POSTS:
        posts[:, round((middle - width / 2) * WH[0]) : round((middle + width / 2) * WH[0])] = True
    return posts


def _draw(canvas: NDArray[np.float32], ground: NDArray[np.uint8], walker: Walker, time_s: float) -> tuple[Mask, Mask]:
    """Paints a walker; returns the pixels of the head, and all of theirs."""
    d, x, feet = float(walker.head_px), walker.x(time_s), walker.bottom
    top, high = feet - HEADS_TALL * d, HEADS_TALL * d
    box = (
        max(0, int(x - 2 * d)),
        max(0, int(top - d)),
        min(WH[0], int(x + 2 * d) + 2),
        min(WH[1], int(feet) + 2),
    )
    if box[2] <= box[0] or box[3] <= box[1]:
        nothing = np.zeros((WH[1], WH[0]), bool)
        return nothing, nothing
    window = (slice(box[1], box[3]), slice(box[0], box[2]))
    size = ((box[2] - box[0]) * _SUPER, (box[3] - box[1]) * _SUPER)
    layers = [np.zeros((size[1], size[0]), np.uint8) for _ in range(4)]
    trousers, shirt, head, features = layers

    def at(fx: float, fy: float) -> tuple[int, int]:
        return round((x + fx * d - box[0]) * _SUPER), round((top + fy * d - box[1]) * _SUPER)

    swing = 0.9 * np.sin(2 * np.pi * (0.9 * time_s + walker.phase))
    for side in (swing, -swing):
        cv2.line(trousers, at(0, 3.7), at(side, 7.1), 255, max(1, round(0.75 * d * _SUPER)))
    collar = [at(-0.25, 0.95), at(0.25, 0.95)]
    body = np.array([*collar, at(0.95, 1.35), at(0.75, 4.0), at(-0.75, 4.0), at(-0.95, 1.35)])
    cv2.fillPoly(shirt, [body], 255)
    for side in (-1.0, 1.0):
        cv2.line(shirt, at(0.85 * side, 1.6), at(1.0 * side + 0.4 * side * swing, 3.6), 255, round(0.4 * d * _SUPER))
    cv2.ellipse(head, at(0, 0.55), (round(0.40 * d * _SUPER), round(0.5 * d * _SUPER)), 0, 0, 360, 255, -1)
    _face(features, at, d, looks=0.15 if walker.rightwards else -0.15)
    shares = [cv2.resize(layer, (box[2] - box[0], box[3] - box[1]), interpolation=cv2.INTER_AREA) for layer in layers]
    for share, colour in zip(shares, _colours(ground[window], walker, high), strict=True):
        alpha = share.astype(np.float32)[..., None] / 255
        canvas[window] = canvas[window] * (1 - alpha) + colour * alpha
    own = np.zeros((2, WH[1], WH[0]), bool)
    own[0][window] = shares[2] > 127
    own[1][window] = np.maximum.reduce(shares[:3]) > 127
    return own[0], own[1]


def _face(layer: NDArray[np.uint8], at: object, d: float, looks: float) -> None:
    """Hair, eyes, brows, nose and mouth, dark, turned a little the way that they go."""
    assert callable(at)
    thick = max(1, round(0.06 * d * _SUPER))
    cv2.ellipse(layer, at(0, 0.3), (round(0.42 * d * _SUPER), round(0.32 * d * _SUPER)), 0, 180, 360, 255, -1)
    for side in (-0.16, 0.16):
        cv2.circle(layer, at(side + looks, 0.5), max(1, round(0.055 * d * _SUPER)), 255, -1)
        cv2.line(layer, at(side + looks - 0.08, 0.4), at(side + looks + 0.08, 0.4), 200, thick)
    cv2.line(layer, at(looks, 0.55), at(looks * 1.3, 0.68), 110, thick)
    cv2.line(layer, at(looks - 0.13, 0.82), at(looks + 0.13, 0.82), 180, thick)


def _colours(ground: NDArray[np.uint8], walker: Walker, high: float) -> list[NDArray[np.float32]]:
    """Of trousers, shirt, head and features; a plain one's clothes are those of the ground behind, shaded."""
    skin = np.array(SKINS_BGR[walker.skin], np.float32)
    features = skin * 0.25
    if walker.clothes_bgr is None:
        soft = cv2.GaussianBlur(ground.astype(np.float32), (0, 0), max(1.0, high / 30)) + walker.shade
        return [soft, soft + 6.0, skin, features]
    shirt, trousers = (np.array(colour, np.float32) for colour in walker.clothes_bgr)
    return [trousers, shirt, skin, features]
