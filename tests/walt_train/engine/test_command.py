import os
from pathlib import Path

import pytest
import torch

from walt_train.cli import SCRIPT
from walt_train.commands import fit as command
from walt_train.engine.launch import Machines, count_gpus
from walt_train.engine.plan import Fit

NOTHING = ["--gpus", "0", "--data", "nowhere", "--out", "out"]


@pytest.fixture(autouse=True)
def _empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WALT_HOME", raising=False)
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.setenv(name, os.environ.get(name, ""))


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--gpus", "0"], 2, "no data set under walt"),
        (["--gpus", "99"], 2, "99 GPUs asked for, this machine has"),
        (["--gpus", "-1"], 2, "-1 GPUs asked for"),
        ([*NOTHING, "--recipe", "huge"], 2, "there are demo"),
        ([*NOTHING, "--steps", "0"], 2, "at least 1"),
        ([*NOTHING, "--seed", "-3"], 2, "seed -3: give 0 to"),
        ([*NOTHING, "--seed", str(2**64)], 2, "give 0 to 18446744073709551615"),
        (NOTHING, 1, "nowhere"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert SCRIPT.main(arguments) == status
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not Path("out/resume").exists()


_DATA_SETS = (
    "a/clipart.json",
    "b/annotations.json",
    "c/clipart.json",
    "c/epoch-1/clipart.json",
    "c/sources/x/clipart.json",
)
"""The last two are parts of the one before."""


def test_the_newest_data_set_is_taken_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[Fit, int]] = []

    def remember(fit: Fit, *, processes: int, machines: Machines) -> Path:
        asked.append((fit, processes))
        return Path("x.pt")

    monkeypatch.setattr(command, "launch", remember)
    monkeypatch.setenv("WALT_HOME", str(tmp_path / "home"))
    for place, name in enumerate(_DATA_SETS):
        file = tmp_path / "home" / name
        file.parent.mkdir(parents=True)
        file.touch()
        os.utime(file, (0, [5, 9, 7, 11, 12][place]))

    assert SCRIPT.main(["--gpus", "0", "--steps", "12"]) == 0
    fit, processes = asked[0]
    assert (fit.data[0].name, processes, fit.gpu) == ("b", 0, False)
    assert fit.recipe.training.steps == 12
    assert f"training on {fit.named} into {fit.out}" in capsys.readouterr().out


def test_gpus_default_to_all_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert [count_gpus(None), count_gpus(2), count_gpus(3)] == [3, 2, 3]
    assert count_gpus(0) == 0
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
