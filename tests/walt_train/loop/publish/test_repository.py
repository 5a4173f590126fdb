"""The repository: what is published can be trusted by the reference client, whatever is killed, full or wrong."""

from __future__ import annotations

import multiprocessing
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata, Snapshot, Timestamp

from tests.bundles import FILES, manifest
from tests.killing import flushed, kill_at_every_step
from walt_edge.contract.bundle import BundleError, write_bundle
from walt_edge.contract.errors import WaltError
from walt_train.loop.publish.files import BusyError, held
from walt_train.loop.publish.keys import KeysError
from walt_train.loop.publish.repository import PublishError, Release, Repository
from walt_train.loop.publish.roles import LISTS, ROLES


def bundle(folder: Path, number: int) -> Path:
    path = folder / f"bundle-{number}.walt"
    write_bundle(path, manifest(f"street-{number}"), FILES | {"model.onnx": b"%d" % number})
    return path


def repository(folder: Path, **more: object) -> Repository:
    return Repository(folder / "served", folder / "keys", **more)  # type: ignore[arg-type]


def versions(folder: Path) -> dict[str, int]:
    """What a reader sees: the timestamp, and what it names."""
    metadata = folder / "served" / "metadata"
    timestamp = Metadata[Timestamp].from_file(str(metadata / "timestamp.json")).signed
    number = timestamp.snapshot_meta.version
    snapshot = Metadata[Snapshot].from_file(str(metadata / f"{number}.snapshot.json")).signed
    lists = {role: snapshot.meta[f"{role}.json"].version for role in LISTS}
    root = max(int(path.name.partition(".")[0]) for path in metadata.glob("*.root.json"))
    return {"root": root, "snapshot": snapshot.version, "timestamp": timestamp.version} | lists


def test_numbers_rise_and_the_newest_again_keeps_its_number(tmp_path: Path) -> None:
    home = repository(tmp_path)
    assert home.newest() is None
    first, second = bundle(tmp_path, 1), bundle(tmp_path, 2)
    one = home.publish(first)
    assert (one.number, one.target) == (1, "street-1-1.walt")
    assert home.publish(first) == one
    assert versions(tmp_path)["timestamp"] == 1
    two = home.publish(second)
    assert (two.number, two.target) == (2, "street-2-2.walt")
    assert repository(tmp_path).newest() == two
    undone = home.publish(first)
    assert undone == Release(3, "street-1-3.walt", one.sha256)
    served = {path.name for path in (tmp_path / "served/targets").iterdir()}
    assert served == {f"{one_.sha256}.{one_.target}" for one_ in (one, two, undone)}


def test_private_keys_are_their_owners_alone_and_never_served(tmp_path: Path) -> None:
    repository(tmp_path).publish(bundle(tmp_path, 1))
    keys = sorted((tmp_path / "keys").iterdir())
    assert [path.name for path in keys] == sorted(f"{role}.pem" for role in ROLES)
    assert {path.stat().st_mode & 0o777 for path in keys} == {0o600}
    for path in (tmp_path / "served").rglob("*"):
        assert path.is_dir() or b"PRIVATE" not in path.read_bytes()
    with pytest.raises(KeysError, match="would be served"):
        Repository(tmp_path / "served", tmp_path / "served/keys")


def test_keys_are_on_the_disk_before_a_root_names_them(tmp_path: Path) -> None:
    with flushed() as paths:
        repository(tmp_path).begin()
    assert paths.index(str(tmp_path / "keys")) < paths.index(str(tmp_path / "served/metadata"))
    assert paths.count(str(tmp_path / "keys")) == len(ROLES)


