from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest

from tests.clipart import some_things, write_scene
from walt_train.cli import SCRIPT


@pytest.fixture
def clipart(tmp_path: Path) -> Path:
    return write_scene(tmp_path / "clipart", some_things())


def compose(clipart: Path, out: Path, *more: str) -> int:
    return SCRIPT.main(["compose", "--clipart", str(clipart), "--count", "5", "--out", str(out), *more])


def content(folder: Path) -> str:
    return str(json.loads((folder / "annotations.json").read_text())["info"]["content_sha256"])


def test_same_seed_same_pixels_and_labels(clipart: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = {
        "a": ["--seed", "1"],
        "b": ["--seed", "1"],
        "c": ["--seed", "2"],
        "d": ["--seed", "1", "--order", "random"],
        "two workers": ["--seed", "1", "--workers", "2"],
        "e": ["--seed", "1", "--no-harmonise", "--no-by-confidence", "--objects", "1", "3", "--shadow", "0"],
    }
    for name, options in runs.items():
        assert compose(clipart, tmp_path / name, *options) == 0
    assert "5 composites in" in capsys.readouterr().out
    assert content(tmp_path / "a") == content(tmp_path / "b") == content(tmp_path / "two workers")
    assert (tmp_path / "a/data.json").is_file()
    assert len({content(tmp_path / name) for name in runs}) == 4
    assert len(list((tmp_path / "a/images").iterdir())) == 5
    assert cv2.imread(str(tmp_path / "a/preview.png")) is not None


@pytest.mark.parametrize(
    ("options", "told", "status"),
    [
        (["--count", "0"], "0 composites: give --count 1 or more", 2),
        (["--seed", "-1"], "seed -1 is out of range", 2),
        (["--objects", "3", "1"], "3 to 1 objects: give 1 or more, the fewer first", 2),
        (["--frame-chance", "7"], "frame_chance 7 is not between 0 and 1", 2),
        (["--crop-chance", "2"], "crop_chance 2 is not between 0 and 1", 2),
        (["--preview", "/nowhere/at/all.png"], "No such file or directory; give another --preview", 1),
    ],
)
def test_what_cannot_be_done_is_told(
    clipart: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], told: str, status: int
) -> None:
    assert compose(clipart, tmp_path / "out", *options) == status
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1


def test_empty_clip_art_names_the_remedy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compose(write_scene(tmp_path / "empty", []), tmp_path / "out") == 1
    assert "0 clips, none to train on: mine more with walt-edge mine --out" in capsys.readouterr().err
    assert compose(tmp_path / "nowhere", tmp_path / "out") == 1
    assert "no clipart.json" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
