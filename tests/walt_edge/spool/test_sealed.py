"""A stolen disk tells nothing of people, and a lost key costs what waited, never the agent."""

from __future__ import annotations

import contextlib
import errno
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.envelopes import sealed
from tests.killing import kill_at_every_step
from walt_edge.contract.messages import SpoolCounts
from walt_edge.privacy.anonymiser import SealedEnvelope
from walt_edge.spool.key import KEY_BYTES, SpoolKey, SpoolKeyError
from walt_edge.spool.spool import FILE_NAME, Spool, SpoolError, SpoolFullError

OLD, NEW = bytes(KEY_BYTES), bytes([1] * KEY_BYTES)
KEY = SpoolKey(OLD)
VERSION_1 = """
CREATE TABLE envelopes (seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('depth', 'acked', 'dropped', 'rejected')), rank INTEGER NOT NULL,
  value REAL NOT NULL, size INTEGER NOT NULL, reason TEXT NOT NULL DEFAULT '');
CREATE INDEX by_age ON envelopes (state, seq) WHERE size > 0;
CREATE INDEX by_value ON envelopes (rank, value, seq) WHERE state = 'depth';
CREATE TABLE bodies (seq INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE counts (only INTEGER PRIMARY KEY CHECK (only = 0), accepted INTEGER NOT NULL DEFAULT 0,
  acked INTEGER NOT NULL DEFAULT 0, dropped INTEGER NOT NULL DEFAULT 0, rejected INTEGER NOT NULL DEFAULT 0,
  depth INTEGER NOT NULL DEFAULT 0 CHECK (depth >= 0), bytes INTEGER NOT NULL DEFAULT 0 CHECK (bytes >= 0),
  CHECK (accepted = acked + dropped + rejected + depth));
"""


def ids(spool: Spool) -> list[str]:
    return [one.id for one in spool.pending(1000)]


