from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from tests.bundles import FILES, manifest
from walt_edge.contract.bundle import write_bundle
from walt_edge.contract.messages import Desired
from walt_edge.contract.topics import DeviceTopics
from walt_train.loop.publish.repository import LIFE, Repository
from walt_train.loop.rollout.engine import RolloutEngine
from walt_train.loop.rollout.model import State
from walt_train.loop.rollout.rollouts import Rollouts
from walt_train.loop.serve.jobs import Generation
from walt_train.loop.serve.rollout import Publishing
from walt_train.loop.store.store import Store

DEVICES = [DeviceTopics("home", "walt-1")]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store") as store:
        yield store


class Told:
    """What devices were told."""

    def __init__(self, store: Store, repository: Repository) -> None:
        self.releases: list[int] = []
        engine = RolloutEngine(store.engine, repository, self, owner="test")
        self.publishing = Publishing(repository, engine)

    def __call__(self, devices: Sequence[DeviceTopics], desired: Desired) -> None:
        self.releases.append(desired.release)


def generation(camera: str, number: int = 1) -> Generation:
    words = {"recipe": "demo", "reason": "", "clipart_sha256": "", "owner": "", "steps": []}
    counts = dict.fromkeys(("seed", "created_us", "crops", "tracks", "until_us", "due_us"), 0)
    row = {"camera": camera, "number": number, "state": "running", "training_steps": None, "ended_us": None}
    return msgspec.convert(row | words | counts, Generation)


def bundle(folder: Path, name: str) -> Path:
    write_bundle(folder / f"{name}.walt", manifest(name), FILES | {"model.onnx": name.encode()})
    return folder / f"{name}.walt"


def test_the_same_bundle_is_one_release_and_one_rollout_whatever_came_after(store: Store, tmp_path: Path) -> None:
    repository = Repository(tmp_path / "served", tmp_path / "keys")
    told = Told(store, repository)
    publish = told.publishing.publish
    first = publish(bundle(tmp_path, "cam-1"), DEVICES, generation("cam-1"))
    assert publish(bundle(tmp_path, "cam-2"), [DeviceTopics("home", "walt-2")], generation("cam-2")).number == 2
    assert publish(bundle(tmp_path, "cam-1"), DEVICES, generation("cam-1")) == first
    newest = repository.newest()
    assert newest is not None
    assert (newest.number, newest.roles, told.releases) == (2, frozenset({"canary"}), [1, 2])
    found = Rollouts(store.engine).all()
    assert [(one.release, one.camera, one.generation) for one in found] == [(2, "cam-2", 1), (1, "cam-1", 1)]


def test_the_next_generation_need_not_wait_for_the_one_that_it_beat(store: Store, tmp_path: Path) -> None:
    told = Told(store, Repository(tmp_path / "served", tmp_path / "keys"))
    for number in (1, 2):
        told.publishing.publish(bundle(tmp_path, f"cam-{number}"), DEVICES, generation("cam", number))
    assert told.releases == [1, 2]
    assert [one.state for one in Rollouts(store.engine).all()] == [State.RUNNING, State.SUPERSEDED]


def test_nobody_is_told_where_there_is_nobody(store: Store, tmp_path: Path) -> None:
    told = Told(store, Repository(tmp_path / "served", tmp_path / "keys"))
    assert told.publishing.publish(bundle(tmp_path, "a"), [], generation("cam-1")).roles == {"stable"}
    assert (told.releases, Rollouts(store.engine).all()) == ([], [])


def test_the_root_is_there_before_the_first_release(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "served", tmp_path / "keys")
    root = repository.begin().read_bytes()
    assert repository.newest() is None
    repository.publish(bundle(tmp_path, "a"))
    assert repository.begin().read_bytes() == root


@pytest.mark.parametrize(("days", "is_signed_anew"), [(1, False), (14, False), (16, True)])
def test_the_repository_is_signed_anew_in_time(store: Store, tmp_path: Path, days: int, is_signed_anew: bool) -> None:
    assert LIFE["timestamp"] == timedelta(days=30)
    began = datetime(2026, 1, 1, tzinfo=UTC)
    times = [began]
    repository = Repository(tmp_path / "served", tmp_path / "keys", now=lambda: times[-1])
    assert not repository.keep()
    repository.publish(bundle(tmp_path, "a"))
    timestamp = tmp_path / "served" / "metadata" / "timestamp.json"
    before = timestamp.read_bytes()
    times.append(began + timedelta(days=days))
    Told(store, repository).publishing.keep()
    assert (timestamp.read_bytes() != before) is is_signed_anew
