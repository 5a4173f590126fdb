"""Command lines in texts for people, held against the parsers of the scripts that they name."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
from collections.abc import Sequence

import pytest
from walt_export.cli import SCRIPT as EXPORT

from walt_edge.cli import SCRIPT as EDGE
from walt_edge.contract.console import Script
from walt_train.cli import SCRIPT as TRAIN
from walt_train.loop.cli import SCRIPT as LOOP

SCRIPTS: dict[str, Script] = {script.prog: script for script in (EDGE, TRAIN, LOOP, EXPORT)}
_LINE = re.compile(r"(^\s*(?:\$ )?|`)(walt-(?:edge|train|loop|export) [^`|#&;>\n]+)", re.M)
_LEFT_OUT = re.compile(r"\.\.\.|…|─|\[-|COMMAND|OPTION")
Line = tuple[str, bool]
"""A command line, and whether it is complete: within a sentence it may name just what it is about."""


def lines_in(text: str) -> list[Line]:
    """The `walt-...` lines of a text, sorted; those with an ellipsis, and drawings, are left out."""
    found = {(line.strip(), before != "`") for before, line in _LINE.findall(text.replace("\\\n", " "))}
    return sorted(one for one in found if not _LEFT_OUT.search(one[0]))


def parser_of(line: Sequence[str]) -> tuple[argparse.ArgumentParser, list[str]]:
    """The parser of a line's command, and the words that are left for it; fails where there is no such command."""
    prog, *words = line
    script = SCRIPTS[prog]
    commands = {command.name: command for command in script.commands}
    if words[0] not in commands:
        words.insert(0, script.default)
    assert words[0] in commands, f"{prog} has no command {words[0]}"
    assert commands[words[0]].module, f"{words[0]} is not built yet"
    parser = argparse.ArgumentParser(exit_on_error=False)
    importlib.import_module(commands[words[0]].module).add_arguments(parser)
    return parser, words[1:]


def check(line: str, is_complete: bool) -> None:
    """Fails if the script has no such command, or the command no such option."""
    parser, words = parser_of(shlex.split(line))
    if not is_complete:
        unknown = {word.partition("=")[0] for word in words if word.startswith("--")} - _options(parser)
        assert not unknown, f"{line}: no option {', '.join(unknown)}"
        return
    try:
        parser.parse_args(words)
    except (argparse.ArgumentError, SystemExit) as error:
        pytest.fail(f"{line}: {error}")


def _options(parser: argparse.ArgumentParser) -> set[str]:
    """Of the parser and of its subcommands."""
    known: set[str] = set()
    for action in parser._actions:
        known |= set(action.option_strings)
        if isinstance(action, argparse._SubParsersAction):
            known |= {option for one in action.choices.values() for option in _options(one)}
    return known
