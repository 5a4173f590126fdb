"""What the spool has accepted is there, whatever happens to the process, the disk or the file."""

from __future__ import annotations

import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.envelopes import sealed
from tests.material import ROOT
from walt_edge.contract.messages import SpoolCounts
from walt_edge.contract.topics import Kind
from walt_edge.privacy.anonymiser import PrivacyError
from walt_edge.spool.spool import FILE_NAME, Spool, Spooled, SpoolError, SpoolFullError


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    with Spool(tmp_path) as spool:
        yield spool


def holds(counts: SpoolCounts) -> bool:
    return counts.accepted == counts.acked + counts.dropped + counts.rejected + counts.depth


def test_accepted_envelopes_wait_oldest_first_with_their_bytes(spool: Spool) -> None:
    made = [sealed(n) for n in range(5)]
    assert all(spool.accept(one) for one in made)
    waiting = spool.pending(3, skip={made[1].id})
    assert [(one.id, one.kind, one.data) for one in waiting] == [
        (made[n].id, Kind.CROP, made[n].data) for n in (0, 2, 3)
    ]
    assert spool.counts() == SpoolCounts(accepted=5, depth=5, bytes=sum(len(one.data) for one in made))


@pytest.mark.parametrize("settle", ["nothing", "acked", "rejected", "dropped"])
def test_an_envelope_made_twice_counts_once_whatever_became_of_it(tmp_path: Path, settle: str) -> None:
    one = sealed(1, confidence=0.1)
    with Spool(tmp_path, quota_bytes=len(one.data) + 10) as spool:
        assert spool.accept(one)
        if settle == "acked":
            spool.acked([one.id])
        elif settle == "rejected":
            spool.rejected(one.id, "for a test")
        elif settle == "dropped":
            spool.accept(sealed(2, confidence=0.9))
        before = spool.counts()
        assert not spool.accept(one)
        assert spool.counts() == before


@pytest.mark.parametrize("thing", [b"bytes", None, "text", sealed(1).envelope, sealed(1).data])
def test_only_sealed_envelopes_are_taken(spool: Spool, thing: object) -> None:
    with pytest.raises(PrivacyError, match="SealedEnvelope"):
        spool.accept(thing)  # type: ignore[arg-type]
    assert spool.counts() == SpoolCounts()


def test_settling_moves_the_counters_once(spool: Spool) -> None:
    made = [sealed(n) for n in range(4)]
    for one in made:
        spool.accept(one)
    assert spool.acked([made[0].id, made[1].id, made[0].id, "f" * 64]) == 2
    assert spool.acked([made[0].id]) == 0
    assert spool.rejected(made[2].id, "too dark")
    assert not spool.rejected(made[2].id, "too dark")
    assert not spool.rejected(made[0].id, "home has it already")
    counts = spool.counts()
    assert (counts.accepted, counts.acked, counts.rejected, counts.depth) == (4, 2, 1, 1)
    assert [one.id for one in spool.pending(9)] == [made[3].id]


def test_acknowledged_bodies_stay_and_rejected_ones_go(spool: Spool) -> None:
    first, second = sealed(1), sealed(2)
    spool.accept(first)
    spool.accept(second)
    spool.acked([first.id])
    spool.rejected(second.id, "for a test")
    assert spool.counts().bytes == len(first.data)


def test_space_is_made_from_acknowledged_bodies_before_any_waiting_envelope(tmp_path: Path) -> None:
    made = [sealed(n) for n in range(6)]
    with Spool(tmp_path, quota_bytes=sum(len(one.data) for one in made[:3]) + 500) as spool:
        for one in made[:3]:
            spool.accept(one)
        spool.acked(one.id for one in made[:3])
        for one in made[3:]:
            spool.accept(one)
        counts = spool.counts()
    assert (counts.acked, counts.dropped, counts.depth) == (3, 0, 3)
    assert counts.bytes == sum(len(one.data) for one in made[3:])


