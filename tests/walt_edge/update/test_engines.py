"""Engines are built beside the model that looks, kept for this GPU alone, never in its way. TensorRT is a fake."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")
pytest.importorskip("walt_export")

from walt_export.tensorrt.make import prepare

import walt_edge.runtimes.tensorrt
from tests.bundles import manifest
from tests.detectors import SIZE_WH, golden, model, picture
from tests.fakes import tensorrt as fake
from tests.fakes.cuda import Library
from tests.fakes.engine_child import command
from tests.killing import kill_at_every_step
from tests.updates import FRAME, HASTY, Agent, Station, change_byte, running_station, wish_for
from tests.waiting import wait_for
from walt_edge.contract.bundle import MODEL, TENSORRT_MODEL, TENSORRT_RECIPE, BundleError, write_bundle
from walt_edge.contract.messages import Desired
from walt_edge.detector import Detector
from walt_edge.runtimes.cuda import Driver
from walt_edge.runtimes.tensorrt.machine import Machine
from walt_edge.runtimes.tensorrt.recipe import encode
from walt_edge.update.engines import EngineCache, EngineHead, Engines
from walt_edge.update.errors import CancelledError, NotNowError, RefusedError

HERE = Machine("10.13.0.35", "Fake GPU", (8, 7))


@pytest.fixture(autouse=True)
def fake_machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process has a TensorRT and a GPU, too."""
    library = Library()
    monkeypatch.setitem(sys.modules, "tensorrt", fake)
    monkeypatch.setattr(Driver, "open", lambda: Driver(library))
    forget_engine_module()
    yield
    forget_engine_module()


def forget_engine_module() -> None:
    sys.modules.pop("walt_edge.runtimes.tensorrt.engine", None)
    vars(walt_edge.runtimes.tensorrt).pop("engine", None)


def write_bundle_of(path: Path, name: str = "demo-1", *, pictures: int = 1, tensorrt: bool = True) -> Path:
    """A bundle with all that an engine is built of, or without."""
    described = msgspec.structs.replace(manifest(name), pictures=pictures)
    network = model(pictures=pictures)
    files = {MODEL: network, **golden("0", picture(0, 3), described, network)}
    if tensorrt:
        batch = (1, 1, 1) if pictures else (1, 1, 3)
        ready, recipe = prepare(network, precision="fp32", size_wh=SIZE_WH, batch=batch)
        files |= {TENSORRT_MODEL: ready, TENSORRT_RECIPE: encode(recipe)}
    write_bundle(path, described, files)
    return path


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle_of(tmp_path_factory.mktemp("bundle") / "m.walt")


@pytest.fixture
def engines(tmp_path: Path) -> Engines:
    """With nothing built."""
    return Engines(EngineCache(tmp_path / "engines"), timeout_s=120, command=command("well"))


@pytest.fixture(scope="module")
def built_once(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built") / "engines"
    Engines(EngineCache(folder), machine=lambda: HERE, timeout_s=120, command=command("well")).build(bundle, never)
    return folder


@pytest.fixture
def built(built_once: Path, engines: Engines, tmp_path: Path) -> Engines:
    """With the bundle's engine built."""
    shutil.copytree(built_once, tmp_path / "engines", dirs_exist_ok=True)
    return engines


def never() -> bool:
    return False


@pytest.mark.parametrize("pictures", [1, 0])
def test_an_engine_is_built_and_answers_as_the_model(tmp_path: Path, engines: Engines, pictures: int) -> None:
    path = write_bundle_of(tmp_path / "m.walt", pictures=pictures)
    assert engines.is_wanted(path)
    engines.build(path, never)
    assert engines.has(path)
    assert not engines.is_wanted(path)
    found, expected = engines.load(path), Detector.load(path, device="cpu")
    assert isinstance(found, Detector)
    assert found.providers == ("TensorRT 10.13.0.35",)
    found.check_golden()
    images = [picture(0, 3), picture(), picture(1, scale=2), picture(2), picture(0)]
    for one, other in zip(found.predict_many(images), expected.predict_many(images), strict=True):
        np.testing.assert_array_equal(one.boxes_xyxy, other.boxes_xyxy)
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-6)
    folder = tmp_path / "engines"
    assert sorted(path.suffix for path in folder.iterdir()) == [".cache", ".engine"]
    write_bundle_of(tmp_path / "other.walt", pictures=pictures, name="demo-2")
    assert engines.has(tmp_path / "other.walt"), "it is of the same graph"


