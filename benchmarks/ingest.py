"""How much home bears: crops a second stored and answered, a fleet of 2,000, and 200 kills; against the limits.

    python -m benchmarks.ingest --out docs/benchmarks/ingest.json      (about 15 minutes, 2 GB of disk)
    python -m benchmarks.ingest --quick

Everything is real and shares this machine's cores: Mosquitto with mutual TLS and the access list as `walt-loop`
writes it, `walt-loop ingest`, SQLite or PostgreSQL with a folder of blobs, and `walt-loop simulate` as the fleet:
each device with a certificate and a key of its own. Limits are measured in the same run: files written and fsynced,
the store without a broker, and the broker with a bare subscriber in the ingest's place. Processor time is the
kernel's, of each part alone; memory is PSS.

A crop is lost if a device's ledger has it as accepted and the store has it not, once all is brought home; it is
doubled if two rows tell of it, or if home said twice that it was new.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from benchmarks import ingest_kills
from benchmarks.ingest_home import Database, Fleet, Home, Meter, Part, losses
from benchmarks.report import Report, arguments
from walt_edge.contract.messages import decode_envelope
from walt_edge.contract.topics import DeviceTopics
from walt_train.loop.simulate.crops import CropMaker
from walt_train.loop.simulate.fleet import raise_file_limit
from walt_train.loop.simulate.outcome import Outcome
from walt_train.loop.simulate.plan import ROWS
from walt_train.loop.store.store import Accepted, Store

CROP_KB = 60
GROUP = 32
THREADS = 8
_DRAIN_S = 300.0
_FILES = 8000


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of everything.

    Attributes:
        files: Crops that are written to measure disk and store.
        senders: Devices that send as fast as they are answered, and `each` of how many crops.
        devices: Of the fleet; it sends `rate` crops a second for `seconds`.
        kills: Of workers, broker and database.
    """

    files: int = 2000
    senders: int = 50
    each: int = 200
    devices: int = 2000
    rate: int = 100
    seconds: int = 120
    kills: int = 200


QUICK = Sizes(files=300, senders=20, each=20, devices=100, rate=30, seconds=5, kills=4)


def main() -> None:
    """Measures, prints a table, writes JSON."""
    parser = arguments(__doc__)
    parser.add_argument("--folder", type=Path, help="on the disk to measure (default: the system's temporary folder)")
    args = parser.parse_args()
    sizes = QUICK if args.quick else Sizes()
    raise_file_limit(_FILES)
    report = Report("ingest", {"seed": args.seed, "devices": sizes.devices, "crops": sizes.senders * sizes.each})
    parts = (
        partial(_measure_disk, report, sizes=sizes),
        partial(_measure_broker, report, sizes=sizes),
        partial(_measure_stored, report, sizes=sizes, name="SQLite", target=500),
        partial(_measure_stored, report, sizes=sizes, name="PostgreSQL", target=300),
        partial(_measure_fleet, report, sizes=sizes),
        partial(_measure_return, report, sizes=sizes),
        partial(_measure_kills, report, sizes=sizes, seed=args.seed),
    )
    for measure in parts:
        with tempfile.TemporaryDirectory(dir=args.folder) as scratch:
            measure(Path(scratch) / "part")
    report.finish(args.out)


