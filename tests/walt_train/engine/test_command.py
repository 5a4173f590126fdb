import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.walt_train.engine import shapes
from tests.walt_train.engine.shapes import tiny_recipe
from walt_train.cli import SCRIPT
from walt_train.commands import fit as command
from walt_train.engine.checkpoint import load_model
from walt_train.engine.launch import count_gpus, launch
from walt_train.engine.plan import Fit, FitError

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


def test_the_newest_data_set_is_taken_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[Fit, int]] = []

    def remember(fit: Fit, *, processes: int) -> Path:
        asked.append((fit, processes))
        return Path("x.pt")

    monkeypatch.setattr(command, "launch", remember)
    monkeypatch.setenv("WALT_HOME", str(tmp_path / "home"))
    for place, name in enumerate(("a/clipart.json", "b/annotations.json", "c/clipart.json")):
        file = tmp_path / "home" / name
        file.parent.mkdir(parents=True)
        file.touch()
        os.utime(file, (0, [5, 9, 7][place]))

    assert SCRIPT.main(["--gpus", "0", "--steps", "12"]) == 0
    fit, processes = asked[0]
    assert (fit.data.name, processes, fit.gpu) == ("b", 0, False)
    assert fit.recipe.training.steps == 12
    assert f"training on {fit.data} into {fit.out}" in capsys.readouterr().out


def test_gpus_default_to_all_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert [count_gpus(None), count_gpus(2), count_gpus(3)] == [3, 2, 3]
    assert count_gpus(0) == 0
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""


@pytest.mark.slow
def test_two_processes_train_one_network(tmp_path: Path) -> None:
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run(
        [*run, "-m", shapes.__name__, str(tmp_path / "out"), "0"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    _, manifest = load_model(tmp_path / "out")
    assert manifest.processes == 2


@pytest.mark.slow
def test_what_torchruns_processes_refuse_is_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(FitError, match="ended with 1"):
        launch(Fit(tmp_path / "nowhere", tiny_recipe(), 0, tmp_path / "out"), processes=1)
    assert "nowhere has neither" in capfd.readouterr().err
