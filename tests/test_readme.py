"""README's figures are those of the benchmarks' files, and the commands it shows exist."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from benchmarks.readme import BEGIN, END, RESULTS, figures, replaced
from tests.command_lines import SCRIPTS, check, lines_in
from tests.material import ROOT

README = (ROOT / "README.md").read_text()
_LINES = lines_in(README)


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
    assert {line.split()[0] for line, _ in _LINES} == set(SCRIPTS)


@pytest.mark.parametrize(("line", "is_complete"), _LINES)
def test_commands_in_the_readme_exist_and_take_their_options(line: str, is_complete: bool) -> None:
    check(line, is_complete)


def test_pictures_in_the_readme_exist() -> None:
    for path in re.findall(r"!\[[^]]*\]\(([^)]+)\)", README):
        assert (ROOT / path).is_file(), path
