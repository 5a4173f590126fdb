"""A small street of which everything is known: journal, store and annotations as the stations would leave them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np

from tests.envelopes import image, moment, origin
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import Mask, encode_rle
from walt_edge.contract.messages import CropHeader, PlateHeader, SpoolCounts, Telemetry
from walt_edge.privacy.anonymiser import SealedEnvelope, seal
from walt_train.loop.store.store import Accepted, Store

WIDTH, HEIGHT = 640, 360
FPS = 10.0
FRAMES = 12


@dataclass(frozen=True)
class Thing:
    """An object that moves to the right, and what is wrong with its silhouette."""

    track: int
    label: Label
    top: int
    height: int
    width: int
    reasons: tuple[str, ...] = ()
    hidden: float = 0.0
    seen_share: float = 1.0

    def mask(self, frame: int, share: float = 1.0) -> Mask:
        mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
        left = 40 + 20 * frame
        mask[self.top : self.top + self.height, left : left + round(self.width * share)] = True
        return mask


CAR = Thing(1, Label.VEHICLE, 200, 60, 120)
WALKER = Thing(2, Label.PERSON, 60, 80, 30, seen_share=0.9)
HIDDEN = Thing(3, Label.PERSON, 290, 60, 24, reasons=("neighbour", "small"), hidden=0.4)
THINGS = (CAR, WALKER, HIDDEN)


def background() -> np.ndarray[Any, np.dtype[np.uint8]]:
    ramp = np.linspace(60, 170, HEIGHT, dtype=np.float32)[:, None, None]
    return np.broadcast_to(ramp, (HEIGHT, WIDTH, 3)).astype(np.uint8)


def picture(frame: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    bgr = background().copy()
    for thing, colour in zip(THINGS, ((200, 80, 40), (40, 60, 200), (60, 180, 90)), strict=True):
        bgr[thing.mask(frame)] = colour
    return bgr


def plate() -> SealedEnvelope:
    known = encode_rle(np.ones((HEIGHT, WIDTH), dtype=bool))
    return seal(PlateHeader(origin=origin(), captured=moment(1), hour=9, known=known, samples=9), image(background()))


def crop(thing: Thing, frame: int, confidence: float = 0.9, label: Label | None = None) -> SealedEnvelope:
    x0, y0 = 40 + 20 * frame - 10, thing.top - 10
    x1, y1 = x0 + thing.width + 20, thing.top + thing.height + 10
    mask = thing.mask(frame, thing.seen_share)
    header = CropHeader(
        origin=origin(),
        captured=moment(frame),
        box_xyxy=(x0 + 10, thing.top, x1 - 10, thing.top + thing.height),
        label=label or thing.label,
        score=0.8,
        unoccluded_confidence=confidence,
        confidence_parts={"neighbour": 1.0},
        track_id=thing.track,
        stationary_us=None,
        ground_xy=((x0 + x1) / 2, thing.top + thing.height),
        crop_xy=(x0, y0),
        mask=encode_rle(mask[y0:y1, x0:x1]),
        plate="",
        holdout=False,
    )
    return seal(header, image(np.ascontiguousarray(picture(frame)[y0:y1, x0:x1])))


def fill_store(store: Store, envelopes: list[SealedEnvelope]) -> None:
    store.add_group([Accepted(one.id, one.envelope, one.data) for one in envelopes])


def write_journal(folder: Path, sealed: list[SealedEnvelope]) -> None:
    folder.mkdir(parents=True)
    rows: list[dict[str, Any]] = [_line(folder, frame) for frame in range(FRAMES)]
    rows[-1]["sealed"] = [{"id": one.id, "kind": one.kind.value} for one in sealed]
    rows.append({"frame": None, "sightings": [], "sealed": []})
    data = b"".join(msgspec.json.encode(row) + b"\n" for row in rows)
    (folder / "journal.jsonl").write_bytes(data + b'{"frame": 12, "half a li')


def _line(folder: Path, frame: int) -> dict[str, Any]:
    sampled = frame % 4 == 0
    row: dict[str, Any] = {"frame": frame, "media_time_s": frame / FPS, "sealed": []}
    row["sightings"] = [_sighting(thing, frame, sampled) for thing in THINGS]
    if sampled:
        row["picture"] = f"frame-{frame:06d}.jpg"
        cv2.imwrite(str(folder / row["picture"]), picture(frame))
    return row


def _sighting(thing: Thing, frame: int, sampled: bool) -> dict[str, Any]:
    left = 40 + 20 * frame
    row: dict[str, Any] = {
        "track_id": thing.track,
        "label": thing.label.title,
        "score": 0.8,
        "box_xyxy": [left, thing.top, left + thing.width, thing.top + thing.height],
        "ground_xy": [left + thing.width / 2, thing.top + thing.height],
        "area": thing.width * thing.height,
        "unoccluded_confidence": 0.9,
        "parts": {},
        "reasons": list(thing.reasons),
    }
    return row | {"mask": encode_rle(thing.mask(frame)).coco()} if sampled else row


def write_annotations(path: Path) -> None:
    images = [{"id": 100 + frame, "file_name": f"images/{frame:06d}.jpg"} for frame in range(FRAMES)]
    annotations = [
        {
            "image_id": 100 + frame,
            "segmentation": encode_rle(thing.mask(frame)).coco(),
            "occlusion_fraction": thing.hidden,
            "track_id": thing.track,
            "category_id": int(thing.label),
            "depth_order": 0,
        }
        for frame in range(FRAMES)
        for thing in THINGS
    ]
    path.write_bytes(msgspec.json.encode({"info": {}, "images": images[::-1], "annotations": annotations}))


def telemetry(accepted: int) -> Telemetry:
    return Telemetry(
        boot_id="boot-test",
        utc_us=1,
        uptime_s=2.0,
        frames_received=FRAMES,
        frames_processed=FRAMES,
        frames_skipped=0,
        frame_age_ms_p50=40.0,
        frame_age_ms_p99=90.0,
        step_ms_p50=30.0,
        step_ms_p99=80.0,
        camera_reconnects=0,
        anonymiser_failures=0,
        objects_seen=3,
        crops_chosen=accepted - 1,
        rejected_by_reason={"neighbour": 1},
        spool=SpoolCounts(accepted=accepted, acked=accepted),
    )
