"""Fills a home with a fleet, as large as asked: rows in bulk, by the code's own row functions.

What is asked of one camera is found by an index whatever the size of the rest; so minutes of samples are made for a
part of the cameras, hours for all, a year of hours for one. The newest envelopes of the first cameras are real, with pictures; the crops of
the others are rows without a file.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from sqlalchemy import Engine, Table, insert, text

from walt_edge.contract.labels import Label
from walt_edge.contract.masks import encode_rle
from walt_edge.contract.messages import (
    Clock,
    CropHeader,
    Info,
    Moment,
    Origin,
    PlateHeader,
    Reported,
    SpoolCounts,
    Status,
)
from walt_edge.contract.telemetry import LENS_TILES, Disk, Lens, Telemetry
from walt_edge.contract.topics import DeviceTopics
from walt_edge.privacy.anonymiser import AnonymisedImage, Anonymiser, SealedEnvelope, seal
from walt_train.loop.admission.tables import camera_owners, standings
from walt_train.loop.fleet.conditions import Home
from walt_train.loop.fleet.figures import bucket_of, columns
from walt_train.loop.fleet.fleet import Fleet
from walt_train.loop.fleet.judging import History, judge
from walt_train.loop.fleet.keeping import Keeper
from walt_train.loop.fleet.rules import Rules
from walt_train.loop.fleet.state import camera_key
from walt_train.loop.fleet.tables import fleet_samples
from walt_train.loop.identity.tables import devices
from walt_train.loop.serve.folder import GENERATIONS
from walt_train.loop.serve.jobs import StepName
from walt_train.loop.store.store import Accepted, Store
from walt_train.loop.store.tables import envelope_row, envelopes, generations, steps

SECOND = 1_000_000
HOUR_S, DAY_S = 3600, 86_400
SITES = ("harbour", "north", "market", "depot")
FRAME_WH = (640, 360)
_SIDE_PX = 48
_BATCH = 20_000


@dataclass(frozen=True, slots=True)
class Size:
    """How large a fleet.

    Attributes:
        devices: With one camera each.
        crops: Rows.
        pictured: Cameras whose newest crops and plates are real envelopes.
        envelopes: Real crops of each of them.
        watched: Cameras with a sample for every minute of the day.
        generations: Trainings in all; the newest ones have folders.
        rollouts: In all.
    """

    devices: int
    crops: int
    pictured: int
    envelopes: int
    watched: int
    generations: int
    rollouts: int


FULL = Size(2_000, 1_000_000, 60, 50, 100, 600, 200)
QUICK = Size(200, 20_000, 8, 25, 8, 60, 20)


def device_name(number: int) -> str:
    """Of the fleet's device of that number."""
    return f"walt-{number:016x}"


def camera_name(number: int) -> str:
    """Of its camera."""
    return f"{SITES[number % len(SITES)]}-{number:04d}"


def who(number: int) -> tuple[str, str, str]:
    """Site, device and camera of a number."""
    return (SITES[number % len(SITES)], device_name(number), camera_name(number))


def fill(store: Store, home: Path, size: Size, now_us: int, seed: int = 1) -> None:
    """All of it, but for rollouts."""
    chance = random.Random(seed)
    _enrol(store.engine, size, now_us)
    _hear(store.engine, size, now_us)
    put(store.engine, fleet_samples, sample_rows(size, now_us, chance))
    fill_envelopes(store, size, now_us)
    put(store.engine, envelopes, crop_rows(size, now_us, chance))
    fill_generations(store.engine, home, size, now_us, chance)
    with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE"))


def put(engine: Engine, table: Table, rows: Iterable[dict[str, Any]]) -> None:
    """Inserts rows, as fast as the database takes them."""
    if engine.dialect.name == "postgresql":
        _copy(engine, table, rows)
        return
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA cache_size = -1000000")
        stream = iter(rows)
        while some := list(islice(stream, _BATCH)):
            connection.execute(insert(table), some)
        connection.commit()


def sample_rows(size: Size, now_us: int, chance: random.Random) -> Iterator[dict[str, Any]]:
    """A day of every camera by hours, of `watched` ones by minutes too, and a year of the first by hours."""
    for number in range(size.devices):
        key = camera_key(*who(number))
        hours = 366 * 24 if number == 0 else 35 * 24 if number < size.watched else 24
        for tier, count in ((HOUR_S, hours), (60, 1440 if number < size.watched else 0)):
            first_us = now_us - now_us % (tier * SECOND) - count * tier * SECOND
            for place in range(count):
                bucket = bucket_of(_grown(tier, place, chance), _spreads(chance), {"lens_clear": 0.9})
                yield {"key": key, "tier": tier, "at_us": first_us + place * tier * SECOND, **columns(bucket)}


