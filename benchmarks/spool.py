"""How fast the spool takes envelopes durably, against what the disk itself allows; and what kill -9 costs.

    python -m benchmarks.spool --out docs/benchmarks/spool.json

The raw limit is measured in the same run, in the same folder and with the same bytes: append and fdatasync, which is
the least that any durable write costs. Processes that put envelopes into one spool are then killed at random moments;
an envelope counts as promised once `accept` has returned.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.report import Report, arguments
from walt_edge.capture.clock import live_moment
from walt_edge.contract.messages import FrameHeader, Origin
from walt_edge.privacy.anonymiser import Anonymiser, SealedEnvelope, seal
from walt_edge.spool.key import KEY_BYTES, SpoolKey
from walt_edge.spool.spool import Spool

KEY = SpoolKey(bytes(KEY_BYTES))  # processes that are killed share a spool, and here nothing is secret
SIDE_PX = 168  # noise of this size is a JPEG of about 60 kB
WARM_UP = 20
BLOCKS = 20


def main() -> None:
    """Measures, prints a table, writes JSON."""
    parser = arguments(__doc__)
    parser.add_argument("--folder", type=Path, help="on the disk to measure (default: the system's temporary folder)")
    parser.add_argument("--produce", nargs=2, metavar=("DIR", "SEED"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.produce:
        _produce(Path(args.produce[0]), int(args.produce[1]))
        return
    count, kills = (200, 5) if args.quick else (1000, 50)
    report = Report("spool", {"seed": args.seed, "envelopes": count})
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        _measure_puts(report, Path(folder), count)
        _measure_kills(report, Path(folder) / "kills", kills, random.Random(args.seed))
    report.finish(args.out)


def envelopes(count: int, seed: int) -> list[SealedEnvelope]:
    """Envelopes of about 60 kB, all different."""
    noise = np.random.default_rng(seed)
    anonymiser = Anonymiser()
    origin = Origin(
        site="bench", device="walt-bench", camera="cam-1", model="none", anonymiser="", frame_wh=(SIDE_PX, SIDE_PX)
    )
    still = np.zeros((SIDE_PX, SIDE_PX), dtype=bool)
    made = []
    for _ in range(count):
        picture = noise.integers(0, 256, (SIDE_PX, SIDE_PX, 3), dtype=np.uint8)
        header = FrameHeader(origin=origin, captured=live_moment(0.0), holdout=False)
        made.append(seal(header, anonymiser(picture, (), still)))
    return made


def _measure_puts(report: Report, folder: Path, count: int) -> None:
    made = envelopes(count + WARM_UP, seed=1)
    descriptor = os.open(folder / "raw", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def put_raw(one: SealedEnvelope) -> None:
        os.write(descriptor, one.data)
        os.fdatasync(descriptor)

    raws, puts, plains = [], [], []
    for name in ("sealed", "plain"):
        (folder / name).mkdir()
    with Spool(folder / "sealed", 1 << 40, SpoolKey.make()) as spool, Spool(folder / "plain", 1 << 40) as plain:
        for one in made[:WARM_UP]:
            put_raw(one)
            spool.accept(one)
            plain.accept(one)
        # In turns, so that whatever else the disk does meets all.
        for block in np.array_split(np.arange(WARM_UP, len(made)), BLOCKS):
            some = [made[index] for index in block]
            raws.append(_rate(put_raw, some))
            puts.append(_rate(spool.accept, some))
            plains.append(_rate(plain.accept, some))
    os.close(descriptor)
    raw, put, plain_put = (float(np.median(rates)) for rates in (raws, puts, plains))
    report.add("envelope", float(np.mean([len(one.data) for one in made])) / 1e3, "kB", better="lower")
    report.add("append + fdatasync (the disk's limit)", raw, "1/s")
    report.add("spool.accept, sealed and durable on return", put, "1/s")
    report.add("spool.accept without a key", plain_put, "1/s")
    report.add("share of the limit", 100 * float(np.median(np.divide(puts, raws))), "%", target=60)
    report.add("share of the limit without a key", 100 * float(np.median(np.divide(plains, raws))), "%")
    report.add("sealing alone", 1e6 * _sealing_s(made[WARM_UP:]), "us", better="lower")


def _sealing_s(made: list[SealedEnvelope]) -> float:
    """Of one envelope, without a disk."""
    key = SpoolKey.make()
    return 1 / _rate(lambda one: key.seal(one.id, one.data), made)


def _rate(put: Callable[[SealedEnvelope], object], made: list[SealedEnvelope]) -> float:
    start_s = time.perf_counter()
    for one in made:
        put(one)
    return len(made) / (time.perf_counter() - start_s)


def _measure_kills(report: Report, folder: Path, kills: int, chance: random.Random) -> None:
    folder.mkdir()
    promised: set[str] = set()
    for round_ in range(kills):
        producer = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.spool", "--produce", str(folder), str(round_ + 100)],
            stdout=subprocess.PIPE,
        )
        assert producer.stdout is not None
        for _ in range(chance.randrange(1, 60)):
            promised.add(producer.stdout.readline().decode().strip())
        producer.send_signal(signal.SIGKILL)
        rest = producer.stdout.read().decode().split("\n")[:-1]
        promised |= {line.strip() for line in rest}
        producer.wait()
    with Spool(folder, 1 << 40, KEY) as spool:
        counts = spool.counts()
    with sqlite3.connect(folder / "spool.sqlite3") as db:
        held = [row[0] for row in db.execute("SELECT id FROM envelopes JOIN bodies USING (seq)")]
    db.close()
    report.add("kill -9", kills, "times")
    report.add("promised", len(promised), "envelopes")
    report.add("lost", len(promised - set(held)), "envelopes", target=0, better="lower")
    report.add("doubled", len(held) - len(set(held)), "envelopes", target=0, better="lower")
    report.add("counters off by", counts.accepted - len(held), "envelopes", target=0, better="lower")


def _produce(folder: Path, seed: int) -> None:
    made = envelopes(100, seed)
    with Spool(folder, 1 << 40, KEY) as spool:
        for one in made:
            spool.accept(one)
            print(one.id, flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
