"""Files that are on the disk before a row names them, flushed one by one or as a whole file system."""

from __future__ import annotations

import errno
import hashlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.envelopes import sealed
from tests.killing import flushed, kill_at_every_step
from walt_edge.contract.messages import AckState
from walt_train.loop.store.blobs import BlobFolder
from walt_train.loop.store.flushing import FileSystem
from walt_train.loop.store.store import Accepted, Store, StoreWriteError

BLOBS = {hashlib.sha256(data).hexdigest(): data for data in (b"one", b"two", bytes(70_000))}


class Disk:
    """A file system whose flush is told of, or fails."""

    def __init__(self, look: Callable[[], None]) -> None:
        self._look = look

    def flush(self) -> None:
        self._look()

    def close(self) -> None:
        pass


@pytest.fixture(params=["together", "one by one"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BlobFolder]:
    """Both ways to flush, whatever this disk is."""
    whole = request.param == "together"
    monkeypatch.setattr(FileSystem, "of", lambda folder: Disk(lambda: None) if whole else None)
    folder = BlobFolder(tmp_path / "blobs", ".x")
    yield folder
    folder.close()


def items(*numbers: int) -> list[Accepted]:
    return [Accepted(one.id, one.envelope, one.data) for one in map(sealed, numbers)]


def flush_is(store: Store, look: Callable[[], None]) -> None:
    assert isinstance(store.blobs, BlobFolder)
    store.blobs._system = Disk(look)  # type: ignore[assignment]


def test_what_is_put_is_there(blobs: BlobFolder) -> None:
    blobs.put_all(BLOBS)
    blobs.put_all({})
    assert {sha256: blobs.get(sha256) for sha256 in blobs.names()} == BLOBS
    assert not list((blobs.root / "partial").iterdir())


def test_a_name_that_is_taken_proves_nothing(blobs: BlobFolder) -> None:
    [first, *_] = BLOBS
    torn = blobs.path(first)
    torn.parent.mkdir()
    torn.write_bytes(b"o")
    with flushed() as paths:
        blobs.put_all(BLOBS)
    assert blobs.get(first) == BLOBS[first]
    # Not written over where it lies, which a reader would see and a crash would tear again.
    assert any(Path(path).parent == blobs.root / "partial" for path in paths)
    assert str(torn.parent) in paths


def test_one_by_one_files_are_flushed_before_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FileSystem, "of", lambda folder: None)
    blobs = BlobFolder(tmp_path / "blobs")
    with flushed() as paths:
        blobs.put_all(BLOBS)
    folders = [str(blobs.path(sha256).parent) for sha256 in BLOBS]
    files = [at for at, path in enumerate(paths) if Path(path).parent == blobs.root / "partial"]
    assert len(files) == len(BLOBS)
    assert all(max(files) < len(paths) - 1 - paths[::-1].index(folder) for folder in folders)
    assert str(blobs.root) in paths
    blobs.close()


def test_together_everything_is_written_before_the_flush_and_no_row_is(tmp_path: Path) -> None:
    group = items(1, 2, 3)
    seen: list[dict[str, bytes]] = []
    with Store(tmp_path) as store:

        def look() -> None:
            assert store.ids() == []
            seen.append({item.id: store.blobs.get(item.id) for item in group})

        flush_is(store, look)
        assert store.add_group(group) == [AckState.STORED] * 3
        assert seen == [{item.id: item.data for item in group}]


def test_a_disk_that_fails_at_the_flush_stores_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        raise OSError(errno.EIO, "Input/output error")

    with Store(tmp_path) as store:
        flush_is(store, fail)
        with pytest.raises(StoreWriteError, match=r"cannot write to the store in .*: Input/output error"):
            store.add_group(items(1))
        assert store.ids() == []
        flush_is(store, lambda: None)
        assert store.add_group(items(1)) == [AckState.STORED]


def test_the_real_disk(tmp_path: Path) -> None:
    system = FileSystem.of(tmp_path)
    if system is None:
        pytest.skip("no ext4 or XFS here")
    system.flush()
    system.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        system.flush()


@pytest.mark.parametrize(
    ("kind", "release", "known"),
    [
        ("ext4", "6.1.0", True),
        ("xfs", "5.8", True),
        ("ext4", "5.4.0-1", False),
        ("nfs4", "6.1", False),
        ("", "6", False),
    ],
)
def test_only_known_disks_are_flushed_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, release: str, known: bool
) -> None:
    monkeypatch.setattr("walt_train.loop.store.flushing._kind", lambda folder: kind)
    monkeypatch.setattr("platform.release", lambda: release)
    system = FileSystem.of(tmp_path)
    assert (system is not None) == known
    if system is not None:
        system.close()


def test_a_kill_at_any_step_leaves_no_row_without_its_file(tmp_path: Path) -> None:
    made, folder = tmp_path / "made", tmp_path / "store"
    Store(made).close()
    group = items(1, 2)

    def prepare() -> Callable[[], object]:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(made, folder)
        return lambda: Store(folder).add_group(group)

    for _ in kill_at_every_step(prepare):
        with Store(folder) as store:
            assert [stored.id for stored in store.envelopes()] == store.ids()
            store.add_group(group)
            assert len(list(store.envelopes())) == 2
