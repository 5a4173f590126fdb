"""What home's watch over its fleet costs: hearing, judging and writing, on SQLite and on PostgreSQL.

    python -m benchmarks.watch --cameras 10000 --out docs/benchmarks/watch.json

Ten minutes of a fleet, message by message as devices send them, without the broker; then a judgement of all of it,
and the batch that ten minutes make. PostgreSQL is measured where `--database` names one.
"""

from __future__ import annotations

import os
import resource
import tempfile
import time
from pathlib import Path

import msgspec
from sqlalchemy import Engine, func, select, text

from benchmarks.report import Report, arguments
from walt_edge.contract.messages import SpoolCounts, Status, Telemetry
from walt_edge.contract.telemetry import LENS_TILES, Disk, Lens
from walt_edge.contract.topics import DeviceTopics
from walt_train.loop.fleet.conditions import Home
from walt_train.loop.fleet.fleet import Fleet, Outcome
from walt_train.loop.fleet.judging import History, judge
from walt_train.loop.fleet.keeping import Keeper, load
from walt_train.loop.fleet.rules import Rules
from walt_train.loop.fleet.tables import fleet_samples
from walt_train.loop.store.config import StoreConfig
from walt_train.loop.store.database import open_database

TELL_S = 30
SECOND = 1_000_000


def main() -> None:
    """Measures, prints a table, writes JSON."""
    parser = arguments(__doc__)
    parser.add_argument("--cameras", type=int, default=10_000, help="one a device (default: %(default)s)")
    parser.add_argument("--database", metavar="URL", help="a PostgreSQL that holds nothing (or WALT_DATABASE_URL)")
    args = parser.parse_args()
    cameras = 500 if args.quick else args.cameras
    report = Report("fleet", {"cameras": cameras, "minutes": 10})
    before = _memory()
    fleet = _hear(report, cameras)
    report.add("memory of the fleet and its batch", _memory() - before, "MiB")
    _judge(report, fleet)
    with tempfile.TemporaryDirectory() as folder:
        _write(report, "SQLite", open_database(StoreConfig.local(Path(folder)).database), fleet)
        url = args.database or os.environ.get("WALT_DATABASE_URL")
        if url:
            _write(report, "PostgreSQL", open_database(StoreConfig(url, folder).database), fleet)
    report.finish(args.out)


def _hear(report: Report, cameras: int) -> Fleet:
    """Ten minutes of all devices, a message every 30 s."""
    fleet = Fleet()
    topics = [DeviceTopics("yard", f"walt-{number:016x}") for number in range(cameras)]
    now_us = time.time_ns() // 1000 - 600 * SECOND
    for one in topics:
        fleet.take(one.status, msgspec.json.encode(Status(state="online", boot_id="boot")), now_us)
    took_s, messages = 0.0, 0
    for step in range(600 // TELL_S):
        payload = msgspec.json.encode(_told(step, now_us))
        began_s = time.perf_counter()
        for one in topics:
            fleet.take(one.telemetry, payload, now_us)
        took_s += time.perf_counter() - began_s
        messages += len(topics)
        now_us += TELL_S * SECOND
    assert fleet.outcomes[Outcome.TAKEN] == messages + cameras
    report.add("messages heard a second", messages / took_s, "1/s")
    report.add("a message's size", len(payload), "bytes")
    return fleet


def _judge(report: Report, fleet: Fleet) -> None:
    now_us = time.time_ns() // 1000
    history = History(fleet.devices, fleet.cameras, Home(now_us - 600 * SECOND, 1 << 40))
    began_s = time.perf_counter()
    found = judge(history, {}, now_us, Rules())
    report.add("judging all of them", time.perf_counter() - began_s, "s")
    assert not found.alerts


def _write(report: Report, name: str, engine: Engine, fleet: Fleet) -> None:
    now_us = time.time_ns() // 1000
    keeper = Keeper(engine, "benchmark", 3600)
    assert keeper.acquire(now_us)
    began_s = time.perf_counter()
    longest_s = 0.0
    for part in fleet.batch.parts():
        part_s = time.perf_counter()
        keeper.write(part, now_us)
        longest_s = max(longest_s, time.perf_counter() - part_s)
    report.add(f"{name}: writing ten minutes", time.perf_counter() - began_s, "s")
    report.add(f"{name}: the longest part of it", longest_s, "s")
    began_s = time.perf_counter()
    assert len(load(engine).cameras) == len(fleet.cameras)
    report.add(f"{name}: reading all states", time.perf_counter() - began_s, "s")
    with engine.connect() as connection:
        rows = connection.scalar(select(func.count()).select_from(fleet_samples)) or 1
    report.add(f"{name}: a row of samples", _bytes(engine) / rows, "bytes")
    engine.dispose()


def _bytes(engine: Engine) -> float:
    """All that the samples' table takes, its indices included."""
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            return float(connection.scalar(text("SELECT pg_total_relation_size('fleet_samples')")) or 0)
        connection.execute(text("PRAGMA wal_checkpoint(TRUNCATE)"))
        # The file holds hardly anything else.
        return float(Path(engine.url.database or "").stat().st_size)


def _told(step: int, now_us: int) -> Telemetry:
    return Telemetry(
        boot_id="boot",
        utc_us=now_us,
        uptime_s=1000.0 + step * TELL_S,
        frames_received=10_000 + 300 * step,
        frames_processed=9_000 + 280 * step,
        frames_skipped=1_000 + 20 * step,
        frame_age_ms_p50=41.5 + step,
        frame_age_ms_p99=96.25,
        step_ms_p50=30.0,
        step_ms_p99=80.125,
        camera_reconnects=0,
        anonymiser_failures=0,
        objects_seen=30 + step,
        crops_chosen=10 + step,
        rejected_by_reason={"border": 7, "neighbour": 12 + step, "small": 4},
        spool=SpoolCounts(accepted=10 + step, acked=10 + step, bytes=600_000),
        camera="gate",
        clock="synchronised",
        silence_s=0.125,
        lens=Lens(brightness=120.5, detail=tuple(0.05 + 0.01 * tile for tile in range(LENS_TILES))),
        disk=Disk(free_bytes=8 << 30, quota_bytes=1 << 30),
    )


def _memory() -> float:
    """The most that was resident so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
