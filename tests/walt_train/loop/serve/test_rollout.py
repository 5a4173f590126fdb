from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.bundles import FILES, manifest
from walt_edge.contract.bundle import write_bundle
from walt_edge.contract.messages import Desired
from walt_edge.contract.topics import DeviceTopics
from walt_train.loop.publish.repository import LIFE, Repository
from walt_train.loop.serve.rollout import Rollout

DEVICES = [DeviceTopics("home", "walt-1")]


class Told:
    """What devices were told."""

    def __init__(self) -> None:
        self.releases: list[int] = []

    def __call__(self, devices: Sequence[DeviceTopics], desired: Desired) -> None:
        self.releases.append(desired.release)


def bundle(folder: Path, name: str) -> Path:
    write_bundle(folder / f"{name}.walt", manifest(name), FILES | {"model.onnx": name.encode()})
    return folder / f"{name}.walt"


def test_the_same_bundle_is_one_release_whatever_came_after(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "served", tmp_path / "keys")
    told = Told()
    rollout = Rollout(repository, told)
    first = rollout.publish(bundle(tmp_path, "cam-1"), DEVICES)
    assert rollout.publish(bundle(tmp_path, "cam-2"), DEVICES).number == 2
    assert rollout.publish(bundle(tmp_path, "cam-1"), DEVICES) == first
    newest = repository.newest()
    assert newest is not None
    assert (newest.number, told.releases) == (2, [1, 2, 1])


def test_nobody_is_told_where_there_is_nobody(tmp_path: Path) -> None:
    told = Told()
    assert Rollout(Repository(tmp_path / "served", tmp_path / "keys"), told).publish(bundle(tmp_path, "a"), []).number
    assert told.releases == []


def test_the_root_is_there_before_the_first_release(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "served", tmp_path / "keys")
    root = repository.begin().read_bytes()
    assert repository.newest() is None
    repository.publish(bundle(tmp_path, "a"))
    assert repository.begin().read_bytes() == root


@pytest.mark.parametrize(("days", "is_signed_anew"), [(1, False), (14, False), (16, True)])
def test_the_repository_is_signed_anew_in_time(tmp_path: Path, days: int, is_signed_anew: bool) -> None:
    assert LIFE["timestamp"] == timedelta(days=30)
    began = datetime(2026, 1, 1, tzinfo=UTC)
    times = [began]
    repository = Repository(tmp_path / "served", tmp_path / "keys", now=lambda: times[-1])
    assert not repository.keep()
    repository.publish(bundle(tmp_path, "a"))
    timestamp = tmp_path / "served" / "metadata" / "timestamp.json"
    before = timestamp.read_bytes()
    times.append(began + timedelta(days=days))
    Rollout(repository, Told()).keep()
    assert (timestamp.read_bytes() != before) is is_signed_anew