def crop_rows(size: Size, now_us: int, chance: random.Random) -> Iterator[dict[str, Any]]:
    """Rows of crops of the last 35 days, in the order in which they came."""
    picture = _picture(0)
    shown = [sealed_crop(number, now_us, picture) for number in range(size.devices)]
    rows = [envelope_row(one.id, one.envelope, len(one.data), now_us) for one in shown]
    step_us = 35 * DAY_S * SECOND // size.crops
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
        made += [_sealed_plate(number, now_us - HOUR_S * SECOND * hour) for hour in range(24 if number < 4 else 2)]
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


def telemetry(number: int, now_us: int) -> Telemetry:
    """What a device tells of its camera now."""
    return Telemetry(
        boot_id="boot",
        utc_us=now_us,
        uptime_s=90_000.0 + number,
        frames_received=900_000 + number,
        frames_processed=890_000 + number,
        frames_skipped=10_000,
        frame_age_ms_p50=40.0 + number % 11,
        frame_age_ms_p99=96.0 + number % 29,
        step_ms_p50=30.0,
        step_ms_p99=80.0,
        camera_reconnects=0,
        anonymiser_failures=0,
        objects_seen=30_000 + number,
        crops_chosen=400 + number * 13 % 900,
        rejected_by_reason={"border": 7, "neighbour": 12, "small": 4},
        spool=SpoolCounts(accepted=500, acked=500 - number % 5, depth=number % 5, bytes=600_000),
        model_release=10 + number % 3,
        infer_ms_p50=24.0,
        camera=camera_name(number),
        clock="synchronised",
        # Here and there a camera is silent: a fleet without alerts is none.
        silence_s=0.1 if number % 40 else 900.0,
        lens=Lens(brightness=120.5, detail=tuple(0.05 + 0.01 * tile for tile in range(LENS_TILES))),
        disk=Disk(free_bytes=20 << 30),
    )


