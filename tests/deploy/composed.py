"""A compose file as its reader sees it: merged, and with the variables of .env.example put in."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path
from typing import Any

import yaml

from tests.command_lines import parser_of

_VARIABLE = re.compile(r"\$(\$|\{(\w+)(?::?[-?]([^}]*))?\})")


def variables(path: Path) -> dict[str, str]:
    """NAME=VALUE lines."""
    lines = (line.partition("=") for line in path.read_text().splitlines() if line and not line.startswith("#"))
    return {name: value for name, _, value in lines}


def interpolated(value: Any, given: dict[str, str]) -> Any:
    """Puts `${NAME:-default}` in, everywhere; `$$` is a dollar."""
    if isinstance(value, dict):
        return {key: interpolated(one, given) for key, one in value.items()}
    if isinstance(value, list):
        return [interpolated(one, given) for one in value]
    if not isinstance(value, str):
        return value
    return _VARIABLE.sub(lambda found: "$" if found[1] == "$" else given.get(found[2], found[3] or ""), value)


def load(path: Path, given: dict[str, str]) -> dict[str, Any]:
    """The file; YAML merges its anchors."""
    content: dict[str, Any] = interpolated(yaml.safe_load(path.read_text()), given)
    return content


def words(command: str | list[str]) -> list[str]:
    """A command as words."""
    return shlex.split(command) if isinstance(command, str) else [str(word) for word in command]


def parse(line: list[str]) -> argparse.Namespace:
    """`walt-... COMMAND OPTIONS` by the command's real parser; argparse.ArgumentError where it is none."""
    parser, rest = parser_of(line)
    known, unknown = parser.parse_known_args(rest)
    if unknown:
        raise argparse.ArgumentError(None, f"unknown: {unknown}")
    return known