def test_lives_are_as_promised_and_refreshing_renews_them(tmp_path: Path) -> None:
    def days(name: str, now: datetime) -> float:
        signed = Metadata.from_file(str(tmp_path / "served/metadata" / name)).signed
        return (signed.expires - now) / timedelta(days=1)

    start = datetime.now(UTC).replace(microsecond=0)
    repository(tmp_path, now=lambda: start).publish(bundle(tmp_path, 1))
    names = (
        "{}.root.json",
        "{}.targets.json",
        "{}.stable.json",
        "{}.canary.json",
        "{}.snapshot.json",
        "timestamp.json",
    )
    assert [days(name.format(1), start) for name in names] == [730, 730, 90, 90, 30, 30]
    later = start + timedelta(days=400)
    repository(tmp_path, now=lambda: later).refresh()
    assert set(versions(tmp_path).values()) == {2}
    assert [days(name.format(2), later) for name in names] == [730, 730, 90, 90, 30, 30]
    served = tmp_path / "served"
    assert (served / "root.json").read_bytes() == (served / "metadata/2.root.json").read_bytes()


def test_publishing_the_newest_again_renews_it_when_half_its_life_is_over(tmp_path: Path) -> None:
    start = datetime.now(UTC)
    one = repository(tmp_path, now=lambda: start).publish(bundle(tmp_path, 1))
    assert repository(tmp_path, now=lambda: start + timedelta(days=14)).publish(bundle(tmp_path, 1)) == one
    assert versions(tmp_path)["timestamp"] == 1
    assert repository(tmp_path, now=lambda: start + timedelta(days=16)).publish(bundle(tmp_path, 1)) == one
    assert versions(tmp_path)["timestamp"] == 2


def test_killed_at_any_moment_it_is_whole_and_goes_on(tmp_path: Path) -> None:
    start = tmp_path / "start"
    start.mkdir()
    first, second = bundle(tmp_path, 1), bundle(tmp_path, 2)
    one = repository(start).publish(first)
    work = tmp_path / "work"

    def prepare() -> Callable[[], object]:
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(start, work)
        return lambda: repository(work).publish(second)

    seen = []
    for step in kill_at_every_step(prepare):
        newest = repository(work).newest()
        assert newest is not None, step
        seen.append(newest.number)
        assert (work / "served/targets" / f"{newest.sha256}.{newest.target}").exists()
        assert repository(work).publish(second).number == 2
        assert not list(work.rglob("*.partial"))
        assert versions(work)["timestamp"] == 2
    assert one.number == 1
    assert seen == sorted(seen)
    assert set(seen) == {1, 2}


def test_killed_at_any_moment_of_its_beginning_it_begins_again(tmp_path: Path) -> None:
    first = bundle(tmp_path, 1)
    work = tmp_path / "work"

    def prepare() -> Callable[[], object]:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        return lambda: repository(work).publish(first)

    steps = 0
    for _ in kill_at_every_step(prepare):
        steps += 1
        assert repository(work).publish(first).number == 1
        assert set(versions(work).values()) == {1}
    assert steps > 20


def test_one_publisher_at_a_time(tmp_path: Path) -> None:
    home = repository(tmp_path)
    home.publish(bundle(tmp_path, 1))
    with held(tmp_path / "served/.lock", "it"), pytest.raises(BusyError, match="another process"):
        home.publish(bundle(tmp_path, 2))


def test_many_publishers_give_no_number_twice(tmp_path: Path) -> None:
    repository(tmp_path).publish(bundle(tmp_path, 0))
    paths = [bundle(tmp_path, number) for number in range(1, 7)]
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        numbers = pool.starmap(persistently, [(tmp_path, path) for path in paths])
    assert sorted(numbers) == [2, 3, 4, 5, 6, 7]


def persistently(folder: Path, path: Path) -> int:
    while True:
        try:
            return repository(folder).publish(path).number
        except BusyError:
            continue