def test_the_least_valuable_crop_goes_first_and_plates_and_frames_last(tmp_path: Path) -> None:
    plate, frame = sealed(1, Kind.PLATE), sealed(2, Kind.FRAME)
    poor, small, good = sealed(3, confidence=0.2), sealed(4, side_px=12), sealed(5, confidence=0.95)
    order = [small, poor, good, frame, plate]  # value: confidence x area
    left = [one.id for one in order]
    for one in order:
        folder = tmp_path / one.id
        folder.mkdir()
        kept = order[order.index(one) :]
        with Spool(folder, quota_bytes=sum(len(k.data) for k in kept)) as spool:
            for new in (plate, poor, small, frame, good):
                spool.accept(new)
            assert {w.id for w in spool.pending(9)} == set(left)
            assert spool.counts().dropped == len(order) - len(left)
            assert holds(spool.counts())
        left.pop(0)


def test_an_envelope_larger_than_the_quota_is_dropped_and_counted(tmp_path: Path) -> None:
    with Spool(tmp_path, quota_bytes=100) as spool:
        assert spool.accept(sealed(1))
        assert spool.counts() == SpoolCounts(accepted=1, dropped=1)


def test_home_may_acknowledge_what_the_quota_dropped_after_it_was_sent(tmp_path: Path) -> None:
    one = sealed(1)
    with Spool(tmp_path, quota_bytes=100) as spool:
        spool.accept(one)
        assert spool.acked([one.id]) == 1
        assert spool.counts() == SpoolCounts(accepted=1, acked=1)


def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    with Spool(tmp_path) as spool:
        for n in range(3):
            spool.accept(sealed(n))
        spool.acked([sealed(0).id])
        before, waiting = spool.counts(), spool.pending(9)
    with Spool(tmp_path) as spool:
        assert (spool.counts(), spool.pending(9)) == (before, waiting)


def test_the_table_itself_refuses_counters_that_do_not_add_up(spool: Spool) -> None:
    spool.accept(sealed(1))
    with sqlite3.connect(spool.path) as db, pytest.raises(sqlite3.IntegrityError):
        db.execute("UPDATE counts SET accepted = accepted + 1")
    db.close()


_PRODUCER = """
import sys
from pathlib import Path
from tests.envelopes import sealed
from walt_edge.spool.spool import Spool
first = int(sys.argv[2])
with Spool(Path(sys.argv[1]), quota_bytes=200_000) as spool:
    for number in range(first, first + 100_000):
        one = sealed(number)
        spool.accept(one)
        print(one.id, flush=True)
        if number % 3 == 0:
            spool.acked([one.id])
        if number % 10 == 1:
            spool.rejected(one.id, "for a test")
"""


