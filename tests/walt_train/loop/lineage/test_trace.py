"""What was made of what is written with each step, and read back both ways."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.walt_train.loop.serve.loop import CROPS, Loop, clipart_of, crop, fill, truth
from walt_edge.contract.bundle import Bundle
from walt_edge.contract.errors import WaltError
from walt_train.loop.cli import SCRIPT
from walt_train.loop.gate.holdout import read_holdout
from walt_train.loop.lineage import graph
from walt_train.loop.lineage.trace import Node, TraceError, as_json, lines, of_file, trace
from walt_train.loop.serve.folder import Folder


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store and a home with a released generation, to be copied."""
    folder = tmp_path_factory.mktemp("prepared")
    with Loop(folder, truths={"cam-1": truth(folder / "truth")}) as loop:
        fill(loop.store)
        fill(loop.store, numbers=range(20, 23), holdout=True)
        loop.worker().run()
    return folder


@pytest.fixture
def done(prepared: Path, tmp_path: Path) -> Iterator[Loop]:
    """A camera with one released generation."""
    folder = shutil.copytree(prepared, tmp_path / "loop")
    with Loop(folder, truths={"cam-1": folder / "truth"}) as loop:
        yield loop


def text(loop: Loop, asked: str, every: bool = False) -> str:
    with loop.store.engine.connect() as connection:
        return "\n".join(lines(trace(connection, asked, every=every)))


def kinds(node: Node) -> list[str]:
    """Kinds from a node to the last of what was made of it."""
    return [node.kind, *(kinds(node.made[-1]) if node.made else [])]


def test_a_crop_is_followed_to_the_devices_that_run_what_learned_from_it(done: Loop) -> None:
    ids = [clip.crop for clip in clipart_of(done).clips]
    assert sorted(ids) == sorted(crop(number).id for number in range(CROPS))
    with done.store.engine.connect() as connection:
        node = trace(connection, ids[0])
        judging = trace(connection, ids[-1][:12])
    assert kinds(node) == ["crop", "clipart", "manifest", "checkpoint", "bundle", "release"]
    assert node.made[0].line.endswith("it trains")
    assert judging.made[0].line.endswith("it judges")
    told = text(done, ids[0])
    assert "of cam-1, test/walt-test, 2023-11-14 22:13 UTC: stored" in told
    assert "test/walt-test was told to run it" in told
    assert "verdict " in told


def test_a_release_is_followed_to_every_crop(done: Loop) -> None:
    told = text(done, "1")
    assert "release 1: fake-1.walt" in told
    assert f"{CROPS - 2} train, cam-1 (2023-11-14: {CROPS - 2})" in told
    assert "2 choose the threshold, cam-1" in told
    assert "1 plates, cam-1" in told
    assert "clip art of cam-1 generation 1, generations/cam-1/1/clipart" in told
    held = read_holdout(done.folder / "truth")
    assert f", by truth {held.content_sha256[:12]}" in text(done, "cam-1/1")
    everything = text(done, "1", every=True)
    assert all(crop(number).id in everything for number in range(CROPS))
    assert not any(crop(number, holdout=True).id in everything for number in range(20, 23))


@pytest.mark.parametrize("kind", ["clipart", "manifest", "checkpoint", "bundle"])
def test_every_file_is_found_by_the_hash_of_its_bytes(done: Loop, kind: str) -> None:
    with done.store.engine.connect() as connection:
        keys = graph.descendants(connection, [key for key, _ in graph.frozen_in(connection, crop(0).id)])
        keys |= {key for key, _ in graph.frozen_in(connection, crop(0).id)}
        [found] = [one for key in keys if (one := graph.artifact(connection, key)) and one.kind == kind]
        node = trace(connection, found.id[:10])
    path = done.home / found.place
    assert path.exists()
    assert node.id == found.id
    run = text(done, "cam-1/1")
    assert run.startswith("cam-1 generation 1 of ")


def test_a_bundle_tells_of_itself_and_the_store_of_the_rest(done: Loop, tmp_path: Path) -> None:
    bundle = Folder.of(done.home, done.generations[0]).bundle
    alone = "\n".join(lines(of_file(bundle)))
    checkpoint = hashlib.sha256((bundle.parent / "train" / "checkpoint.pt").read_bytes()).hexdigest()
    assert f"checkpoint {checkpoint[:12]}: recipe demo, seed 1, 300 steps; unknown to this store" in alone
    assert "data 222222222222, as its manifest says" in alone
    assert f"{CROPS - 2} train" in text(done, str(bundle))
    with pytest.raises(WaltError, match="not a bundle"):
        of_file(_written(tmp_path / "x.walt", b"no"))
    by_hand = "\n".join(lines(of_file(Folder.of(done.home, done.generations[0]).train)))
    assert f"{CROPS - 2} train, cam-1 (not looked up: {CROPS - 2})" in by_hand


def _written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_a_step_that_is_done_again_writes_the_same_rows(done: Loop) -> None:
    before = _rows(done)
    [generation] = done.generations
    with done.store.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE generations SET state = 'running'")
        connection.exec_driver_sql("UPDATE steps SET state = 'pending'")
    done.worker().run()
    assert _rows(done) == before
    assert done.generations[0].clipart_sha256 == generation.clipart_sha256


def _rows(loop: Loop) -> list[list[tuple[object, ...]]]:
    tables = ("artifacts", "edges", "members")
    with loop.store.engine.connect() as connection:
        return [sorted(map(tuple, connection.exec_driver_sql(f"SELECT * FROM {name}").all())) for name in tables]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("ffffffff", "begins with ffffffff"),
        ("cam-1/9", "knows nothing of cam-1/9"),
        ("77", "knows nothing of release 77"),
        ("nonsense", "neither a file nor an id"),
        ("../../etc", "neither a file nor an id"),
        ("' OR 1=1 --", "neither a file nor an id"),
    ],
)
def test_what_is_unknown_is_told(done: Loop, asked: str, words: str) -> None:
    with pytest.raises(WaltError, match=words):
        text(done, asked)


def test_what_can_mean_several_names_them(done: Loop) -> None:
    ids = sorted(done.store.ids())
    with done.store.engine.begin() as connection:
        twin = ids[0][:10] + "0" * 54
        connection.exec_driver_sql(f"INSERT INTO tombstones VALUES ('{twin}', 1, 'twin')")
    with pytest.raises(TraceError, match=r"can mean 2 things \(.*give more digits"):
        text(done, ids[0][:10])
    assert ids[0][:12] in text(done, ids[0])


def test_the_command(done: Loop, capsys: pytest.CaptureFixture[str]) -> None:
    store = str(done.folder / "store")
    assert SCRIPT.main(["trace", "cam-1/1", "--store", store]) == 0
    assert "└─ release 1" in capsys.readouterr().out
    assert SCRIPT.main(["trace", "1", "--store", store, "--json", "--all"]) == 0
    node = msgspec.json.decode(capsys.readouterr().out.encode(), type=Node)
    assert (node.kind, node.devices[0].split()[0]) == ("release", "test/walt-test")
    bundle = Folder.of(done.home, done.generations[0]).bundle
    assert SCRIPT.main(["trace", str(bundle)]) == 0
    assert Bundle.read(bundle).sha256[:12] in capsys.readouterr().out
    assert json.loads(as_json(node))["id"] == "release:1"
