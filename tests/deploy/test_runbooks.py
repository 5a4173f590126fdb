"""Runbooks: each tells the same five things, every command in them exists, and what they name is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.command_lines import check, lines_in
from tests.deploy.test_prometheus import RULES
from tests.deploy.test_systemd import FOLDER as UNITS
from tests.material import ROOT

FOLDER = ROOT / "docs" / "runbooks"
PAGES = sorted(path for path in FOLDER.glob("*.md") if path.name != "index.md")
ALERTS = {str(rule["alert"]) for rule in RULES}
LINES = [
    pytest.param(line, is_complete, id=f"{path.stem}: {line}")
    for path in [*PAGES, FOLDER / "index.md", ROOT / "docs/guides/deployment.md"]
    for line, is_complete in lines_in(path.read_text())
]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_each_tells_the_same_things(path: Path) -> None:
    heads = re.findall(r"^## (.*)", path.read_text(), re.M)
    kinds = list(dict.fromkeys(head.partition(":")[0] for head in heads))
    assert kinds == ["How one notices", "Look", "Do", "It worked when", "Never"]
    noticed = path.read_text().partition("## How one notices")[2].partition("## Look")[0]
    assert ALERTS & set(re.findall(r"`(Walt\w+)`", noticed)), "an alert by its name"
    assert lines_in(path.read_text())


def test_every_alert_that_is_named_exists_and_the_index_knows_it() -> None:
    index = (FOLDER / "index.md").read_text()
    for path in [*PAGES, FOLDER / "index.md"]:
        for name in re.findall(r"`(Walt\w+)`", path.read_text()):
            assert name in ALERTS, (path.name, name)
            assert name in index, (path.name, name)
    own = {rule["alert"] for rule in RULES if "runbooks/" in rule["annotations"]["runbook"]}
    assert own <= set(re.findall(r"`(Walt\w+)`", index))
    assert {f"{path.name}" for path in PAGES} <= set(re.findall(r"\(([\w-]+\.md)\)", index))


@pytest.mark.parametrize(("line", "is_complete"), LINES)
def test_every_command_exists(line: str, is_complete: bool) -> None:
    check(line, is_complete)


def test_files_and_services_that_are_named_are_there() -> None:
    for path in [*PAGES, FOLDER / "index.md"]:
        text = path.read_text()
        for name in set(re.findall(r"deploy/[\w./-]+\.(?:py|sh|yaml)", text)):
            assert (ROOT / name).is_file(), (path.name, name)
        for unit in re.findall(r"systemctl start ([\w-]+)", text):
            assert (UNITS / f"{unit}.service").is_file(), unit
        for link in re.findall(r"\]\(([^)#]+)\)", text):
            assert (FOLDER / link).is_file(), (path.name, link)
