"""What the site makes itself: the reference of all commands, from their own `--help`, and the list of decisions."""

from __future__ import annotations

import io
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from walt_export.cli import SCRIPT as EXPORT

from walt_edge.cli import SCRIPT as EDGE
from walt_edge.contract.console import Script
from walt_train.cli import SCRIPT as TRAIN
from walt_train.loop.cli import SCRIPT as LOOP

_COMMANDS = "reference/commands.md"
_LISTED = {"Decisions": "decisions", "Runbooks": "runbooks"}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Lists folders whose files are all of a kind."""
    nav: list[Any] = config.nav or []
    for title, folder in _LISTED.items():
        paths = sorted((Path(config.docs_dir) / folder).glob("*.md"))
        if paths:
            nav.append({title: [f"{folder}/{path.name}" for path in paths]})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the page of commands."""
    files.append(File.generated(config, _COMMANDS, content=commands()))
    return files


def commands() -> str:
    """Every command of the four scripts, as its own help tells of it."""
    parts = ["# Commands\n"]
    for script in (EDGE, TRAIN, LOOP, EXPORT):
        parts.append(f"## {script.prog}\n\n{script.description}\n")
        for command in script.commands:
            text = _help(script, command.name)
            parts.append(f"### {script.prog} {command.name}\n\n```text\n{text}\n```\n")
    return "\n".join(parts)


def _help(script: Script, command: str) -> str:
    told = io.StringIO()
    # SystemExit is how argparse ends after its help.
    with redirect_stdout(told), suppress(SystemExit):
        script.main([command, "--help"])
    return told.getvalue().rstrip()
