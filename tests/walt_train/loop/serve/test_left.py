"""What a run leaves: manifest, sheet, bounded logs; and what is removed when it is not needed any more."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import cv2
import pytest

from tests.walt_train.loop.serve.loop import Loop, crop, fill, truth
from walt_train.loop.lineage.erase import erase
from walt_train.loop.lineage.thin import thin
from walt_train.loop.serve.folder import Folder
from walt_train.loop.serve.jobs import State, now_us
from walt_train.loop.serve.logs import KEPT_BYTES, shorten
from walt_train.loop.serve.manifest import read_manifest
from walt_train.loop.serve.tidy import tidy
from walt_train.loop.serve.worker import ServeError

DAY_US = 86_400_000_000


def made(loop: Loop) -> Folder:
    """The folder of a generation that was published."""
    loop.truths["cam-1"] = truth(loop.folder / "truth")
    fill(loop.store)
    loop.worker(seed=4).run()
    return Folder.of(loop.home, loop.generations[0])


def test_a_manifest_says_what_it_is_made_of(loop: Loop) -> None:
    folder = made(loop)
    manifest = read_manifest(folder.manifest)
    assert manifest is not None
    [generation] = loop.generations
    assert (manifest.seed, manifest.recipe, manifest.why) == (4, "demo", "no model yet (6 crops of 6 objects)")
    assert manifest.why == generation.why
    assert manifest.clipart_sha256 == generation.clipart_sha256
    assert {"walt-amodal", "python", "numpy"} <= manifest.versions.keys()
    titles = [command.title for command in manifest.commands]
    assert titles[:4] == ["mine", "composites", "train", "export"]
    for command in manifest.commands:
        assert (command.status, (folder.root / command.log).is_file()) == (0, True)
        assert command.ended_us is not None
        assert command.ended_us >= command.began_us
    [train] = [command for command in manifest.commands if command.title == "train"]
    assert train.words[train.words.index("--seed") + 1] == "4"


def test_a_sheet_of_composites_is_drawn_before_the_training(loop: Loop) -> None:
    folder = made(loop)
    assert folder.composites.read_bytes()[:3] == b"\xff\xd8\xff"
    assert cv2.imread(str(folder.composites)) is not None
    assert not list(folder.root.glob(".composites*"))


@pytest.mark.parametrize("wish", [{"fail": "compose"}, {"junk": "compose"}])
def test_a_generation_goes_on_without_its_sheet(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, wish: dict[str, str]
) -> None:
    monkeypatch.setenv("WALT_FAKE", str(loop.folder / "fake.json"))
    (loop.folder / "fake.json").write_text(json.dumps(wish))
    if "junk" in wish:
        monkeypatch.setattr(cv2, "imdecode", lambda *_: None)
    with caplog.at_level(logging.WARNING):
        folder = made(loop)
    assert "cam-1 generation 1: no sheet of composites: " in caplog.text
    assert not folder.composites.exists()
    assert not list(folder.root.glob(".composites*"))


def test_a_sheet_goes_with_any_crop_that_it_may_show(loop: Loop) -> None:
    folder = made(loop)
    erase(folder.root, [crop(1).id], pictures=False)
    assert not folder.composites.exists()


def test_an_old_sheet_goes_when_a_crop_that_it_may_show_has_expired(loop: Loop) -> None:
    first = made(loop)
    truth(loop.folder / "truth", {"motion": 40.0, "4 12": 70.0})
    fill(loop.store, numbers=range(10, 16))
    loop.worker(seed=4).run()
    assert [one.state for one in loop.generations] == [State.DONE] * 2
    jobs = loop.jobs("thin")
    thin(loop.store.engine, jobs, loop.home)
    assert first.composites.exists()
    loop.store.delete([crop(1).id], "expired")
    thin(loop.store.engine, jobs, loop.home)
    assert not first.composites.exists()


def test_a_log_keeps_how_it_began_and_how_it_ended(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"begin\n" + b"x" * 3 * KEPT_BYTES + b"\nend\n")
    with log.open("ab") as program:
        assert shorten(log)
        program.write(b"and more\n")
    data = log.read_bytes()
    assert data.startswith(b"begin\n")
    assert data.endswith(b"\nend\nand more\n")
    assert b" bytes are left out ..." in data
    assert len(data) < KEPT_BYTES + 100
    assert not shorten(log, 2 * KEPT_BYTES)
    assert not shorten(tmp_path / "nowhere")


def test_old_folders_are_rid_of_what_nobody_needs(loop: Loop) -> None:
    folder = made(loop)
    jobs = loop.jobs("tidy")
    assert tidy(jobs, loop.home, now_us()) == 1
    assert not folder.resume.exists()
    assert folder.logs.is_dir()
    assert tidy(jobs, loop.home, now_us()) == 0
    assert tidy(jobs, loop.home, now_us() + 31 * DAY_US) == 1
    assert not folder.logs.exists()
    kept = {path.relative_to(folder.root).as_posix() for path in folder.root.rglob("*.*")}
    assert {"bundle.walt", "verdict.json", "manifest.json", "composites.jpg", "clipart/clipart.json"} <= kept
    assert {"train/checkpoint.pt", "train/curves.json", "train/learned.json"} <= kept


def test_what_failed_last_may_be_gone_on_with(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WALT_FAKE", str(loop.folder / "fake.json"))
    (loop.folder / "fake.json").write_text(json.dumps({"fail": "walt-export"}))
    with pytest.raises(ServeError):
        made(loop)
    [generation] = loop.generations
    assert generation.state is State.FAILED
    tidy(loop.jobs("tidy"), loop.home, now_us())
    assert Folder.of(loop.home, generation).resume.is_dir()
