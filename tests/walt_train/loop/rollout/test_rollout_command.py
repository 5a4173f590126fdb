from __future__ import annotations

from pathlib import Path

import pytest

from tests.bundles import FILES, manifest
from walt_edge.contract.bundle import write_bundle
from walt_train.loop.cli import SCRIPT
from walt_train.loop.publish.repository import Repository
from walt_train.loop.store.store import Store


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    write_bundle(tmp_path / "street.walt", manifest("street"), FILES)
    return tmp_path / "street.walt"


class Shell:
    """Runs the command in one home."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._where = ["--store", str(folder / "store")]
        self.home = folder / "home"
        self._capsys = capsys
        Store(folder / "store").close()

    def run(self, *words: str, status: int = 0) -> str:
        assert SCRIPT.main(["rollout", *words, *self._where]) == status
        came = self._capsys.readouterr()
        return came.out + came.err


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(tmp_path, capsys)


def test_a_person_begins_looks_and_decides(shell: Shell, bundle: Path) -> None:
    devices = [word for number in range(4) for word in ("--device", f"yard/walt-{number}")]
    begun = shell.run("start", str(bundle), *devices, "--canary", "2", "--home", str(shell.home))
    assert "1  release 1 (street)  waiting, canary" in begun
    assert Repository(shell.home / "repository", shell.home / "keys").releases("stable") == []
    assert "canary        2 devices, 0 told" in shell.run("show", "1")
    assert "paused, canary: paused by" in shell.run("pause", "1", "--reason", "a holiday")
    assert "waiting" in shell.run("resume", "1")
    assert "rolling-back, canary: aborted by" in shell.run("abort", "1", "--reason", "odd")
    assert "1  release 1 (street)  rolling-back" in shell.run()
    assert "a holiday" in shell.run("show", "1")


def test_without_any_it_says_how_one_begins(shell: Shell) -> None:
    assert "no rollout yet: walt-loop rollout start BUNDLE --all begins one" in shell.run("list")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("show",), "the others the ID of a rollout"),
        (("show", "x"), "'x' is no rollout's ID"),
        (("show", "7"), "no rollout 7: walt-loop rollout list names those that there are"),
        (("abort", "1"), "abort takes the release back from devices: give --reason"),
        (("start", "a.walt", "--all"), "give --home"),
        (("start", "a.walt", "--home", "h"), "name devices by --device SITE/DEVICE, or all of them by --all"),
        (("start", "a.walt", "--home", "h", "--all"), "has heard no device yet"),
        (("run",), "give --home, and --broker or --workers"),
    ],
)
def test_what_is_missing_is_said_in_one_line(shell: Shell, words: tuple[str, ...], line: str) -> None:
    assert line in shell.run(*words, status=2 if "7" not in words else 1)
