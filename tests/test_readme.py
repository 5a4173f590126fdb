"""README's figures are those of the benchmarks' files, and the commands it shows exist."""

from __future__ import annotations

import argparse
import importlib
import json
import re
import shlex
from pathlib import Path

import pytest
from walt_export.cli import SCRIPT as EXPORT

from benchmarks.readme import BEGIN, END, RESULTS, figures, replaced
from tests.material import ROOT
from walt_edge.cli import SCRIPT as EDGE
from walt_edge.contract.console import Script
from walt_train.cli import SCRIPT as TRAIN
from walt_train.loop.cli import SCRIPT as LOOP

README = (ROOT / "README.md").read_text()
SCRIPTS: dict[str, Script] = {script.prog: script for script in (EDGE, TRAIN, LOOP, EXPORT)}
_LINES = re.findall(r"(?:^|`)(walt-(?:edge|train|loop|export) [^`|#&\n]+)", README.replace("\\\n", " "), re.M)


def test_the_figures_are_those_of_the_files() -> None:
    assert replaced(README, figures(RESULTS)) == README, "run python -m benchmarks.readme"


def test_every_row_of_a_file_stands_in_the_table(tmp_path: Path) -> None:
    rows = [
        {"what": "speed", "value": 1234.5, "unit": "1/s", "target": 500, "better": "higher"},
        {"what": "lost", "value": 0.0, "unit": "crops", "target": None, "better": "lower"},
    ]
    machine = {"cpu": "Testor", "cores": 2}
    (tmp_path / "toy.json").write_text(json.dumps({"rows": rows, "machine": machine}))
    table = figures(tmp_path)
    assert "| toy | speed | 1,234 1/s | at least 500 1/s |" in table
    assert "| toy | lost | 0 crops |  |" in table
    assert "cpu Testor, cores 2" in table
    assert replaced(f"a{BEGIN}old{END}z", "new") == f"a{BEGIN}\nnew\n{END}z"


def test_the_readme_shows_every_script() -> None:
    assert {line.split()[0] for line in _LINES} == set(SCRIPTS)


@pytest.mark.parametrize("line", sorted(set(_LINES)))
def test_commands_in_the_readme_exist_and_take_their_options(line: str) -> None:
    prog, *words = shlex.split(line)
    script = SCRIPTS[prog]
    commands = {command.name: command for command in script.commands}
    if words[0] not in commands:
        words.insert(0, script.default)
    assert words[0] in commands
    assert commands[words[0]].module, f"{words[0]} is not built yet"
    parser = argparse.ArgumentParser(exit_on_error=False)
    importlib.import_module(commands[words[0]].module).add_arguments(parser)
    parser.parse_args(words[1:])


def test_pictures_in_the_readme_exist() -> None:
    for path in re.findall(r"!\[[^]]*\]\(([^)]+)\)", README):
        assert (ROOT / path).is_file(), path
