"""Power is cut at every step of the spool: what had returned is there, exactly, and nothing else has changed."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import get_args

import pytest

from tests.envelopes import sealed
from tests.power_cut import Disk, Event, Loss, recording, unflushed
from tests.walt_edge.spool.test_sealed import old_spool
from walt_edge.contract.messages import SpoolCounts
from walt_edge.spool.key import KEY_BYTES, SpoolKey
from walt_edge.spool.spool import FILE_NAME, Spool

KEY, OTHER = SpoolKey(bytes(KEY_BYTES)), SpoolKey(bytes([1] * KEY_BYTES))
QUOTA_BYTES = 60_000
LOSSES = get_args(Loss)


@dataclass(frozen=True)
class Held:
    """All that a spool promises."""

    counts: SpoolCounts
    states: tuple[tuple[str, str, int], ...]
    waiting: tuple[tuple[str, bytes], ...]


def held(spool: Spool) -> Held:
    rows = spool._db.execute("SELECT id, state, size FROM envelopes ORDER BY seq").fetchall()
    return Held(spool.counts(), tuple(rows), tuple((one.id, one.data) for one in spool.pending(1000)))


@dataclass
class Record:
    """What was done to the disk, and what was promised after so many steps of it.

    Attributes:
        folder: Where it was done.
        start: A copy of the folder as it was before.
        events: The steps.
        promises: After how many steps what was held; a cut leaves the last of these, or the next one.
        key: Opens the spool.
        moves_aside: Whether the work itself moves a file aside.
    """

    folder: Path
    start: Path
    events: list[Event]
    promises: list[tuple[int, Held]]
    key: SpoolKey
    moves_aside: bool = False

    def broken(self, moments: Sequence[tuple[int, Loss]], scratch: Path) -> list[str]:
        """What goes wrong after a power cut at these moments; the prefix's length and what it loses."""
        faults, disk, done = [], Disk(self.start, self.folder), 0
        with unflushed(scratch):
            for number, (end, loss) in enumerate(sorted(moments)):
                for event in self.events[done:end]:
                    disk.play(event)
                done = end
                shutil.rmtree(scratch, ignore_errors=True)
                scratch.mkdir()
                disk.write(scratch, loss, random.Random(number))
                fault = self._fault(end, scratch)
                if fault:
                    faults.append(f"after {end} of {len(self.events)} steps, losing {loss}: {fault}")
        return faults

    def _fault(self, end: int, scratch: Path) -> str:
        promised = [index for index, (step, _) in enumerate(self.promises) if step <= end]
        allowed = [self.promises[promised[-1]][1]] + [then for _, then in self.promises[len(promised) :][:1]]
        with Spool(scratch, QUOTA_BYTES, self.key) as spool:
            found = held(spool)
            if spool.set_aside and not self.moves_aside:
                return "the file was found damaged"
            if spool._db.execute("PRAGMA integrity_check").fetchone() != ("ok",):
                return "the file is damaged"
        if found not in allowed:
            return f"found {found.counts}, promised {[one.counts for one in allowed]}"
        return ""


def record(tmp_path: Path, prepare: Callable[[Path], None], work: Callable[[Record], None], key: SpoolKey) -> Record:
    folder, start = tmp_path / "spool", tmp_path / "start"
    folder.mkdir()
    prepare(folder)
    shutil.copytree(folder, start)
    made = Record(folder, start, [], [], key)
    with recording(folder) as made.events:
        work(made)
    return made


def nothing(folder: Path) -> None:
    """An empty folder."""


def busy(made: Record, synchronous: str = "FULL", rounds: int = 30) -> None:
    """Accepts, acknowledges, rejects, runs into its quota, checkpoints, is closed and opened, sends again."""
    made.promises.append((0, Held(SpoolCounts(), (), ())))
    chance = random.Random(3)
    spool = Spool(made.folder, QUOTA_BYTES, made.key)

    def promise() -> None:
        made.promises.append((len(made.events), held(spool)))

    for number in range(rounds):
        spool._db.execute("PRAGMA wal_autocheckpoint = 30")
        spool._db.execute(f"PRAGMA synchronous = {synchronous}")
        spool.accept(sealed(number, confidence=chance.random(), side_px=chance.choice((16, 32, 48))))
        promise()
        if number % 3 == 2:
            spool.acked([one.id for one in spool.pending(2)])
            promise()
        if number % 7 == 5:
            spool.rejected(spool.pending(1)[0].id, "for a test")
            promise()
        if number % 10 == 9:
            spool.resend(0, f"request-{number}")
            promise()
            spool.close()
            spool = Spool(made.folder, QUOTA_BYTES, made.key)
            promise()
    spool.close()


def moments(made: Record, most: int | None, seed: int = 1) -> list[tuple[int, Loss]]:
    every: list[tuple[int, Loss]] = list(product(range(len(made.events) + 1), LOSSES))
    return every if most is None else random.Random(seed).sample(every, min(most, len(every)))


def test_what_had_returned_is_there_whatever_was_not_flushed(tmp_path: Path) -> None:
    made = record(tmp_path, nothing, busy, KEY)
    kinds = Counter(event[0] for event in made.events)
    assert kinds["flush"] > 30
    assert kinds["create"] > 2
    assert any(event[0] == "write" and event[1].endswith(FILE_NAME) for event in made.events)  # it was checkpointed
    assert {state for _, state, _ in made.promises[-1][1].states} == {"acked", "rejected", "dropped", "depth"}
    assert made.broken(moments(made, 1000), tmp_path / "scratch") == []


def test_the_test_sees_a_spool_that_does_not_flush(tmp_path: Path) -> None:
    made = record(tmp_path, nothing, lambda record: busy(record, "NORMAL", rounds=8), KEY)
    every = [(end, loss) for end, loss in moments(made, None) if loss == "all"]
    assert len(made.broken(every, tmp_path / "scratch")) > 10


def lost_key(folder: Path) -> None:
    with unflushed(folder), Spool(folder, QUOTA_BYTES, KEY) as spool:
        for n in range(4):
            spool.accept(sealed(n))
        spool.acked([sealed(0).id])


def version_1(folder: Path) -> None:
    old_spool(folder, [sealed(n) for n in range(8)])


def damaged(folder: Path) -> None:
    lost_key(folder)
    with closing(sqlite3.connect(folder / FILE_NAME)) as db:
        db.execute("PRAGMA writable_schema = ON")
        db.execute("UPDATE sqlite_master SET rootpage = 2 WHERE name = 'by_age'")
        db.commit()


@pytest.mark.parametrize(
    ("prepare", "key"),
    [(lost_key, OTHER), (version_1, KEY), (damaged, KEY)],
    ids=["lost key", "version 1", "damaged"],
)
def test_a_file_that_is_replaced_or_upgraded_is_whole_at_any_moment(
    tmp_path: Path, prepare: Callable[[Path], None], key: SpoolKey
) -> None:
    def work(made: Record) -> None:
        for _ in range(2):
            with Spool(made.folder, QUOTA_BYTES, made.key) as spool:
                made.promises = [(0, held(spool))]

    made = record(tmp_path, prepare, work, key)
    made.moves_aside = prepare is not version_1
    assert made.broken(moments(made, 150), tmp_path / "scratch") == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_prefix(tmp_path: Path) -> None:
    made = record(tmp_path, nothing, lambda record: busy(record, rounds=80), KEY)
    every = [moment for moment in moments(made, None) for _ in range(5 if moment[1] == "sectors" else 1)]
    assert made.broken(every, tmp_path / "scratch") == []