@pytest.mark.parametrize(
    ("wrong", "error", "line"),
    [
        (lambda folder: (folder / "bundle-2.walt").write_bytes(b"PK"), BundleError, "not a bundle"),
        (lambda folder: (folder / "bundle-2.walt").unlink(), BundleError, "cannot read"),
        (lambda folder: (folder / "keys/stable.pem").unlink(), KeysError, "key of stable is not in"),
        (lambda folder: (folder / "keys/root.pem").chmod(0o644), KeysError, "chmod 600"),
        (lambda folder: (folder / "keys/root.pem").write_bytes(b"x"), KeysError, "no unencrypted PEM key"),
        (
            lambda folder: shutil.copy(folder / "keys/root.pem", folder / "keys/targets.pem"),
            KeysError,
            "is not the key that the repository names",
        ),
        (lambda folder: change(folder / "served/metadata/1.targets.json"), PublishError, "missing or damaged"),
        (lambda folder: change(folder / "served/metadata/timestamp.json"), PublishError, "missing or damaged"),
        (lambda folder: (folder / "served/metadata/1.snapshot.json").unlink(), PublishError, "missing or damaged"),
        (lambda folder: os.truncate(folder / "served/metadata/1.root.json", 9), PublishError, "missing or damaged"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(
    tmp_path: Path, wrong: Callable[[Path], object], error: type[WaltError], line: str
) -> None:
    one = repository(tmp_path).publish(bundle(tmp_path, 1))
    path = bundle(tmp_path, 2)
    wrong(tmp_path)
    with pytest.raises(error, match=line) as raised:
        repository(tmp_path).publish(path)
    assert "\n" not in str(raised.value)
    assert one.number == 1


def change(path: Path) -> None:
    """Changes one byte of what is signed."""
    data = path.read_bytes()
    at = data.index(b'"version"') + 10
    path.write_bytes(data[:at] + b"7" + data[at + 1 :])


def test_there_is_nothing_to_refresh_before_the_first_release(tmp_path: Path) -> None:
    with pytest.raises(PublishError, match="no release"):
        repository(tmp_path).refresh()


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "served").write_bytes(b"")
    with pytest.raises(PublishError, match="cannot write in"):
        repository(tmp_path).publish(bundle(tmp_path, 1))


def test_a_release_is_taken_back_but_never_the_newest(tmp_path: Path) -> None:
    home = repository(tmp_path)
    assert home.remove(["0" * 64]) == []
    made = [home.publish(bundle(tmp_path, number)) for number in (1, 2, 3)]
    (tmp_path / "served/targets" / f"{'0' * 64}.left-by-a-kill.walt").touch()
    assert home.remove([made[0].sha256, made[2].sha256, "0" * 64]) == [1]
    assert [path.name for path in sorted((tmp_path / "served/targets").iterdir())] == sorted(
        f"{one.sha256}.{one.target}" for one in made[1:]
    )
    assert home.find(made[0].sha256) is None
    assert home.publish(bundle(tmp_path, 1)).number == 4


def test_a_restored_repository_goes_on_above_what_devices_may_know(tmp_path: Path) -> None:
    home = repository(tmp_path)
    first = home.publish(bundle(tmp_path, 1))
    shutil.copytree(tmp_path / "served", tmp_path / "copy")
    seen = home.publish(bundle(tmp_path, 2))
    before = versions(tmp_path)
    shutil.rmtree(tmp_path / "served")
    shutil.copytree(tmp_path / "copy", tmp_path / "served")
    (tmp_path / "served/.restored").touch()
    assert home.newest() == first
    again = home.publish(bundle(tmp_path, 1))
    assert again.number > seen.number
    assert all(versions(tmp_path)[role] > before[role] for role in (*LISTS, "timestamp", "snapshot"))
    assert home.publish(bundle(tmp_path, 3)).number == again.number + 1
    (tmp_path / "served/.restored").touch()
    assert home.keep()
    assert not home.keep()


def test_metadata_that_nobody_reads_any_more_goes_and_every_root_stays(tmp_path: Path) -> None:
    home = repository(tmp_path)
    home.publish(bundle(tmp_path, 1))
    for _ in range(25):
        home.refresh()
    left = [path.name for path in (tmp_path / "served/metadata").iterdir()]
    assert "1.root.json" in left
    for role in (*LISTS, "snapshot"):
        assert sorted(int(name.split(".")[0]) for name in left if name.endswith(f"{role}.json")) == list(range(7, 27))
    assert home.newest() is not None
