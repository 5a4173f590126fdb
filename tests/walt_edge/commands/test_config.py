"""`walt-edge config` prints what would be in effect, by whom, and takes it again."""

from __future__ import annotations

from pathlib import Path

import pytest

from walt_edge.cli import SCRIPT
from walt_edge.contract.errors import UsageError
from walt_edge.settings.sources import read_value
from walt_edge.settings.tree import AgentConfig


@pytest.fixture(autouse=True)
def _quiet_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WALT_EDGE_WEB__PORT", raising=False)


def test_it_prints_values_and_who_said_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "edge.yaml"
    file.write_text("cameras:\n- {url: 'rtsp://walt:correct-horse@h/x', name: north}\nlog:\n  format: json\n")
    monkeypatch.setenv("WALT_EDGE_WEB__TOKEN", "0123456789abcdef")
    assert SCRIPT.main(["config", "--config", str(file), "--quota-mb", "5"]) == 0
    said = capsys.readouterr().out
    lines = [" ".join(line.split()) for line in said.splitlines()]
    assert f'- url: "rtsp://walt:***@h/x" # {file}:2' in lines
    assert f'format: "json" # {file}:4' in lines
    assert "quota_mb: 5 # --quota-mb" in lines
    assert 'token: "**********" # WALT_EDGE_WEB__TOKEN' in lines
    assert "port: 8090" in lines
    assert 'transport: "tcp"' in lines
    assert "correct-horse" not in said
    again = AgentConfig.model_validate({**read_value(said), "web": {}})
    assert (again.spool.quota_mb, again.cameras[0].name, again.log.format) == (5, "north", "json")


def test_the_defaults_are_yaml_that_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    assert SCRIPT.main(["config"]) == 0
    assert AgentConfig.model_validate(read_value(capsys.readouterr().out)) == AgentConfig()


def test_a_check_says_nothing_where_all_is_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "edge.yaml"
    file.write_text("telemetry_s: 3\n")
    assert SCRIPT.main(["config", "--check", "--config", str(file)]) == 0
    assert capsys.readouterr().out == ""
    file.write_text("telemetry_s: often\n")
    assert SCRIPT.main(["config", "--check", "--config", str(file)]) == UsageError.exit_code
    assert f"{file}:1: telemetry_s: found 'often'" in capsys.readouterr().err
