"""A copy of the store is whole, stays small, forgets what is forgotten, and comes back anywhere."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

import pytest

from tests.walt_train.loop.serve.loop import CROPS, Loop, crop, fill, plate
from walt_edge.contract.errors import WaltError
from walt_edge.contract.messages import AckState
from walt_train.loop.cli import SCRIPT
from walt_train.loop.lineage.backup import make_backup, read_backup
from walt_train.loop.lineage.copies import CopyError, forget_in
from walt_train.loop.lineage.keep import Policy, keep
from walt_train.loop.lineage.restore import restore
from walt_train.loop.serve.jobs import Order, State
from walt_train.loop.store.config import StoreConfig
from walt_train.loop.store.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store") as store:
        store.add_group([plate(), *(crop(number) for number in range(CROPS))])
        yield store


def rows(store: Store) -> dict[str, list[tuple[object, ...]]]:
    names = ("envelopes", "tombstones", "artifacts", "edges", "members", "wishes", "generations", "steps")
    with store.engine.connect() as connection:
        return {name: sorted(map(tuple, connection.exec_driver_sql(f"SELECT * FROM {name}"))) for name in names}


def test_everything_comes_back_and_goes_on(loop: Loop, tmp_path: Path) -> None:
    fill(loop.store)
    loop.worker().run()
    loop.store.delete([crop(0).id], "unwanted")
    make_backup(loop.store, tmp_path / "copy", loop.home)
    with Loop(tmp_path / "again") as again:
        restored = restore(tmp_path / "copy", again.store, again.home)
        assert (restored.envelopes, restored.damaged) == (CROPS, ())
        assert rows(again.store) == rows(loop.store)
        assert again.store.add_group([crop(0)]) == [AckState.DUPLICATE]
        assert [one.id for one in again.store.envelopes()] == loop.store.ids()
        kept = {path.relative_to(loop.home) for path in loop.home.rglob("*") if path.is_file()}
        came = {path.relative_to(again.home) for path in again.home.rglob("*") if path.is_file()}
        spared = {path.parts[3] for path in kept - came if path.parts[0] == "generations"}
        assert spared == {"clipart", "train", "logs"}
        shutil.copytree(loop.home / "keys", again.home / "keys")
        again.truths = loop.truths
        assert again.repository.newest() == loop.repository.newest()
        fill(again.store, numbers=range(10, 20))
        (again.truths["cam-1"] / "quality.json").write_text(json.dumps({"motion": 40, "0 15": 80}))
        again.worker().run()
        assert [one.state for one in again.generations] == [State.DONE, State.DONE]
        assert again.told[-1][1].release > 1000  # whatever was released after the copy was made


def test_a_generation_that_was_at_work_begins_again(loop: Loop, tmp_path: Path) -> None:
    fill(loop.store)
    jobs = loop.jobs("at work", lease_s=600.0)
    order = Order(camera="cam-1", recipe="demo", seed=3, training_steps=None, crops=CROPS, tracks=CROPS)
    made = jobs.create(order)
    assert made is not None
    folder = loop.home / "generations/cam-1/1/train"
    folder.mkdir(parents=True)
    (folder / "checkpoint.pt").write_text("of another training")
    make_backup(loop.store, tmp_path / "copy", loop.home)
    with Loop(tmp_path / "again", truths=loop.truths) as again:
        restore(tmp_path / "copy", again.store, again.home)
        assert not list(again.home.rglob("checkpoint.pt"))
        again.worker().run()
        assert [(one.seed, one.state) for one in again.generations] == [(3, State.DONE)]


def test_what_is_new_alone_is_copied_and_what_is_gone_goes(store: Store, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    assert make_backup(store, copy).fresh == CROPS + 1
    store.add_group([crop(10)])
    store.delete([crop(0).id], "unwanted")
    keep(store, Policy(bytes={None: store.counts().bytes - 1}), do=True)
    made = make_backup(store, copy)
    assert made.fresh == 1
    assert sorted(path.stem for path in copy.rglob("*.envelope")) == sorted(store.ids())
    assert len(list(copy.glob("rows-*"))) == 1


def test_a_copy_is_of_one_moment_while_crops_arrive_and_go(store: Store, tmp_path: Path) -> None:
    stopping = threading.Event()
    came = [100]

    def arrive() -> None:
        with Store(tmp_path / "store") as other:
            while not stopping.is_set():
                other.add_group([crop(came[0])])
                other.delete([crop(came[0] - 3).id], "unwanted")
                came[0] += 1

    thread = threading.Thread(target=arrive)
    thread.start()
    try:
        for number in range(4):
            made = make_backup(store, tmp_path / "copy")
            assert made.damaged == ()
            with Store(tmp_path / f"again-{number}") as again:
                restored = restore(tmp_path / "copy", again)
                assert restored.damaged == ()
                assert [one.id for one in again.envelopes()] == again.ids()
                assert set(again.ids()) >= {crop(one).id for one in range(CROPS)}
    finally:
        stopping.set()
        thread.join(30)
    assert came[0] > 100


def test_what_is_forgotten_after_the_copy_stays_forgotten(store: Store, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    make_backup(store, copy)
    place = ["--store", str(tmp_path / "store")]
    assert SCRIPT.main(["forget", *place, "--crop", crop(2).id, "--yes"]) == 0
    assert not list(copy.rglob(f"{crop(2).id}*"))
    with Store(tmp_path / "again") as again:
        assert restore(copy, again).forgotten == 1
        assert crop(2).id not in again.ids()
        assert again.add_group([crop(2)]) == [AckState.DUPLICATE]


def test_a_copy_that_is_away_is_named_and_forgets_with_the_next_copy(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    make_backup(store, copy)
    copy.rename(tmp_path / "away")
    place = ["--store", str(tmp_path / "store")]
    assert SCRIPT.main(["forget", *place, "--crop", crop(2).id, "--yes"]) == 0
    assert f"REMAINS backup {copy} is not there now" in capsys.readouterr().out
    (tmp_path / "away").rename(copy)
    make_backup(store, copy)
    assert not list(copy.rglob(f"{crop(2).id}*"))
    assert not forget_in(tmp_path / "nowhere", [], 0, "")


def test_a_store_that_lost_something_does_not_overwrite_its_last_good_copy(store: Store, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    made = make_backup(store, copy)
    with store.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM envelopes WHERE track_id < 2")
    with pytest.raises(CopyError, match=r"2 envelopes of the last backup .* never deleted"):
        make_backup(store, copy)
    assert read_backup(copy) == made.backup
    assert len(list(copy.rglob("*.envelope"))) == CROPS + 1


def test_damage_in_the_store_is_told_and_the_rest_is_copied(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(store.blobs.place(crop(1).id)).write_bytes(b"rot")
    words = ["backup", str(tmp_path / "copy"), "--store", str(tmp_path / "store")]
    assert SCRIPT.main(words) == 1
    assert f"DAMAGED in the store, and not copied: 1 ({crop(1).id[:16]} ...)" in capsys.readouterr().out
    with Store(tmp_path / "again") as again:
        assert restore(tmp_path / "copy", again).envelopes == CROPS


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda copy: (copy / "backup.json").write_bytes(b"{"), "backup.json is damaged"),
        (lambda copy: (copy / "backup.json").unlink(), "no backup in"),
        (lambda copy: next(copy.rglob("envelopes.jsonl")).write_bytes(b"{}\n"), "envelopes.jsonl is damaged"),
        (lambda copy: next(copy.rglob("steps.jsonl")).unlink(), "cannot read .*steps.jsonl"),
        (lambda copy: (copy / "forgotten.jsonl").write_bytes(b"junk\n"), "what was forgotten would come back"),
    ],
)
def test_a_damaged_copy_is_refused_and_nothing_is_restored(
    store: Store, tmp_path: Path, spoil: object, words: str
) -> None:
    make_backup(store, tmp_path / "copy")
    spoil(tmp_path / "copy")  # type: ignore[operator]
    with Store(tmp_path / "again") as again:
        with pytest.raises(CopyError, match=words):
            restore(tmp_path / "copy", again)
        assert again.ids() == []


def test_a_damaged_envelope_is_left_out_and_told(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_backup(store, tmp_path / "copy")
    next((tmp_path / "copy").rglob(f"{crop(1).id}*")).write_bytes(b"rot")
    assert SCRIPT.main(["restore", str(tmp_path / "copy"), "--store", str(tmp_path / "again")]) == 1
    assert "DAMAGED in the backup, and left out: 1" in capsys.readouterr().out
    with Store(tmp_path / "again") as again:
        assert again.ids() == [one for one in store.ids() if one != crop(1).id]
        assert again.add_group([crop(1)]) == [AckState.STORED]


def test_paths_of_a_copy_do_not_lead_out_of_the_home(loop: Loop, tmp_path: Path) -> None:
    fill(loop.store)
    loop.worker().run()
    make_backup(loop.store, tmp_path / "copy", loop.home)
    path = tmp_path / "copy" / "backup.json"
    said = json.loads(path.read_bytes())
    said["files"]["../../evil"] = next(iter(said["files"].values()))
    path.write_text(json.dumps(said))
    with Store(tmp_path / "again") as again, pytest.raises(CopyError, match="outside of the home folder"):
        restore(tmp_path / "copy", again, tmp_path / "deep" / "home")
    assert not (tmp_path.parent / "evil").exists()
    assert not (tmp_path / "evil").exists()


def test_only_an_empty_store_is_filled(store: Store, tmp_path: Path) -> None:
    make_backup(store, tmp_path / "copy")
    with pytest.raises(CopyError, match="the store is not empty"):
        restore(tmp_path / "copy", store)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    with pytest.raises(CopyError, match="holds file, which is no part of a backup"):
        make_backup(store, tmp_path / "other")


def test_a_restore_that_is_killed_begins_again(store: Store, tmp_path: Path) -> None:
    make_backup(store, tmp_path / "copy")
    with Store(tmp_path / "again") as again:
        with (
            mock.patch("walt_train.loop.lineage.restore.put_rows", side_effect=KeyboardInterrupt),
            pytest.raises(KeyboardInterrupt),
        ):
            restore(tmp_path / "copy", again)
        assert again.ids() == []
        restore(tmp_path / "copy", again)
        assert again.ids() == store.ids()


def test_a_backup_that_is_killed_leaves_the_one_before(store: Store, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    make_backup(store, copy)
    before = store.ids()
    store.add_group([crop(50)])
    for place in ("write_rows", "_copy_blobs", "write_whole"):
        with (
            mock.patch(f"walt_train.loop.lineage.backup.{place}", side_effect=KeyboardInterrupt),
            pytest.raises(KeyboardInterrupt),
        ):
            make_backup(store, copy)
        with Store(tmp_path / place) as again:
            restore(copy, again)
            assert again.ids() == before
    make_backup(store, copy)
    assert len(list(copy.glob("rows-*"))) == 1


def test_what_is_wrong_is_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert SCRIPT.main(["restore", str(tmp_path), "--store", str(tmp_path / "new")]) == 1
    [told] = capsys.readouterr().err.strip().splitlines()
    assert "no backup in" in told
    assert issubclass(CopyError, WaltError)


def test_from_a_laptop_to_a_cluster_and_back(loop: Loop, database_url: str, tmp_path: Path) -> None:
    fill(loop.store)
    loop.worker().run()
    loop.store.delete([crop(0).id], "unwanted")
    make_backup(loop.store, tmp_path / "copy")
    with ExitStack() as stack:
        cluster = stack.enter_context(Store(StoreConfig(database_url, str(tmp_path / "blobs"))))
        restore(tmp_path / "copy", cluster)
        assert cluster.ids() == loop.store.ids()
        make_backup(cluster, tmp_path / "back")
        laptop = stack.enter_context(Store(tmp_path / "laptop"))
        restore(tmp_path / "back", laptop)
        assert rows(laptop) == rows(loop.store)
