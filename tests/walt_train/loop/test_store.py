from __future__ import annotations

import os
import resource
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import create_engine, text

from tests.envelopes import sealed
from walt_edge.contract.clipart import read_clipart
from walt_edge.contract.messages import AckState, CropHeader, encode_envelope, envelope_id
from walt_edge.contract.topics import Kind
from walt_edge.privacy import SealedEnvelope
from walt_train.loop.store import Accepted, QuarantineLimits, Refused, Store, StoreError, StoreWriteError

STORED, DUPLICATE = AckState.STORED, AckState.DUPLICATE


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store", QuarantineLimits(entries=3, total_bytes=100)) as store:
        yield store


def accepted(*numbers: int, kind: Kind = Kind.CROP) -> list[Accepted]:
    return [into(sealed(number, kind)) for number in numbers]


def into(envelope: SealedEnvelope) -> Accepted:
    return Accepted(envelope.id, envelope.envelope, envelope.data)


def orphan(store: Store, data: bytes, age_s: float = 7200.0) -> Path:
    sha256 = envelope_id(data)
    path = store.folder / "blobs" / sha256[:2] / sha256[2:4] / f"{sha256}.envelope"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, (time.time() - age_s,) * 2)
    return path


def test_a_group_is_stored_once(store: Store) -> None:
    group = accepted(1, 2, 2)
    assert store.add_group(group) == [STORED, STORED, DUPLICATE]
    assert store.add_group(accepted(2, 3)) == [DUPLICATE, STORED]
    counts = store.counts()
    assert (counts.crops, counts.duplicates, counts.rejected) == (3, 2, 0)
    assert counts.bytes == sum(len(item.data) for item in accepted(1, 2, 3))


def test_what_was_stored_is_read_back_in_order_of_capture(store: Store) -> None:
    store.add_group(accepted(5, 1, 3))
    store.add_group(accepted(2, kind=Kind.PLATE) + accepted(4, kind=Kind.FRAME))
    whole = list(store.envelopes())
    assert [stored.envelope.header.captured.monotonic_ns for stored in whole] == [1, 2, 3, 4, 5]
    assert [stored.id for stored in store.envelopes(Kind.CROP)] == [item.id for item in accepted(1, 3, 5)]
    assert whole[0].envelope == sealed(1).envelope
    assert (store.counts().crops, store.counts().plates, store.counts().frames) == (3, 1, 1)