@pytest.mark.parametrize(
    "machine",
    [
        Machine("10.14.0", "Fake GPU", (8, 7)),
        Machine("10.13.0.35", "Another GPU", (8, 7)),
        Machine("10.13.0.35", "Fake GPU", (8, 9)),
    ],
)
def test_another_tensorrt_or_gpu_wants_an_engine_of_its_own(bundle: Path, built: Engines, machine: Machine) -> None:
    elsewhere = replace(built, machine=lambda: machine)
    assert not elsewhere.has(bundle)
    assert elsewhere.is_wanted(bundle)
    with pytest.raises(BundleError, match="no engine of demo-1 is here"):
        elsewhere.load(bundle)
    assert built.has(bundle)


def test_a_bundle_without_a_graph_and_a_machine_without_a_gpu_want_none(
    tmp_path: Path, bundle: Path, engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not engines.is_wanted(write_bundle_of(tmp_path / "plain.walt", tensorrt=False))
    assert not engines.is_wanted(tmp_path / "absent.walt")
    monkeypatch.setattr(Driver, "open", lambda: Driver(Library(gpus=0)))
    assert not engines.is_wanted(bundle)
    assert not engines.has(bundle)


@pytest.mark.parametrize(
    "damage", [change_byte, lambda path: path.write_bytes(b""), lambda path: path.write_bytes(b"{}")]
)
def test_a_damaged_entry_is_dropped_and_built_again(
    bundle: Path, built: Engines, tmp_path: Path, damage: Callable[[Path], Any], caplog: pytest.LogCaptureFixture
) -> None:
    built.load(bundle).check_golden()
    (entry,) = (tmp_path / "engines").glob("*.engine")
    damage(entry)
    with pytest.raises(BundleError, match="no engine"):
        built.load(bundle)
    assert "is damaged and dropped" in caplog.text
    assert not entry.exists()
    assert built.is_wanted(bundle)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("fails", "TensorRT built no engine of"),
        ("aborts", r"it ended the process that tried it \(SIGABRT\)"),
        ("lies", r"golden/0\.png of demo-1 disagrees on this machine"),
    ],
)
def test_of_what_no_engine_can_be_built_none_is_tried_again(
    bundle: Path, engines: Engines, tmp_path: Path, how: str, words: str
) -> None:
    with pytest.raises(RefusedError, match=words):
        replace(engines, command=command(how)).build(bundle, never)
    again = Engines(EngineCache(tmp_path / "engines"))
    assert not again.has(bundle)
    assert not again.is_wanted(bundle)
    assert [path.suffix for path in (tmp_path / "engines").iterdir()] in ([".failed"], [".failed", ".cache"])
    assert replace(again, machine=lambda: Machine("10.14", "Fake GPU", (8, 7))).is_wanted(bundle)


def test_a_build_that_is_killed_in_the_middle_is_begun_anew(bundle: Path, engines: Engines, tmp_path: Path) -> None:
    with pytest.raises(NotNowError, match="was killed"):
        replace(engines, command=command("is-killed")).build(bundle, never)
    assert not list((tmp_path / "engines").iterdir())
    assert engines.is_wanted(bundle)
    engines.build(bundle, never)
    assert engines.has(bundle)


def test_a_build_gives_way_to_something_else(bundle: Path, engines: Engines, tmp_path: Path) -> None:
    building = tmp_path / "engines/building/model.onnx"
    with pytest.raises(CancelledError):
        replace(engines, command=command("hangs")).build(bundle, building.exists)
    assert engines.is_wanted(bundle)
    with pytest.raises(RefusedError, match="came to no end"):
        replace(engines, command=command("hangs"), timeout_s=0.5).build(bundle, never)


def test_the_least_lately_used_gives_way(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path, max_bytes=2500)
    heads = [engine_head(bytes(800), f"{number:064d}") for number in range(5)]
    for number, head in enumerate(heads[:3]):
        if number == 2:
            os.utime(tmp_path / f"{heads[1].key}.engine", (1, 1))
        cache.store(head, bytes(800))
    assert [cache.has(head.key) for head in heads[:3]] == [True, False, True]
    os.utime(tmp_path / f"{heads[0].key}.engine", (1, 1))
    assert cache.read(heads[0].key) == bytes(800), "it is used, so it stays"
    os.utime(tmp_path / f"{heads[2].key}.engine", (2, 2))
    cache.store(heads[3], bytes(800))
    assert [cache.has(head.key) for head in heads[:4]] == [True, False, False, True]
    large = engine_head(bytes(9000), heads[4].recipe_sha256)
    cache.store(large, bytes(9000))
    assert [cache.has(head.key) for head in heads[:4]] == [False] * 4
    assert cache.read(large.key) == bytes(9000)


