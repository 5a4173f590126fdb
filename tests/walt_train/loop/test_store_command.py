from __future__ import annotations

from pathlib import Path

import pytest

from tests.walt_train.loop import scene
from walt_edge.contract.clipart import read_clipart
from walt_train.loop.cli import SCRIPT
from walt_train.loop.store import Store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with Store(tmp_path / "store") as store:
        scene.fill_store(store, [scene.plate(), scene.crop(scene.CAR, 1), scene.crop(scene.WALKER, 2)])
    return tmp_path / "store"


def test_it_says_what_is_held(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert SCRIPT.main(["store", "--store", str(folder), "--collect"]) == 0
    said = capsys.readouterr().out
    assert "removed 0 files" in said
    assert "2 crops, 1 plates, 0 frames" in said
    assert "camera cam-1: 2 crops, 1 plates, 0 frames" in said


def test_it_exports_the_only_camera(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert SCRIPT.main(["store", "--store", str(folder), "--export", str(tmp_path / "clipart")]) == 0
    assert "2 clips and 1 plates of camera cam-1" in capsys.readouterr().out
    assert len(read_clipart(tmp_path / "clipart").clips) == 2


def test_no_store_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert SCRIPT.main(["store", "--store", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"walt-loop: no store in {tmp_path}: walt-loop ingest makes one\n"
    assert not list(tmp_path.iterdir())


def test_an_empty_store_has_no_camera_to_export(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Store(tmp_path).close()
    assert SCRIPT.main(["store", "--store", str(tmp_path), "--export", str(tmp_path / "clipart")]) == 2
    assert "one of: none stored yet" in capsys.readouterr().err