def test_it_outlives_its_process(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.add_group(accepted(1))
    with Store(tmp_path) as store:
        assert store.add_group(accepted(1)) == [DUPLICATE]


def test_the_deleted_stays_deleted(store: Store) -> None:
    store.add_group(accepted(1, 2))
    [gone] = accepted(1)
    assert store.delete([gone.id, "f" * 64], "asked for by a resident") == 1
    assert store.delete([gone.id], "again") == 0
    assert store.add_group([gone]) == [DUPLICATE]
    assert store.ids() == [accepted(2)[0].id]
    assert store.counts().tombstones == 2
    with pytest.raises(StoreError, match="No such file"):
        store.get(gone.id)


def test_a_damaged_file_is_noticed(store: Store) -> None:
    [item] = accepted(1)
    store.add_group([item])
    [path] = store.folder.glob("blobs/??/??/*")
    path.write_bytes(item.data[:-1] + b"?")
    with pytest.raises(StoreError, match="damaged: its hash is not its name"):
        store.get(item.id)


def test_files_that_no_row_names_are_collected(store: Store) -> None:
    store.add_group(accepted(1))
    old, young = orphan(store, b"left by a crash"), orphan(store, b"on its way in", age_s=0)
    partial = store.folder / "blobs" / "partial" / "half"
    partial.write_bytes(b"x")
    os.utime(partial, (0, 0))
    assert store.collect_orphans() == 1
    assert (old.exists(), young.exists(), partial.exists()) == (False, True, False)
    assert [stored.id for stored in store.envelopes()] == store.ids()


def test_a_torn_orphan_is_written_anew(store: Store) -> None:
    [item] = accepted(1)
    store.add_group([item])
    path = next(store.folder.glob("blobs/??/??/*"))
    store.close()
    path.write_bytes(item.data[:100])
    for database in store.folder.glob("store.sqlite3*"):
        database.unlink()
    with Store(store.folder) as again:
        assert again.add_group([item]) == [STORED]
        assert again.get(item.id).envelope == item.envelope


def test_the_quarantine_is_bounded_and_tells_why(store: Store) -> None:
    for number in range(5):
        store.add_group([], [Refused("a/topic", bytes([number]) * 40, f"reason {number}")])
    store.add_group([], [Refused("a/topic", bytes([4]) * 40, "reason 4 again")])
    assert store.refused_reasons() == [("a/topic", "reason 4 again"), ("a/topic", "reason 3")]
    assert (store.counts().rejected, store.counts().quarantined) == (6, 2)
    files = sorted(path.read_bytes()[0] for path in store.folder.glob("quarantine/??/??/*"))
    assert files == [3, 4]


def test_nothing_is_recorded_while_the_disk_is_full(store: Store) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(StoreWriteError, match="cannot write to the store"):
            store.add_group(accepted(1, 2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert store.ids() == []
    assert not list(store.folder.glob("blobs/partial/*"))
    assert store.add_group(accepted(1, 2)) == [STORED, STORED]


def test_two_processes_may_share_a_store(tmp_path: Path) -> None:
    items = accepted(*range(60))
    states: list[AckState] = []

    def work() -> None:
        with Store(tmp_path) as store:
            for start in range(0, 60, 6):
                states.extend(store.add_group(items[start : start + 6]))

    Store(tmp_path).close()
    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert states.count(STORED) == 60
    assert states.count(DUPLICATE) == 60


def test_another_version_is_refused(tmp_path: Path) -> None:
    Store(tmp_path).close()
    engine = create_engine(f"sqlite:///{tmp_path}/store.sqlite3")
    with engine.begin() as connection:
        connection.execute(text("update meta set value = '99'"))
    engine.dispose()
    with pytest.raises(StoreError, match="version 99, this program reads 1"):
        Store(tmp_path)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreWriteError, match="Not a directory"):
        Store(tmp_path / "file" / "store")


def test_clip_art_is_exported_as_the_edge_mines_it(store: Store, tmp_path: Path) -> None:
    store.add_group(accepted(1, 2) + accepted(3, kind=Kind.PLATE) + accepted(4, kind=Kind.FRAME))
    exported = store.export_clipart(tmp_path / "clipart", "cam-1")
    read = read_clipart(tmp_path / "clipart")
    assert read == exported
    assert [clip.header for clip in read.clips] == [sealed(number).envelope.header for number in (1, 2)]
    assert [plate.id for plate in read.plates] == [accepted(3, kind=Kind.PLATE)[0].id]
    assert (tmp_path / "clipart" / read.clips[0].image).read_bytes() == sealed(1).envelope.image


def test_clip_art_of_an_unknown_camera(store: Store, tmp_path: Path) -> None:
    store.add_group(accepted(1))
    with pytest.raises(StoreError, match=r"holds nothing \(cameras: cam-1\) of camera 'nowhere'"):
        store.export_clipart(tmp_path / "clipart", "nowhere")


def test_clip_art_of_a_camera_whose_frames_changed_size(store: Store, tmp_path: Path) -> None:
    envelope = sealed(1).envelope
    assert isinstance(envelope.header, CropHeader)
    origin = msgspec.structs.replace(envelope.header.origin, frame_wh=(800, 600))
    other = msgspec.structs.replace(envelope, header=msgspec.structs.replace(envelope.header, origin=origin))
    data = encode_envelope(other)
    store.add_group([*accepted(1), Accepted(envelope_id(data), other, data)])
    with pytest.raises(StoreError, match="expected one"):
        store.export_clipart(tmp_path / "clipart", "cam-1")
