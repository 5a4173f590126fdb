"""Fills a home with a fleet, as large as asked: rows in bulk, by the code's own row functions.

What is asked of one camera is found by an index whatever the size of the rest; so minutes of samples are made for a
part of the cameras, hours for all, a year of hours for one. The newest
envelopes of the first cameras are real, with pictures; the crops of the others are rows without a file.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Engine, Table, text, update

from benchmarks.fleet_crops import crop_rows, fill_envelopes
from benchmarks.fleet_sizes import DAY_S, HOUR_S, SECOND, Size, camera_name, who, whole_rollout
from walt_edge.contract.messages import (
    Info,
    Reported,
    SpoolCounts,
    Status,
)
from walt_edge.contract.telemetry import LENS_TILES, Disk, Lens, Telemetry
from walt_edge.contract.topics import DeviceTopics
from walt_train.loop.admission.tables import camera_owners, standings
from walt_train.loop.fleet.conditions import Home
from walt_train.loop.fleet.figures import bucket_of, columns
from walt_train.loop.fleet.fleet import Fleet
from walt_train.loop.fleet.judging import Alert, History, Subject, judge
from walt_train.loop.fleet.keeping import Keeper
from walt_train.loop.fleet.rules import Rules
from walt_train.loop.fleet.state import camera_key
from walt_train.loop.fleet.tables import fleet_samples
from walt_train.loop.identity.tables import devices
from walt_train.loop.publish.repository import Release
from walt_train.loop.rollout.rollouts import Rollouts
from walt_train.loop.rollout.tables import rollout_members, rollouts
from walt_train.loop.serve.folder import GENERATIONS
from walt_train.loop.serve.jobs import StepName
from walt_train.loop.store.store import Store
from walt_train.loop.store.tables import envelopes, generations, steps

_BATCH = 20_000
_LATE = 4


def fill(store: Store, home: Path, size: Size, now_us: int, seed: int = 1) -> None:
    """All of it."""
    chance = random.Random(seed)
    _enrol(store.engine, size, now_us)
    # Who creates a rollout reads how everybody is: of most of them while nobody was heard, or it would take minutes.
    fill_rollouts(store.engine, size, now_us, range(size.rollouts - _LATE))
    _hear(store.engine, size, now_us)
    fill_rollouts(store.engine, size, now_us, range(size.rollouts - _LATE, size.rollouts))
    put(store.engine, fleet_samples, sample_rows(size, now_us, chance))
    fill_envelopes(store, size, now_us)
    put(store.engine, envelopes, crop_rows(size, now_us, chance))
    fill_generations(store.engine, home, size, now_us, chance)
    with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE"))


def put(engine: Engine, table: Table, rows: Iterable[dict[str, Any]]) -> None:
    """Inserts rows, as fast as the database takes them: its indices are made anew afterwards."""
    with _without_indices(engine, table):
        (_copy if engine.dialect.name == "postgresql" else _insert)(engine, table, rows)


@contextmanager
def _without_indices(engine: Engine, table: Table) -> Iterator[None]:
    indices = sorted(table.indexes, key=lambda index: str(index.name))
    with engine.begin() as connection:
        for index in indices:
            index.drop(connection)
    yield
    with engine.begin() as connection:
        for index in indices:
            index.create(connection)


def _insert(engine: Engine, table: Table, rows: Iterable[dict[str, Any]]) -> None:
    stream = iter(rows)
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA cache_size = -1000000")
        while some := list(islice(stream, _BATCH)):
            names = list(some[0])
            listed, marks = ", ".join(f'"{name}"' for name in names), ", ".join("?" for _ in names)
            words = f'INSERT INTO "{table.name}" ({listed}) VALUES ({marks})'  # noqa: S608 (names of our own columns)
            connection.exec_driver_sql(words, [tuple(row.values()) for row in some])
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


def fill_rollouts(engine: Engine, size: Size, now_us: int, places: range) -> None:
    """Rollouts of all sizes, most of them done; the newest is at work, and one is of every device."""
    everybody = [DeviceTopics(*who(number)[:2]) for number in range(size.devices)]
    for place in places:
        at_us = now_us - (size.rollouts - place) * 1200 * SECOND
        table = Rollouts(engine, lambda at_us=at_us: at_us)  # type: ignore[misc]
        is_whole = place == whole_rollout(size) - 1
        some = everybody if is_whole else everybody[place % 100 : place % 100 + 1 + place % 40]
        release = Release(1000 + place, f"model-{place}.walt", hashlib.sha256(f"{place}".encode()).hexdigest())
        camera, number = camera_name(place % 50), place // 50 + 1
        made = table.create(release, some, "filling", name=f"{camera} {number}", camera=camera, generation=number)
        _go(
            engine,
            made.id,
            "running" if place == size.rollouts - 1 else ("done", "rolled-back")[place % 9 == 0],
            at_us,
        )


def _go(engine: Engine, rollout: int, state: str, at_us: int) -> None:
    """As the engine would leave it."""
    is_open = state == "running"
    mine = rollout_members.c.rollout == rollout
    told = (rollout_members.c.cohort == "canary") if is_open else ~rollout_members.c.outside
    times = {"touched_us": at_us, "told_us": at_us + SECOND, "running_us": at_us + 90 * SECOND}
    with engine.begin() as connection:
        connection.execute(update(rollout_members).where(mine, told).values(**times))
        values = {"state": state, "detail": "", "ended_us": None if is_open else at_us + HOUR_S * SECOND}
        connection.execute(update(rollouts).where(rollouts.c.id == rollout).values(**values))


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
    home = Home(now_us - DAY_S * SECOND, 1 << 40)
    before: dict[Subject, Alert] = {}
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


def _copy(engine: Engine, table: Table, rows: Iterable[dict[str, Any]]) -> None:
    """PostgreSQL's own way of many rows, in parts that no statement's time limit meets."""
    stream = iter(rows)
    connection = engine.raw_connection()
    try:
        cursor: Any = connection.cursor()
        while some := list(islice(stream, _BATCH)):
            names = list(some[0])
            listed = ", ".join(f'"{name}"' for name in names)
            with cursor.copy(f'COPY "{table.name}" ({listed}) FROM STDIN') as copy:
                for row in some:
                    copy.write_row([row[name] for name in names])
            connection.commit()
    finally:
        connection.close()
