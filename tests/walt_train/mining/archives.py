"""Small archives of a drawn street, as folders of frames."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from tests.fakes.scenes import Scene, Thing, walk
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import Mask, PatchMask, encode_rle
from walt_edge.contract.messages import Clock, CropHeader, Moment, Origin

WH = (320, 240)
SECONDS, FPS = 11.0, 8.0


def street(*, late: bool = False) -> Scene:
    """Two walkers and a car pass behind a pole; `late` ones wear other colours."""
    coat = (160, 40, 40) if late else (40, 30, 150)
    things = [
        Thing(walk((-25, 205), (60, 0), 1.0), height=84, colour=coat),
        Thing(walk((345, 225), (-62, 0), 3.0), height=90, colour=(30, 110, 30)),
        Thing(walk((-70, 185), (95, 0), 6.0), "car", 44, (30, 160, 200)),
    ]
    return Scene(wh=WH, things=things, poles=[(150, 60, 157, 190)], seed=11)


def record(folder: Path, scene: Scene, *, move_xy: tuple[float, float] = (0.0, 0.0), turn_deg: float = 0.0) -> Path:
    """Writes a scene's frames as a camera would see them that was moved and turned; returns the folder."""
    folder.mkdir(parents=True)
    matrix = cv2.getRotationMatrix2D((WH[0] / 2, WH[1] / 2), turn_deg, 1.0)
    matrix[:, 2] -= move_xy
    for frame in scene.frames(SECONDS, FPS):
        seen = cv2.warpAffine(frame.bgr, matrix, WH, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        cv2.imwrite(str(folder / f"{frame.index:04d}.png"), np.asarray(seen))
    return folder


def crop_header(
    mask: Mask,
    crop_xy: tuple[int, int],
    *,
    label: Label = Label.VEHICLE,
    frame_wh: tuple[int, int] = (640, 360),
    track_id: int = 1,
    time_us: int = 1_780_000_000_000_000,
    standing: bool = False,
    boot: str = "boot",
) -> CropHeader:
    """A header of a mask in a crop."""
    own = PatchMask.from_full(mask)
    x, y = crop_xy[0] + own.x, crop_xy[1] + own.y
    height, width = own.mask.shape
    return CropHeader(
        origin=Origin(site="s", device="d", camera="c", model="m", anonymiser="1 faces=head-only", frame_wh=frame_wh),
        captured=Moment(
            utc_us=time_us, boot_id=boot, monotonic_ns=0, clock=Clock.SYNCHRONISED, media_time_s=time_us % 10**9 / 1e6
        ),
        box_xyxy=(float(x), float(y), float(x + width), float(y + height)),
        label=label,
        score=0.9,
        unoccluded_confidence=0.9,
        confidence_parts={},
        track_id=track_id,
        stationary_us=(time_us, time_us) if standing else None,
        ground_xy=(x + width / 2, float(y + height)),
        crop_xy=crop_xy,
        mask=encode_rle(mask),
        plate="",
        holdout=False,
    )
