"""The guide to the agent: its example is taken, its commands exist, its table names every metric."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.command_lines import parser_of
from tests.fakes.agent_view import FakeAgentView
from tests.material import ROOT
from walt_edge.settings.reload import HOT
from walt_edge.settings.sources import Sources, known_keys
from walt_edge.web.metrics import AgentCollector

GUIDE = (ROOT / "docs" / "guides" / "edge.md").read_text()
LINES = re.findall(r"(?:^|`|/)(walt-edge (?:run|doctor|config|replay|models) [^`|#&\n]+)", GUIDE, re.MULTILINE)


def test_the_example_is_taken_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WALT_EDGE_WEB__PORT", raising=False)
    (example,) = re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)
    path = tmp_path / "edge.yaml"
    path.write_text(example)
    config = Sources((), path).load()
    assert [camera.name for camera in config.cameras] == ["north", "south"]
    assert config.cameras[1].hwaccel == "off"
    assert config.broker.address == "home.example:8883"
    assert (config.web.port, config.log.format) == (8090, "json")


@pytest.mark.parametrize("line", sorted(set(LINES)))
def test_its_commands_exist_and_take_their_options(line: str) -> None:
    parser, words = parser_of(shlex.split(line))
    if words:
        parser.parse_args(words)


def test_there_are_commands() -> None:
    assert {line.split()[1] for line in LINES} >= {"doctor", "config", "replay", "models"}


def test_its_table_names_every_metric() -> None:
    families = {
        family.name.removeprefix("walt_edge_") for family in AgentCollector(FakeAgentView().figures).collect()
    }
    rows = re.findall(r"^\| (`[a-z_`, ]+`) \|", GUIDE[GUIDE.index("| metric (") :], re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"[a-z_]+", row)} - families == set()
    assert families - {name for row in rows for name in re.findall(r"[a-z_]+", row)} == set()


def test_it_names_what_changes_while_the_agent_runs() -> None:
    (told,) = re.findall(r"\*\*While it runs\.\*\*.*?\n\n", GUIDE, re.DOTALL)
    for key in HOT:
        assert f"`{key}`" in told or (key.startswith("web.token") and "token" in told), key


def test_keys_that_it_speaks_of_exist() -> None:
    keys = set(known_keys())
    sections = {key.split(".")[0] for key in keys if "." in key}
    for key in re.findall(r"`([a-z]+\.[a-z_]+)`", GUIDE):
        if key.split(".")[0] in sections and not key.endswith((".yaml", ".key", ".token")):
            assert key in keys, key


def test_files_that_it_speaks_of_exist() -> None:
    for path in re.findall(r"deploy/[a-z/.\-A-Z]+", GUIDE):
        assert (ROOT / path.rstrip(".")).exists() or path.endswith("spool.key"), path
