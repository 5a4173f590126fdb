from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
import pytest

from tests.envelopes import sealed
from walt_edge.contract.clipart import read_clipart
from walt_edge.contract.messages import AckState, CropHeader, encode_envelope, envelope_id
from walt_edge.contract.topics import Kind
from walt_edge.privacy.anonymiser import SealedEnvelope
from walt_train.loop.store.config import StoreConfig
from walt_train.loop.store.store import Accepted, QuarantineLimits, Refused, Store, StoreError, StoreWriteError

STORED, DUPLICATE = AckState.STORED, AckState.DUPLICATE


LIMITS = QuarantineLimits(entries=3, total_bytes=100)


@pytest.fixture
def store(config: StoreConfig) -> Iterator[Store]:
    """A store in each of the places that there are."""
    with Store(config, LIMITS) as store:
        yield store


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Store]:
    """A store in a folder."""
    with Store(tmp_path / "store", LIMITS) as store:
        yield store


def accepted(*numbers: int, kind: Kind = Kind.CROP, held: str | None = None) -> list[Accepted]:
    return [into(sealed(number, kind), held) for number in numbers]


def into(envelope: SealedEnvelope, held: str | None = None) -> Accepted:
    return Accepted(envelope.id, envelope.envelope, envelope.data, held)


def folder_of(store: Store) -> Path:
    folder = store.config.blob_folder
    assert folder is not None
    return folder


def orphan(store: Store, data: bytes, age_s: float = 7200.0) -> Path:
    sha256 = envelope_id(data)
    path = folder_of(store) / "blobs" / sha256[:2] / sha256[2:4] / f"{sha256}.envelope"
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


def test_it_outlives_its_process(config: StoreConfig) -> None:
    with Store(config) as store:
        store.add_group(accepted(1))
    with Store(config) as store:
        assert store.add_group(accepted(1)) == [DUPLICATE]
        assert store.get(store.ids()[0]).envelope == sealed(1).envelope


def test_what_is_held_does_not_train(store: Store, tmp_path: Path) -> None:
    store.add_group(accepted(1, 2) + accepted(3, held="new device") + accepted(4, kind=Kind.PLATE, held="camera x"))
    free = [item.id for item in accepted(1, 2)]
    assert store.ids() == [stored.id for stored in store.envelopes()] == free
    assert len(store.ids(include_held=True)) == len(list(store.envelopes(include_held=True))) == 4
    clipart = store.export_clipart(tmp_path / "clipart", "cam-1")
    assert ([clip.crop for clip in clipart.clips], clipart.plates) == (free, [])
    assert (store.counts().held, store.counts().crops) == (2, 3)


def test_who_is_deleted_while_it_is_being_stored_stays_deleted(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    [item, other] = accepted(1, 2)
    put_all = store.blobs.put_all

    def delete_meanwhile(blobs: Mapping[str, bytes]) -> None:
        put_all(blobs)
        store.delete([item.id], "asked for by a resident")

    monkeypatch.setattr(store.blobs, "put_all", delete_meanwhile)
    assert store.add_group([item, other]) == [DUPLICATE, STORED]
    assert store.ids() == list(store.blobs.names()) == [other.id]


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


def test_a_damaged_file_is_noticed(local: Store) -> None:
    [item] = accepted(1)
    local.add_group([item])
    [path] = folder_of(local).glob("blobs/??/*")
    path.write_bytes(item.data[:-1] + b"?")
    with pytest.raises(StoreError, match="damaged: its hash is not its name"):
        local.get(item.id)


def test_files_that_no_row_names_are_collected(local: Store) -> None:
    local.add_group(accepted(1))
    old, young = orphan(local, b"left by a crash"), orphan(local, b"on its way in", age_s=0)
    partial = folder_of(local) / "blobs" / "partial" / "half"
    partial.write_bytes(b"x")
    os.utime(partial, (0, 0))
    assert local.collect_orphans() == 1
    assert (old.exists(), young.exists(), partial.exists()) == (False, True, False)
    assert [stored.id for stored in local.envelopes()] == local.ids()


def test_blobs_that_no_row_names_are_collected_anywhere(store: Store) -> None:
    store.add_group(accepted(1))
    store.blobs.put_all({envelope_id(b"left by a crash"): b"left by a crash"})
    assert store.collect_orphans(3600) == 0
    assert store.collect_orphans(-60) == 1
    assert list(store.blobs.names(-60)) == store.ids()


def test_an_orphan_that_is_being_stored_is_not_collected(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    [item] = accepted(1)
    store.blobs.put_all({item.id: item.data})
    # It was old when it was listed.
    monkeypatch.setattr(store.blobs, "names", lambda older_than_s: [item.id])
    assert store.collect_orphans(3600) == 0
    assert store.add_group([item]) == [STORED]
    assert store.get(item.id).envelope == item.envelope


def test_what_older_programs_wrote_is_found(local: Store) -> None:
    [item] = accepted(1)
    local.add_group([item])
    [path] = folder_of(local).glob("blobs/??/*")
    old = path.parent / item.id[2:4] / path.name
    old.parent.mkdir()
    path.rename(old)
    assert local.get(item.id).envelope == item.envelope
    assert list(local.blobs.names()) == [item.id]
    assert local.blobs.place(item.id) == str(old)
    assert local.delete([item.id], "asked for") == 1
    assert not old.exists()


def test_a_torn_orphan_is_written_anew(local: Store) -> None:
    [item] = accepted(1)
    local.add_group([item])
    path = next(folder_of(local).glob("blobs/??/*"))
    local.close()
    path.write_bytes(item.data[:100])
    for database in folder_of(local).glob("store.sqlite3*"):
        database.unlink()
    with Store(folder_of(local)) as again:
        assert again.add_group([item]) == [STORED]
        assert again.get(item.id).envelope == item.envelope


def test_what_was_refused_is_kept_with_the_reason(store: Store) -> None:
    store.add_group([], [Refused("a/topic", b"junk", "not an envelope")])
    store.add_group(accepted(1), [Refused("a/topic", b"junk", "again"), Refused("b/topic", b"other", "worse")])
    assert sorted(store.refused_reasons()) == [("a/topic", "again"), ("b/topic", "worse")]
    assert store.refused_blobs.get(envelope_id(b"junk")) == b"junk"
    assert (store.counts().rejected, store.counts().quarantined) == (3, 2)


def test_the_quarantine_is_bounded_and_tells_why(local: Store) -> None:
    for number in range(5):
        local.add_group([], [Refused("a/topic", bytes([number]) * 40, f"reason {number}")])
    local.add_group([], [Refused("a/topic", bytes([4]) * 40, "reason 4 again")])
    assert local.refused_reasons() == [("a/topic", "reason 4 again"), ("a/topic", "reason 3")]
    assert (local.counts().rejected, local.counts().quarantined) == (6, 2)
    files = sorted(path.read_bytes()[0] for path in folder_of(local).glob("quarantine/??/*"))
    assert files == [3, 4]


def test_nothing_is_recorded_while_the_disk_is_full(local: Store) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(StoreWriteError, match="cannot write to the store"):
            local.add_group(accepted(1, 2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert local.ids() == []
    assert not list(folder_of(local).glob("blobs/partial/*"))
    assert local.add_group(accepted(1, 2)) == [STORED, STORED]


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