def test_nothing_accepted_is_lost_when_the_process_is_killed(tmp_path: Path) -> None:
    generator = random.Random(7)
    told: set[str] = set()
    for round_ in range(8):
        producer = subprocess.Popen(
            [sys.executable, "-c", _PRODUCER, str(tmp_path), str(round_ * 100_000)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        assert producer.stdout is not None
        for _ in range(generator.randrange(1, 120)):
            told.add(producer.stdout.readline().strip())
        producer.send_signal(signal.SIGKILL)
        told |= {line.strip() for line in producer.stdout.read().splitlines(keepends=True) if line.endswith("\n")}
        producer.stdout.close()
        producer.wait()
    with Spool(tmp_path, quota_bytes=200_000) as spool, sqlite3.connect(spool.path) as db:
        counts = spool.counts()
        rows = dict(db.execute("SELECT id, state FROM envelopes").fetchall())
        by_state = dict(db.execute("SELECT state, count(*) FROM envelopes GROUP BY state").fetchall())
        bodies = db.execute("SELECT count(*), sum(length(data)) FROM bodies").fetchone()
    db.close()
    assert spool.set_aside == 0
    assert told <= rows.keys()
    assert counts.accepted - len(told) in range(9)  # accepted, killed before it could say so
    assert holds(counts)
    assert {state: getattr(counts, state) for state in by_state} == by_state
    assert min(counts.acked, counts.dropped, counts.rejected, counts.depth) > 0
    assert bodies[1] == counts.bytes <= 200_000


def test_a_full_disk_refuses_the_new_and_keeps_the_old(spool: Spool) -> None:
    kept = [sealed(n) for n in range(5)]
    for one in kept:
        spool.accept(one)
    _limit_pages(spool, extra=0)
    with pytest.raises(SpoolFullError, match="free disk"):
        _fill(spool, 100)
    counts = spool.counts()
    assert holds(counts)
    assert [one.id for one in spool.pending(5)] == [one.id for one in kept]
    assert counts.depth == counts.accepted
    _limit_pages(spool, extra=10_000)
    assert spool.accept(sealed(300, side_px=128))


def test_on_a_full_disk_what_home_has_gives_way(spool: Spool) -> None:
    for n in range(20):
        spool.accept(sealed(n, side_px=64))
    spool.acked(sealed(n, side_px=64).id for n in range(20))
    _limit_pages(spool, extra=0)
    assert all(spool.accept(sealed(n, side_px=64)) for n in range(100, 110))
    counts = spool.counts()
    assert (counts.acked, counts.depth) == (20, 10)
    assert counts.bytes < sum(len(sealed(n, side_px=64).data) for n in range(30))


def _fill(spool: Spool, first: int) -> None:
    for n in range(first, first + 1000):
        spool.accept(sealed(n, side_px=128))


def _limit_pages(spool: Spool, extra: int) -> None:
    pages = spool._db.execute("PRAGMA page_count").fetchone()[0]
    spool._db.execute(f"PRAGMA max_page_count = {pages + extra}")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no right to mount a small disk here")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_really_full_disk(small_disk: Path) -> None:
    with Spool(small_disk) as spool:
        with pytest.raises(SpoolFullError):
            _fill(spool, 0)
        taken = spool.counts().accepted
        assert taken > 5
    with Spool(small_disk) as spool:
        assert [one.id for one in spool.pending(1000)] == [sealed(n, side_px=128).id for n in range(taken)]
        assert spool.counts().accepted == taken


def test_a_file_that_is_no_spool_is_moved_aside_with_a_message(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"this is no database" * 1000)
    with Spool(tmp_path) as spool:
        assert spool.set_aside == 1
        assert spool.accept(sealed(1))
    assert len(list(tmp_path.glob("*.corrupt-*"))) == 1
    assert "moved aside" in caplog.text


def test_a_spool_damaged_while_it_runs_keeps_what_can_be_read(tmp_path: Path) -> None:
    made = [sealed(n, side_px=64) for n in range(200)]
    with Spool(tmp_path) as spool:
        for one in made:
            spool.accept(one)
    path = tmp_path / FILE_NAME
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 2)
        file.write(b"\xff" * (size // 4))
    with Spool(tmp_path) as spool:
        seen = {one.id for one in _all_pending(spool)}
        assert spool.set_aside == 1
        assert 20 < len(seen) < 200
        assert seen < {one.id for one in made}
        assert spool.accept(sealed(1000))
        assert holds(spool.counts())


def _all_pending(spool: Spool) -> list[Spooled]:
    """Reads everything; the first try meets the damage."""
    for _ in range(2):
        try:
            return list(spool.pending(1000))
        except SpoolError:
            continue
    raise AssertionError("the fresh spool cannot be read either")


def test_a_home_that_cannot_be_written_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(SpoolError, match="writable") as told:
        Spool(tmp_path / "absent")
    assert "\n" not in str(told.value)


def test_every_commit_reaches_the_disk(spool: Spool) -> None:
    # SIGKILL cannot show this: the page cache outlives the process. SQLite's own promise for FULL does.
    assert spool._db.execute("PRAGMA synchronous").fetchone() == (2,)
    assert spool._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