def engine_head(plan: bytes, recipe_sha256: str) -> EngineHead:
    return EngineHead(HERE, recipe_sha256, hashlib.sha256(plan).hexdigest())


def test_killed_at_any_moment_an_entry_is_whole_or_none(tmp_path: Path) -> None:
    plan = b"an engine" * 1000
    head = engine_head(plan, "1" * 64)

    def prepare_store() -> Callable[[], object]:
        for path in tmp_path.iterdir():
            path.unlink()
        return lambda: EngineCache(tmp_path).store(head, plan)

    seen = set()
    for _ in kill_at_every_step(prepare_store):
        found = EngineCache(tmp_path).read(head.key)
        assert found in (None, plan)
        assert not list(tmp_path.glob(".*"))
        seen.add(found)
    assert seen == {None, plan}


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Station]:
    (tmp_path / "station").mkdir()
    with running_station(tmp_path / "station") as station:
        station.agent.settings = HASTY
        station.agent.load = lambda path: Detector.load(path, device="cpu")
        yield station


def publish(station: Station, name: str) -> Desired:
    return wish_for(station.home.publish(write_bundle_of(station.folder / "bundle.walt", name)))


def with_engine(station: Station, engines: Engines) -> Desired:
    """Has the agent take a release that it runs by an engine; returns that."""
    station.agent.engines = engines
    station.agent.restart()
    wish = publish(station, "street-1")
    station.agent.take(wish)
    wait_for(lambda: runs_by_engine(station.agent), 60)
    return wish


def runs_by_engine(agent: Agent) -> bool:
    agent.holder.exchange()
    agent.holder.look(FRAME)
    current = agent.holder.current
    return current is not None and current.is_engine


def test_the_model_looks_until_its_engine_takes_over(station: Station, engines: Engines) -> None:
    agent = station.agent
    agent.engines = engines
    agent.restart()
    wish = publish(station, "street-1")
    agent.take(wish)
    assert agent.holder.current is not None
    wait_for(lambda: runs_by_engine(agent), 60)
    wait_for(lambda: agent.updater.stats.engines == 1)
    assert agent.told[-1].state == "active"
    assert agent.slots.active == wish
    agent.engines = replace(engines, command=("false",))
    agent.restart()
    assert runs_by_engine(agent), "from the first frame on"
    agent.take(publish(station, "street-2"))
    wait_for(lambda: runs_by_engine(agent), 60)
    assert agent.holder.release == agent.slots.active.release if agent.slots.active else 0


def test_a_build_that_fails_is_told_and_the_model_goes_on(station: Station, engines: Engines) -> None:
    agent = station.agent
    agent.engines = replace(engines, command=command("fails"))
    agent.restart()
    wish = publish(station, "street-1")
    agent.updater.desire(wish)
    told = agent.wait_for("active", wish.release, "no engine: TensorRT built no engine of")
    assert told.release == wish.release
    assert not runs_by_engine(agent)
    assert agent.holder.release == wish.release
    assert agent.updater.stats.engines_failed == 1


def test_an_engine_that_fails_on_the_camera_gives_way_to_the_model(
    station: Station, built: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = station.agent
    wish = with_engine(station, built)
    monkeypatch.setattr(fake.IExecutionContext, "execute_async_v3", lambda *_: False)
    told = agent.wait_for("active", wish.release, "no engine: put down after 20 frames in a row: it fails: TensorRT")
    assert told.release == wish.release
    wait_for(lambda: agent.holder.exchange() or agent.holder.release == wish.release)  # type: ignore[func-returns-value]
    assert not runs_by_engine(agent)
    assert agent.slots.active == wish
    agent.restart()
    assert not runs_by_engine(agent)


def test_a_damaged_engine_at_the_start_gives_way_to_the_model(
    station: Station, built: Engines, tmp_path: Path
) -> None:
    agent = station.agent
    wish = with_engine(station, built)
    agent.updater.stop()
    (entry,) = (tmp_path / "engines").glob("*.engine")
    change_byte(entry)
    agent.begin()
    assert not runs_by_engine(agent)
    assert agent.holder.release == wish.release
    wait_for(lambda: runs_by_engine(agent), 60)


def test_a_gpu_that_is_full_for_now_costs_no_engine(
    station: Station, built: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = station.agent
    wish = with_engine(station, built)
    library = Library()
    library.most_bytes = 0
    with monkeypatch.context() as full:
        full.setattr(Driver, "open", lambda: Driver(library))
        agent.restart()
        assert not runs_by_engine(agent)
        assert agent.holder.release == wish.release
    agent.restart()
    assert runs_by_engine(agent)
