"""Crops and plates of a fleet that is filled in: rows in bulk, and real envelopes of the first cameras."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.fleet_sizes import DAY_S, FRAME_WH, HOUR_S, SECOND, Size, who
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import encode_rle
from walt_edge.contract.messages import Clock, CropHeader, Moment, Origin, PlateHeader
from walt_edge.privacy.anonymiser import AnonymisedImage, Anonymiser, SealedEnvelope, seal
from walt_train.loop.store.store import Accepted, Store
from walt_train.loop.store.tables import envelope_row

_SIDE_PX = 48


def crop_rows(size: Size, now_us: int, chance: random.Random) -> Iterator[dict[str, Any]]:
    """Rows of crops of the last 35 days, in the order in which they came."""
    picture = _picture(0)
    shown = [sealed_crop(number, now_us, picture) for number in range(size.devices)]
    rows = [envelope_row(one.id, one.envelope, len(one.data), now_us) for one in shown]
    step_us = 35 * DAY_S * SECOND // max(1, size.crops)
    for place in range(size.crops):
        at_us = now_us - DAY_S * SECOND - (size.crops - place) * step_us
        row = rows[chance.randrange(size.devices)]
        id_ = hashlib.sha256(f"row {place}".encode()).hexdigest()
        yield {
            **row,
            "id": id_,
            "captured_us": at_us,
            "received_us": at_us + SECOND,
            "track_id": place // 3,
            "confidence": chance.uniform(0.6, 1.0),
            "label": chance.randrange(1, 3) if place % 7 else row["label"],
        }


def fill_envelopes(store: Store, size: Size, now_us: int) -> None:
    """Real crops and plates of the first cameras."""
    pictures = [_picture(number) for number in range(16)]
    for number in range(size.pictured):
        made = [
            sealed_crop(number, now_us - 60 * SECOND * place, pictures[(number + place) % 16], track=place // 2)
            for place in range(size.envelopes)
        ]
        made += [sealed_plate(number, now_us - HOUR_S * SECOND * hour) for hour in range(24 if number < 4 else 2)]
        store.add_group([Accepted(one.id, one.envelope, one.data) for one in made])


def sealed_crop(number: int, captured_us: int, picture: AnonymisedImage, track: int = 1) -> SealedEnvelope:
    """A small crop of a camera."""
    left = float(40 + number * 7 % 500)
    header = CropHeader(
        origin=_origin(number),
        captured=_moment(captured_us),
        box_xyxy=(left, 100.0, left + _SIDE_PX, 100.0 + _SIDE_PX),
        label=Label.VEHICLE if track % 3 else Label.PERSON,
        score=0.9,
        unoccluded_confidence=0.7 + 0.01 * (track % 30),
        confidence_parts={"neighbour": 0.9},
        track_id=track,
        stationary_us=None,
        ground_xy=(left + _SIDE_PX / 2, 100.0 + _SIDE_PX),
        crop_xy=(int(left), 100),
        mask=encode_rle(_disc(_SIDE_PX)),
        plate="",
        holdout=False,
    )
    return seal(header, picture)


def sealed_plate(number: int, captured_us: int) -> SealedEnvelope:
    """A background of a camera: grey, lighter by the hour."""
    known = encode_rle(np.ones(FRAME_WH[::-1], dtype=bool))
    hour = captured_us // (HOUR_S * SECOND) % 24
    header = PlateHeader(origin=_origin(number), captured=_moment(captured_us), hour=hour, known=known, samples=9)
    grey = np.full((*FRAME_WH[::-1], 3), 60 + 5 * hour, dtype=np.uint8)
    return seal(header, Anonymiser()(grey, (), np.zeros(FRAME_WH[::-1], dtype=bool)))


def _origin(number: int) -> Origin:
    site, device, camera = who(number)
    return Origin(
        site=site, device=device, camera=camera, model="motion-1", anonymiser="2 faces=head-only", frame_wh=FRAME_WH
    )


def _moment(captured_us: int) -> Moment:
    return Moment(
        utc_us=captured_us, boot_id="boot", monotonic_ns=captured_us, clock=Clock.SYNCHRONISED, media_time_s=1.0
    )


def _picture(number: int) -> AnonymisedImage:
    bgr = np.full((_SIDE_PX, _SIDE_PX, 3), 90, dtype=np.uint8)
    bgr[_disc(_SIDE_PX)] = np.random.default_rng(number).integers(0, 256, 3, dtype=np.uint8)
    return Anonymiser()(bgr, (), np.zeros(bgr.shape[:2], dtype=bool))


def _disc(side: int) -> Any:
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    return x * x + y * y < (side * 0.42) ** 2
