"""README's figures are those of the benchmarks' files, and the commands it shows exist."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from benchmarks.readme import BEGIN, END, RESULTS, figures, replaced
from tests.material import ROOT
from walt_edge.cli import SCRIPT as EDGE
from walt_edge.contract.console import Script
from walt_train.cli import SCRIPT as TRAIN
from walt_train.loop.cli import SCRIPT as LOOP

README = (ROOT / "README.md").read_text()
SCRIPTS: dict[str, Script] = {script.prog: script for script in (EDGE, TRAIN, LOOP)}


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


@pytest.mark.parametrize(
    "line", sorted(set(re.findall(r"(?:^|`)(walt-(?:edge|train|loop) [^`|#&\n]+)", README, re.M)))
)
def test_commands_in_the_readme_exist_and_take_their_options(line: str) -> None:
    words = shlex.split(line)
    commands = {command.name: command for command in SCRIPTS[words[0]].commands}
    assert words[1] in commands
    assert commands[words[1]].module, f"{words[1]} is not built yet"


def test_pictures_in_the_readme_exist() -> None:
    for path in re.findall(r"!\[[^]]*\]\(([^)]+)\)", README):
        assert (ROOT / path).is_file(), path
