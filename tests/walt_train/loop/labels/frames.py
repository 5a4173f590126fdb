"""Frames that judge, of a small street of which everything is known, and what somebody draws on them."""

from __future__ import annotations

import json
from collections.abc import Sequence

import msgspec

from tests.envelopes import image, origin
from tests.walt_train.loop.scene import CAR, WALKER, Thing, picture
from walt_edge.contract.messages import Clock, FrameHeader, Moment
from walt_edge.privacy.anonymiser import seal
from walt_train.loop.store.store import Accepted, Store

START_US = 1_790_000_000_000_000
STEP_US = 60_000_000
SIZE_WH = (640, 360)


def frame(number: int, camera: str = "cam-1", *, holdout: bool = True) -> Accepted:
    """Frame `number` of the street, a minute after the one before."""
    where = msgspec.structs.replace(origin(), camera=camera)
    moment = Moment(
        utc_us=START_US + number * STEP_US,
        boot_id="boot-test",
        monotonic_ns=number,
        clock=Clock.SYNCHRONISED,
        media_time_s=float(number),
    )
    made = seal(FrameHeader(origin=where, captured=moment, holdout=holdout), image(picture(number)))
    return Accepted(made.id, made.envelope, made.data)


def fill_frames(store: Store, count: int = 5, camera: str = "cam-1") -> list[str]:
    """Stores frames; returns their ids in order of capture."""
    frames = [frame(number, camera) for number in range(count)]
    store.add_group(frames)
    return [one.id for one in frames]


def outline(thing: Thing, number: int, by: float = 0.0) -> list[list[float]]:
    """A thing's true outline, made larger by a few pixels."""
    left, top = 40 + 20 * number - by, thing.top - by
    right, bottom = left + thing.width + 2 * by, top + thing.height + 2 * by
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def drawing(number: int, things: Sequence[Thing] = (CAR, WALKER), by: float = 0.0) -> str:
    """The JSON that a browser sends for frame `number`."""
    drawn = [
        {"label": one.label.title, "track": one.track, "amodal": outline(one, number, by), "visible": None}
        for one in things
    ]
    return json.dumps({"size_wh": SIZE_WH, "things": drawn})