def traces(folder: Path, made: list[SealedEnvelope]) -> list[str]:
    """Files in which a part of a plain envelope can be read: its names, or a piece of its picture."""
    pieces = [b"walt-test", b"anonymiser", b"unoccluded_confidence"]
    pieces += [
        one.envelope.image[at : at + 24] for one in made for at in range(200, len(one.envelope.image) - 24, 1500)
    ]
    files = {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return [name for name, data in files.items() if any(piece in data for piece in pieces)]


def old_spool(folder: Path, made: list[SealedEnvelope]) -> None:
    """As version 1 left it: plain; one acknowledged, one freed whose bytes are still in the file."""
    folder.mkdir(exist_ok=True)
    with closing(sqlite3.connect(folder / FILE_NAME)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.executescript(VERSION_1)
        for seq, one in enumerate(made, start=1):
            state = {1: "acked", 2: "rejected"}.get(seq, "depth")
            row = (seq, one.id, one.kind.value, state, 0, 1.0, len(one.data))
            db.execute("INSERT INTO envelopes VALUES (?, ?, ?, ?, ?, ?, ?, '')", row)
            db.execute("INSERT INTO bodies VALUES (?, ?)", (seq, one.data))
        db.execute("UPDATE envelopes SET size = 0 WHERE seq = 2")
        db.execute("DELETE FROM bodies WHERE seq = 2")
        size = sum(len(one.data) for one in made) - len(made[1].data)
        db.execute("INSERT INTO counts VALUES (0, ?, 1, 0, 1, ?, ?)", (len(made), len(made) - 2, size))
        db.commit()


def test_the_test_finds_traces_where_there_is_no_key(tmp_path: Path) -> None:
    made = [sealed(n, side_px=64) for n in range(5)]
    with Spool(tmp_path) as spool:
        for one in made:
            spool.accept(one)
    assert FILE_NAME in traces(tmp_path, made)


def test_no_file_of_the_folder_tells_anything_at_any_time(tmp_path: Path) -> None:
    made = [sealed(n, side_px=64) for n in range(60)]
    with Spool(tmp_path, quota_bytes=200_000, key=KEY) as spool:
        for number, one in enumerate(made):
            spool.accept(one)
            if number % 3 == 0:
                spool.acked([one.id])
            if number % 5 == 1:
                spool.rejected(one.id, "for a test")
            if number % 20 == 0:
                assert traces(tmp_path, made) == []  # The log beside the file, too.
        assert spool.counts().dropped > 0
        assert traces(tmp_path, made) == []
    assert traces(tmp_path, made) == []


def test_what_is_sealed_comes_back_as_it_was(tmp_path: Path) -> None:
    made = [sealed(n) for n in range(5)]
    with Spool(tmp_path, key=KEY) as spool:
        for one in made:
            assert spool.accept(one)
            assert not spool.accept(one)
    with Spool(tmp_path, key=KEY) as spool:
        assert [(one.id, one.data) for one in spool.pending(9)] == [(one.id, one.data) for one in made]
        assert spool.counts() == SpoolCounts(accepted=5, depth=5, bytes=sum(len(one.data) + 28 for one in made))


def test_without_its_key_a_sealed_spool_is_counted_and_settled_not_read(tmp_path: Path) -> None:
    with Spool(tmp_path, key=KEY) as spool:
        spool.accept(sealed(1))
    with Spool(tmp_path) as spool:
        assert spool.counts().depth == 1
        for use in (lambda: spool.pending(1), lambda: spool.accept(sealed(2))):
            with pytest.raises(SpoolKeyError, match="open it with its key"):
                use()
        assert spool.acked([sealed(1).id]) == 1


def test_a_lost_key_costs_what_waited_and_nothing_else(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Spool(tmp_path, key=KEY) as spool:
        for n in range(6):
            spool.accept(sealed(n))
        spool.acked([sealed(0).id])
        spool.rejected(sealed(1).id, "for a test")
    for start in range(2):
        with Spool(tmp_path, key=SpoolKey(NEW)) as spool:
            assert spool.set_aside == (1 if start == 0 else 0)
            counts = spool.counts()
            assert (counts.accepted, counts.acked, counts.rejected, counts.dropped) == (6 + start, 1, 1, 4)
            assert counts.depth == start
            assert not spool.accept(sealed(0))  # Home has it, and that is not forgotten.
            assert spool.resend(0, "again") == 0
            assert spool.accept(sealed(10 + start))
    assert "4 envelopes that wait" in caplog.text
    (aside,) = tmp_path.glob("*.sealed-*")
    aside.rename(tmp_path / FILE_NAME)
    with Spool(tmp_path, key=KEY) as spool:
        assert ids(spool) == [sealed(n).id for n in range(2, 6)]


def test_a_lost_key_costs_no_more_where_the_disk_has_no_room_for_a_second_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object, **__: object) -> None:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    with Spool(tmp_path, key=KEY) as spool:
        spool.accept(sealed(0))
    with Spool(tmp_path, key=SpoolKey(NEW, OLD)) as spool:
        for n in range(1, 50):
            spool.accept(sealed(n))
    monkeypatch.setattr("walt_edge.spool.spool.replace_file", refuse)
    with Spool(tmp_path, key=KEY) as spool:
        assert spool.set_aside == 0
        assert "none is moved aside" in caplog.text
        counts = spool.counts()
        assert (counts.accepted, counts.dropped, counts.depth) == (50, 49, 1)
        assert counts.bytes == len(sealed(0).data) + 28
        assert ids(spool) == [sealed(0).id]


def test_one_of_several_keys_lost_costs_only_what_it_sealed(tmp_path: Path) -> None:
    with Spool(tmp_path, key=KEY) as spool:
        spool.accept(sealed(1))
    with Spool(tmp_path, key=SpoolKey(NEW, OLD)) as spool:
        spool.accept(sealed(2))
        assert ids(spool) == [sealed(1).id, sealed(2).id]
    with Spool(tmp_path, key=SpoolKey(NEW)) as spool:
        assert ids(spool) == [sealed(2).id]
        assert spool.counts().dropped == 1


def test_a_damaged_body_is_dropped_and_those_behind_it_go_home(tmp_path: Path) -> None:
    with Spool(tmp_path, key=KEY) as spool:
        for n in range(3):
            spool.accept(sealed(n))
        with closing(sqlite3.connect(spool.path)) as db:
            db.execute("UPDATE bodies SET data = zeroblob(length(data)) WHERE seq = 1")
            db.execute("DELETE FROM bodies WHERE seq = 2")
            db.commit()
        assert ids(spool) == [sealed(2).id]
        counts = spool.counts()
        assert (counts.accepted, counts.dropped, counts.depth) == (3, 2, 1)


def test_an_older_spool_is_sealed_when_it_is_opened(tmp_path: Path) -> None:
    made = [sealed(n, side_px=64) for n in range(100)]
    old_spool(tmp_path, made)
    shutil.copy(tmp_path / FILE_NAME, tmp_path / f"{FILE_NAME}.corrupt-1")
    assert len(traces(tmp_path, made)) >= 2
    with Spool(tmp_path, key=KEY) as spool:
        assert traces(tmp_path, made) == []
        assert [(one.id, one.data) for one in spool.pending(1000)] == [(one.id, one.data) for one in made[2:]]
        counts = spool.counts()
        assert (counts.accepted, counts.acked, counts.rejected, counts.depth) == (100, 1, 1, 98)
        assert counts.bytes == sum(len(one.data) + 28 for one in made) - len(made[1].data) - 28
    assert traces(tmp_path, made) == []


def test_an_older_spool_may_stay_plain_where_there_is_no_key(tmp_path: Path) -> None:
    made = [sealed(n) for n in range(5)]
    old_spool(tmp_path, made)
    with Spool(tmp_path) as spool:
        assert ids(spool) == [one.id for one in made[2:]]
        assert spool.accept(sealed(9))


def test_an_older_spool_that_is_damaged_leaves_nothing_plain(tmp_path: Path) -> None:
    made = [sealed(n, side_px=64) for n in range(20)]
    old_spool(tmp_path, made)
    _damage_index(tmp_path / FILE_NAME)
    with Spool(tmp_path, key=KEY) as spool:
        spool.counts()
        for n in range(100, 110):
            with contextlib.suppress(SpoolError):
                spool.accept(sealed(n))
    with Spool(tmp_path, key=KEY) as spool:
        assert set(ids(spool)) >= {one.id for one in made[2:]}
    assert traces(tmp_path, made) == []


def test_a_damaged_spool_on_a_full_disk_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with Spool(tmp_path) as spool:
        for n in range(4):
            spool.accept(sealed(n))
    _damage_index(tmp_path / FILE_NAME)
    with monkeypatch.context() as full:
        full.setattr("walt_edge.spool.spool.replace_file", refuse)
        spool = Spool(tmp_path)
        for _ in range(2):
            with pytest.raises(SpoolFullError):
                spool.pending(9)
    with pytest.raises(SpoolError, match="malformed"):
        spool.pending(9)
    assert spool.set_aside == 1
    assert ids(spool) == [sealed(n).id for n in range(4)]
    spool.close()


def test_opening_it_to_look_drops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("walt_edge.spool.spool.DEFAULT_QUOTA_BYTES", 100)
    with Spool(tmp_path, quota_bytes=1 << 30, key=KEY) as spool:
        spool.accept(sealed(1))
    with Spool(tmp_path) as spool:
        assert spool.counts().depth == 1


def test_a_spool_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    with Spool(tmp_path) as spool, closing(sqlite3.connect(spool.path)) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(SpoolError, match="newer version"):
        Spool(tmp_path)


@pytest.mark.parametrize("start", ["a lost key", "a damaged file"])
def test_a_kill_while_a_file_is_replaced_loses_nothing_more(tmp_path: Path, start: str) -> None:
    folder, ready = tmp_path / "spool", tmp_path / "ready"
    ready.mkdir()
    with Spool(ready, key=KEY) as spool:
        for n in range(4):
            spool.accept(sealed(n))
        spool.acked([sealed(0).id])
    with Spool(ready, key=SpoolKey(NEW, OLD)) as spool:
        spool.accept(sealed(4))
    key = SpoolKey(NEW) if start == "a lost key" else SpoolKey(NEW, OLD)
    if start == "a damaged file":
        _damage_index(ready / FILE_NAME)

    def prepare() -> Callable[[], object]:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(ready, folder)
        return lambda: Spool(folder, key=key).counts()

    for _ in kill_at_every_step(prepare):
        with Spool(folder, key=key) as spool:
            spool.counts()
            counts = spool.counts()
            assert (counts.accepted, counts.acked) == (5, 1)
            assert ids(spool)[-1] == sealed(4).id
            assert counts.depth + counts.dropped == 4


def _damage_index(path: Path) -> None:
    """Makes SQLite find the file malformed, with every body still readable."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode = DELETE")
        root, page = (
            db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'by_age'").fetchone()[0],
            db.execute("PRAGMA page_size").fetchone()[0],
        )
    with path.open("r+b") as file:
        file.seek((root - 1) * page)
        file.write(b"\xff" * page)
