"""The console: what is not built says so, errors are one line, interrupts end quietly."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from types import ModuleType

import pytest

from walt_edge.contract.console import Command, Script
from walt_edge.contract.errors import WaltError

COMMANDS = (
    Command("work", "does it", module="fake_command", extra="train", example="prog work --n 3"),
    Command("later", "will do it"),
    Command("heavy", "needs more", module="fake_missing_package_command", extra="train"),
)
SCRIPT = Script("prog", "A script.", COMMANDS, default="work")


@pytest.fixture(autouse=True)
def fake_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def add_arguments(parser: ArgumentParser) -> None:
        parser.add_argument("thing", nargs="?", default="")
        parser.add_argument("--n", type=int, default=0)

    def run(args: Namespace) -> int:
        if args.n < 0:
            raise WaltError("n is negative: give a positive one")
        if args.n == 99:
            raise KeyboardInterrupt
        return int(args.n)

    module = ModuleType("fake_command")
    vars(module).update(add_arguments=add_arguments, run=run)
    monkeypatch.setitem(sys.modules, "fake_command", module)
    (tmp_path / "fake_missing_package_command.py").write_text("import no_such_package\n")
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        ([], 0, "not built yet"),
        (["--help"], 0, "usage: prog COMMAND"),
        (["--version"], 0, ""),
        (["work", "--n", "3"], 3, ""),
        (["--n", "4"], 4, ""),
        (["later"], 2, "'later' is not built yet"),
        (["nonsense"], 2, "there are: work, later, heavy"),
        (["heavy"], 2, "pip install 'walt-amodal[train]'"),
        (["work", "--n", "-1"], 1, "prog: n is negative: give a positive one"),
        (["work", "--n", "99"], 130, ""),
    ],
)
def test_status_and_message(words: list[str], status: int, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert SCRIPT.main(words) == status
    out, err = capsys.readouterr()
    assert says in out + err
    assert "Traceback" not in out + err


def test_a_commands_help_shows_its_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        SCRIPT.main(["work", "--help"])
    assert stop.value.code == 0
    assert "prog work --n 3" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "status"),
    [(["model.pt", "--n", "3"], 3), (["--n", "4", "model.pt"], 4), (["work", "model.pt"], 0), (["later"], 2)],
)
def test_a_first_word_that_is_no_command_may_be_the_defaults(words: list[str], status: int) -> None:
    assert Script("prog", "A script.", COMMANDS, default="work", default_takes_word=True).main(words) == status


def test_help_of_many_commands_is_in_groups(capsys: pytest.CaptureFixture[str]) -> None:
    first, second = Command("a", "one", group="day by day"), Command("b", "two", group="at the start")
    assert Script("prog", "A script.", (first, second, Command("c", "three", group="day by day"))).main(["-h"]) == 0
    lines = [line.split()[0] for line in capsys.readouterr().out.splitlines()[4:-2] if line]
    assert lines == ["day", "a", "c", "at", "b"]