def _measure_disk(report: Report, folder: Path, sizes: Sizes) -> None:
    """What the disk allows, and the store without a broker before it."""
    folder.mkdir()
    maker, topics = CropMaker(CROP_KB), DeviceTopics("bench", "walt-bench")
    crops = [maker.crop(topics, "boot", number, number) for number in range(sizes.files)]
    alone, together = [], []
    for turn in "ab":
        alone.append(_raw_rate(folder / f"alone-{turn}", crops[: sizes.files // 4], 1))
        together.append(_raw_rate(folder / f"together-{turn}", crops, THREADS))
        if turn == "a":
            by_itself = _store_rate(folder / "store", crops)
    report.add(ROWS["crop_kb"], float(np.mean([len(data) for _, data in crops])) / 1e3, "kB", better="lower")
    report.add("limit: write + fsync, one thread", float(np.mean(alone)), "crops/s")
    report.add(f"limit: write + fsync, {THREADS} threads", float(np.mean(together)), "crops/s")
    report.add("limit: the store without a broker, SQLite", by_itself, "crops/s")


def _raw_rate(folder: Path, crops: list[tuple[str, bytes]], threads: int) -> float:
    """Files a second: written, fsynced, and nothing else."""
    folder.mkdir()

    def put(crop: tuple[str, bytes]) -> None:
        with (folder / crop[0]).open("wb") as file:
            file.write(crop[1])
            file.flush()
            os.fsync(file.fileno())

    with ThreadPoolExecutor(threads) as pool:
        start_s = time.perf_counter()
        list(pool.map(put, crops))
        return len(crops) / (time.perf_counter() - start_s)


def _store_rate(folder: Path, crops: list[tuple[str, bytes]]) -> float:
    """Crops a second into the store; decoding and checking are in it."""
    with Store(folder) as store:
        start_s = time.perf_counter()
        for at in range(0, len(crops), GROUP):
            store.add_group([Accepted(id_, decode_envelope(data), data) for id_, data in crops[at : at + GROUP]])
        return len(crops) / (time.perf_counter() - start_s)


def _measure_broker(report: Report, folder: Path, sizes: Sizes) -> None:
    """What Mosquitto carries if nobody stores anything."""
    with Home(folder, workers=0) as home:
        home.start()
        with home.sink() as sink:
            outcome, meter = _rush(home, sizes, [home.broker, sink])
        report.add("limit: broker to a bare subscriber", outcome.crops_per_second, "crops/s")
        for name, part in (("broker", home.broker), ("subscriber", sink)):
            report.add(f"limit: {name}, processor for a crop", meter.ms(part, outcome.acked), "ms", better="lower")
        simulator_ms = 1e3 * outcome.cpu_s / outcome.acked
        report.add("limit: simulator, processor for a crop", simulator_ms, "ms", better="lower")
        report.add("limit: the simulator alone, on one core", 1e3 / simulator_ms, "crops/s")


def _measure_stored(report: Report, folder: Path, sizes: Sizes, name: str, target: float) -> None:
    """As fast as home answers: stored, committed, and answered to the device."""
    size = name == "PostgreSQL"
    with Home(folder, workers=2 if size else 1, postgres=size) as home:
        home.start()
        outcome, meter = _rush(home, sizes, home.parts)
        crops = max(1, outcome.acked)
        report.add(f"{name}: stored and answered", outcome.crops_per_second, "crops/s", target=target)
        _add_losses(report, name, outcome)
        report.add(f"{name}: answer after, median", outcome.ack_ms_p50, "ms", better="lower")
        report.add(f"{name}: answer after, slowest hundredth", outcome.ack_ms_p99, "ms", better="lower")
        per_crop = {"simulator": 1e3 * outcome.cpu_s / crops, "broker": meter.ms(home.broker, crops)}
        per_crop["workers"] = sum(meter.ms(worker, crops) for worker in home.workers)
        if home.database:
            per_crop["database"] = meter.ms(home.database, crops)
        for part, value in per_crop.items():
            report.add(f"{name}: {part}, processor for a crop", value, "ms", better="lower")
        if home.database:
            report.add(ROWS["row_kb"], home.database_bytes() / crops / 1e3, "kB", better="lower")


def _rush(home: Home, sizes: Sizes, parts: Sequence[Part | Database]) -> tuple[Outcome, Meter]:
    """Devices that hold crops when they connect, and send as fast as they are answered; enrolling is not measured."""
    many = ("--devices", str(sizes.senders), "--backlog", str(sizes.each), "--patience-s", str(_DRAIN_S))
    fleet = home.fleet("rush", *many, "--crops-per-second", "0", "--seconds", "0", "--crop-kb", str(CROP_KB))
    fleet.wait_enrolled()
    with Meter(parts) as meter:
        return fleet.wait(2 * _DRAIN_S), meter


def _measure_fleet(report: Report, folder: Path, sizes: Sizes) -> None:
    """A fleet of the size that was promised, on a calm day."""
    with Home(folder, workers=2, postgres=True) as home:
        home.start()
        fleet = _start_fleet(home, sizes, "calm")
        fleet.wait_online()
        with Meter(home.parts) as meter:
            outcome = fleet.wait(sizes.seconds + _DRAIN_S)
        report.add(ROWS["fleet_devices"], outcome.devices, target=sizes.devices)
        report.add("fleet: all connected after", outcome.connected_s, "s", better="lower")
        report.add("fleet: stored and answered", outcome.crops_per_second, "crops/s")
        report.add("fleet: answer after, median", outcome.ack_ms_p50, "ms", better="lower")
        report.add("fleet: answer after, slowest hundredth", outcome.ack_ms_p99, "ms", better="lower")
        _add_losses(report, "fleet", outcome)
        report.add(
            "fleet: telemetry lost", outcome.telemetry_sent - outcome.telemetry_heard, "messages", better="lower"
        )
        report.add("fleet: telemetry heard", outcome.telemetry_heard, "messages")
        _add_shares(report, home, meter, outcome)


def _add_shares(report: Report, home: Home, meter: Meter, outcome: Outcome) -> None:
    """What each part of home took of the machine while the fleet was there."""
    assert home.database is not None
    per_crop_ms = {row.what: row.value for row in report.rows}[ROWS["broker_ms"]]
    broker_s = meter.cpu_s(home.broker) - outcome.acked * per_crop_ms / 1e3
    report.add(
        ROWS["broker_device_ms"], max(0.0, 1e3 * broker_s / meter.span_s / outcome.devices), "ms", better="lower"
    )
    cores = {
        "simulator": outcome.cpu_s / (outcome.measured_s + outcome.connected_s),
        "broker": meter.cpu_s(home.broker) / meter.span_s,
        "workers": sum(map(meter.cpu_s, home.workers)) / meter.span_s,
        "database": meter.cpu_s(home.database) / meter.span_s,
    }
    for name, value in cores.items():
        report.add(f"fleet: {name}, processor", value, "cores", better="lower")
    report.add("fleet: simulator, memory", outcome.peak_mb, "MiB", better="lower")
    report.add(ROWS["broker_mb"], meter.mb(home.broker), "MiB", better="lower")
    report.add(ROWS["worker_mb"], max(map(meter.mb, home.workers)), "MiB", better="lower")
    report.add(ROWS["database_mb"], meter.mb(home.database), "MiB", better="lower")


def _measure_return(report: Report, folder: Path, sizes: Sizes) -> None:
    """All come back at once: the broker dies under the fleet, while hostile devices do what they can."""
    with Home(folder, workers=2, postgres=True) as home:
        home.start()
        fleet = _start_fleet(home, sizes, "return", "--hostile", "5", "--patience-s", str(_DRAIN_S))
        fleet.wait_online()
        time.sleep(sizes.seconds / 4)
        home.broker.kill()
        home.broker.start()
        outcome = fleet.wait(sizes.seconds + 2 * _DRAIN_S)
        hostile = outcome.hostilities
        report.add("broker killed: all devices back after", outcome.apart_s, "s", better="lower")
        _add_losses(report, "broker killed", outcome)
        report.add("hostile devices: attempts", sum(hostile.tried.values()))
        report.add(
            "hostile devices: believed or overheard", hostile.believed + hostile.overheard, target=0, better="lower"
        )


def _start_fleet(home: Home, sizes: Sizes, name: str, *words: str) -> Fleet:
    size = ("--devices", str(sizes.devices), "--crops-per-second", str(sizes.rate), "--seconds", str(sizes.seconds))
    return home.fleet(name, *size, "--telemetry-s", "30", "--crop-kb", str(CROP_KB), *words)


def _measure_kills(report: Report, folder: Path, sizes: Sizes, seed: int) -> None:
    with tqdm(total=sizes.kills, desc="kills") as bar:
        toll = ingest_kills.play(folder, sizes.kills, seed, lambda _: bar.update(), CROP_KB)
    for name in ("worker", "broker", "database"):
        report.add(f"kills: {name}", sum(count for part, count in toll.kills.items() if name in part))
    report.add("kills: crops accepted", toll.accepted)
    report.add("kills: crops lost", toll.lost, target=0, better="lower")
    report.add("kills: crops doubled", toll.doubled, target=0, better="lower")
    report.add("kills: crops rejected", toll.rejected, target=0, better="lower")
    report.add("kills: publishes again", toll.resent, better="lower")


def _add_losses(report: Report, name: str, outcome: Outcome) -> None:
    lost, doubled = losses(outcome)
    report.add(f"{name}: crops lost", lost, target=0, better="lower")
    report.add(f"{name}: crops doubled", doubled, target=0, better="lower")
    report.add(f"{name}: devices whose status was lost", outcome.status_wrong, target=0, better="lower")


if __name__ == "__main__":
    main()