def fill_generations(engine: Engine, home: Path, size: Size, now_us: int, chance: random.Random) -> None:
    """Trainings of the first cameras, with what was said of them; the newest twenty have folders."""
    cameras = max(1, size.generations // 12)
    rows, parts = [], []
    for place in range(size.generations):
        camera, number = camera_name(place % cameras), place // cameras + 1
        at_us = now_us - (size.generations - place) * 1800 * SECOND
        state = ("done", "done", "refused", "failed")[chance.randrange(4)]
        rows.append(_generation(camera, number, at_us, state))
        parts += [_step(camera, number, n, name, at_us, state, chance) for n, name in enumerate(StepName)]
        if place >= size.generations - 20:
            _folder(home / GENERATIONS / camera / str(number), chance)
    put(engine, generations, rows)
    put(engine, steps, parts)


def _enrol(engine: Engine, size: Size, now_us: int) -> None:
    known, let_in, owners = [], [], []
    for number in range(size.devices):
        site, device, camera = who(number)
        times = {"enrolled_us": now_us, "expires_us": now_us + 90 * DAY_S * SECOND}
        known.append({"device": device, "site": site, "revoked_reason": "", "serial": f"{number:x}", **times})
        let_in.append({"device": device, "approved_us": now_us, "approved_by": "filling", "changed_us": now_us})
        owners.append({"camera": camera, "device": device, "was": ""})
    put(engine, devices, known)
    put(engine, standings, let_in)
    put(engine, camera_owners, owners)


def _hear(engine: Engine, size: Size, now_us: int) -> None:
    """All devices tell of themselves, and somebody judges."""
    fleet = Fleet()
    for number in range(size.devices):
        site, device, camera = who(number)
        topics = DeviceTopics(site, device)
        told = Status(state="online" if number % 50 else "offline", boot_id="boot")
        info = Info(version="0.9.0", camera=camera, machine="aarch64", python="3.12", anonymiser="2 faces=head-only")
        reported = Reported(release=10 + number % 3, sha256="", state="active", desired=10 + number % 3)
        for topic, struct in ((topics.status, told), (topics.info, info), (topics.reported, reported)):
            fleet.take(topic, msgspec.json.encode(struct), now_us)
        fleet.take(topics.telemetry, msgspec.json.encode(telemetry(number, now_us)), now_us)
    keeper = Keeper(engine, "filling", 1.0)
    assert keeper.acquire(now_us)
    for part in fleet.batch.parts():
        keeper.write(part, now_us)
    # Judged as if it had been so for a quarter of an hour: what has to last is raised.
    home, before = Home(now_us - DAY_S * SECOND, 1 << 40), {}
    for at_us in (now_us - 900 * SECOND, now_us):
        judgement = judge(History(fleet.devices, fleet.cameras, home), before, at_us, Rules())
        keeper.note(judgement, before, now_us, now_us - DAY_S * SECOND)
        before = dict(judgement.alerts)


def _grown(tier: int, place: int, chance: random.Random) -> dict[str, int]:
    busy = 0.4 + 0.6 * abs((place * tier / HOUR_S) % 24 - 12) / 12
    frames = round(tier * 10 * busy * chance.uniform(0.95, 1.0))
    return {"frames_received": frames, "frames_processed": frames, "objects_seen": frames // 40, "crops_chosen": 1}


def _spreads(chance: random.Random) -> dict[str, float]:
    age_ms = chance.uniform(38, 46)
    return {
        "frame_age_ms_p50": age_ms,
        "frame_age_ms_p99": age_ms * 2.2,
        "step_ms_p99": 80.0,
        "infer_ms_p50": 24.0,
        "silence_s": 0.1,
        "skew_s": 0.0,
        "spool_depth": float(chance.randrange(4)),
        "spool_bytes": 1e5,
    }


def _generation(camera: str, number: int, at_us: int, state: str) -> dict[str, Any]:
    row: dict[str, Any] = {column.name: None if column.nullable else "" for column in generations.columns}
    row |= {"camera": camera, "number": number, "recipe": "walt_edge_small", "seed": 1, "training_steps": 2000}
    row |= {
        "state": state,
        "reason": f"{state}: mask IoU at 0.5",
        "created_us": at_us,
        "ended_us": at_us + 900 * SECOND,
    }
    row |= {"crops": 50 + 12 * number, "tracks": 20 + 4 * number, "until_us": 0, "due_us": 0}
    return row | ({"why": "enough that is new: 62 of 50 crops"} if "why" in row else {})


def _step(
    camera: str, number: int, place: int, name: str, at_us: int, state: str, chance: random.Random
) -> dict[str, Any]:
    is_last = place == len(StepName) - 1
    begun_us = at_us + place * 180 * SECOND
    result: dict[str, Any] = {}
    if name == StepName.JUDGE:
        points = chance.uniform(-1, 4)
        result = {"decision": "passed" if state == "done" else "refused", "line": "passed", "against": "champion"}
        result |= {
            "points": points,
            "interval": (points - 1.5, points + 1.5),
            "candidate": 60 + points,
            "baseline": 60.0,
        }
        result |= {"cases": 240, "objects": 60, "needed_points": 0.0}
    return {
        "camera": camera,
        "number": number,
        "place": place,
        "name": str(name),
        "state": state if is_last else "done",
        "attempts": 1,
        "failures": int(is_last and state == "failed"),
        "started_us": begun_us,
        "ended_us": begun_us + 170 * SECOND,
        "result": msgspec.json.encode(result).decode(),
        "reason": "",
    }


def _folder(root: Path, chance: random.Random) -> None:
    (root / "logs").mkdir(parents=True)
    (root / "train").mkdir()
    rows = [
        {"step": n, "loss": 5 / (1 + n / 300) + chance.random() / 4, "loss_amodal": 1 / (1 + n / 400)}
        for n in range(2000)
    ]
    (root / "train" / "curves.json").write_bytes(msgspec.json.encode(rows))
    (root / "logs" / "train-1.log").write_text(
        "".join(f"step {n} loss {5 / (1 + n / 300):.3f}\n" for n in range(2000))
    )
    (root / "bundle.walt").write_bytes(b"bundle")


def _sealed_plate(number: int, captured_us: int) -> SealedEnvelope:
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


def _copy(engine: Engine, table: Table, rows: Iterable[dict[str, Any]]) -> None:
    """PostgreSQL's own way of many rows."""
    connection = engine.raw_connection()
    try:
        cursor: Any = connection.cursor()
        stream = iter(rows)
        first = next(stream, None)
        if first is None:
            return
        names = list(first)
        columns_ = ", ".join(f'"{name}"' for name in names)
        with cursor.copy(f'COPY "{table.name}" ({columns_}) FROM STDIN') as copy:
            for row in chain((first,), stream):
                copy.write_row([row[name] for name in names])
        connection.commit()
    finally:
        connection.close()
