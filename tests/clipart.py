"""A folder of clip art drawn by arithmetic: people and cars on a plain whose height line is known."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.clipart import Clip, ClipArt, Plate, write_clipart
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import Mask, encode_rle
from walt_edge.contract.messages import Clock, CropHeader, Moment, Origin, PlateHeader

FRAME_WH = (320, 180)
MARGIN = 4
HOUR_US = 3_600_000_000


@dataclass(frozen=True)
class Thing:
    """An object seen whole: its ground contact, when and as which track."""

    label: Label
    x: int
    row: int
    track: int
    hour: int = 12
    still: bool = False
    holdout: bool = False
    height: int = 0

    @property
    def size_wh(self) -> tuple[int, int]:
        """A person is a third as wide as tall, a car twice; both grow with the row."""
        person = self.label is Label.PERSON
        height = self.height or (self.row // 3 if person else self.row // 5)
        return (max(4, height // 3), height) if person else (2 * height, height)


def some_things(people: int = 8, cars: int = 8) -> list[Thing]:
    """Objects all over the ground, in the order of time."""
    out = []
    for number in range(people + cars):
        label = Label.PERSON if number < people else Label.VEHICLE
        out.append(Thing(label, 40 + number * 67 % 240, 90 + number * 37 % 80, number + 1))
    return out


def write_scene(folder: Path, things: list[Thing], hours: tuple[int, ...] = (12,)) -> Path:
    """Writes clip art of the things and a plate an hour."""
    for kind in ("crops", "plates"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    plates = [_plate(folder, hour) for hour in hours]
    clips = [_clip(folder, number, thing) for number, thing in enumerate(things)]
    write_clipart(
        folder, ClipArt(camera="cam-1", frame_wh=FRAME_WH, plates=plates, clips=clips, rejected_by_reason={})
    )
    return folder


def draw(thing: Thing) -> tuple[NDArray[np.uint8], Mask]:
    """Its picture with a margin of the plain, and its mask: an ellipse on a block."""
    width, height = thing.size_wh
    mask = np.zeros((height, width), np.uint8)
    cv2.ellipse(mask, (width // 2, height // 3), (max(1, width // 2 - 1), height // 3), 0, 0, 360, 1, -1)
    mask[height // 2 :, width // 8 : width - width // 8] = 1
    rows = np.flatnonzero(mask.any(axis=1))
    assert rows[-1] == height - 1
    padded = np.pad(mask, MARGIN).astype(bool)
    image = np.full((*padded.shape, 3), 90, np.uint8)
    image[padded] = (thing.track * 53 % 200 + 30, thing.track * 91 % 200 + 30, 200)
    return image, padded


def plate_image(hour: int) -> NDArray[np.uint8]:
    """A plain that rises in brightness, a little different by the hour."""
    width, height = FRAME_WH
    ramp = np.arange(height)[:, None, None] // 2 + 40 + hour + np.arange(width)[None, :, None] % 3
    return np.broadcast_to(ramp, (height, width, 3)).astype(np.uint8)


def origin() -> Origin:
    return Origin(
        site="test", device="walt-test", camera="cam-1", model="motion-1", anonymiser="1", frame_wh=FRAME_WH
    )


def moment(utc_us: int) -> Moment:
    return Moment(
        utc_us=utc_us, boot_id="boot", monotonic_ns=utc_us, clock=Clock.SYNCHRONISED, media_time_s=utc_us / 1e6
    )


def _clip(folder: Path, number: int, thing: Thing) -> Clip:
    image, mask = draw(thing)
    width, height = thing.size_wh
    left, top = thing.x - width // 2, thing.row - height
    utc_us = thing.hour * HOUR_US + number * 1_000_000
    header = CropHeader(
        origin=origin(),
        captured=moment(utc_us),
        box_xyxy=(left, top, left + width, top + height),
        label=thing.label,
        score=0.9,
        unoccluded_confidence=0.9,
        confidence_parts={},
        track_id=thing.track,
        stationary_us=(utc_us, utc_us) if thing.still else None,
        ground_xy=(thing.x, thing.row),
        crop_xy=(left - MARGIN, top - MARGIN),
        mask=encode_rle(mask),
        plate=f"plate-{thing.hour}",
        holdout=thing.holdout,
    )
    return Clip(header=header, image=_write(folder / f"crops/{number}.png", image, folder))


def _plate(folder: Path, hour: int) -> Plate:
    known = encode_rle(np.ones(FRAME_WH[::-1], dtype=bool))
    header = PlateHeader(origin=origin(), captured=moment(hour * HOUR_US), hour=hour, known=known, samples=9)
    return Plate(
        id=f"plate-{hour}", header=header, image=_write(folder / f"plates/{hour}.png", plate_image(hour), folder)
    )


def _write(path: Path, image: NDArray[np.uint8], folder: Path) -> str:
    done, data = cv2.imencode(".png", image)
    assert done
    path.write_bytes(data.tobytes())
    return path.relative_to(folder).as_posix()


def moved(thing: Thing, **changes: int) -> Thing:
    """The same thing elsewhere."""
    return replace(thing, **changes)  # type: ignore[arg-type]
