"""How every console script finds its command.

Only the standard library is imported until the command is known, so that `--help` answers at once and a
device without an extra gets one line instead of a traceback. A command is a module with two plain
functions: `add_arguments(parser)` and `run(args) -> int`.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from types import FrameType, ModuleType
from typing import NoReturn

from walt_edge.contract.errors import UsageError, WaltError
from walt_edge.contract.redaction import RedactingFormatter, redact

_LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


@dataclass(frozen=True, slots=True)
class Command:
    """One subcommand of a console script.

    Attributes:
        name: What the person types.
        summary: One line for `--help`.
        module: Dotted name of the module that has `add_arguments` and `run`; empty where it is not built yet.
        extra: The optional extra whose packages the module needs, if any.
        example: A complete command line, shown in the command's own `--help`.
        group: The heading that it stands under, where a script has many commands.
    """

    name: str
    summary: str
    module: str = ""
    extra: str = ""
    example: str = ""
    group: str = "commands"


@dataclass(frozen=True, slots=True)
class Script:
    """A console script: its name, its story in one line, its commands.

    `default` names the command that runs when the first argument is an option (`walt-train --gpus 4`), and with
    `default_takes_word` also when it is no command's name (`walt-export checkpoint.pt`).
    """

    prog: str
    description: str
    commands: tuple[Command, ...]
    default: str = ""
    default_takes_word: bool = False

    def main(self, argv: Sequence[str] | None = None) -> int:
        """Runs the command that `argv` (default: the process's) names; returns the exit status."""
        words = list(sys.argv[1:] if argv is None else argv)
        try:
            return self._dispatch(words)
        except WaltError as error:
            print(f"{self.prog}: {redact(str(error))}", file=sys.stderr)
            return error.exit_code
        except KeyboardInterrupt:
            return 128 + signal.SIGINT
        except BrokenPipeError:
            # The reader of our output went away; hand the descriptor to /dev/null so that the flush at exit is quiet.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0

    def _dispatch(self, words: list[str]) -> int:
        if not words or words[0] in ("-h", "--help"):
            print(self._help())
            return 0
        if words[0] == "--version":
            print(f"{self.prog} {_version()}")
            return 0
        by_name = {command.name: command for command in self.commands}
        meant_for_default = words[0].startswith("-") or (self.default_takes_word and words[0] not in by_name)
        if self.default and meant_for_default:
            words.insert(0, self.default)
        command = by_name.get(words[0])
        if command is None:
            raise UsageError(f"no command '{words[0]}'; there are: {', '.join(by_name)} (try {self.prog} --help)")
        if not command.module:
            raise UsageError(f"'{command.name}' is not built yet in version {_version()}: {command.summary}")
        return self._run(command, words[1:])

    def _run(self, command: Command, words: list[str]) -> int:
        try:
            module = importlib.import_module(command.module)
            arguments = self._parser(command, module).parse_args(words)
            handler = logging.StreamHandler()
            handler.setFormatter(RedactingFormatter(_LOG_FORMAT))
            logging.basicConfig(level=logging.INFO, handlers=[handler])
            signal.signal(signal.SIGTERM, _interrupt)
            status: int = module.run(arguments)
        except ModuleNotFoundError as error:
            if not command.extra or (error.name or "").startswith("walt_"):
                raise
            raise UsageError(
                f"'{command.name}' needs {error.name}, which is not installed: "
                f"pip install 'walt-amodal[{command.extra}]'"
            ) from error
        return status

    def _parser(self, command: Command, module: ModuleType) -> argparse.ArgumentParser:
        parser = _Parser(
            prog=f"{self.prog} {command.name}",
            description=command.summary,
            epilog=f"example:\n  {command.example}" if command.example else None,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(parser)
        return parser

    def _help(self) -> str:
        width = max(len(command.name) for command in self.commands)
        lines = [f"usage: {self.prog} COMMAND [options]", "", self.description]
        for group in dict.fromkeys(command.group for command in self.commands):
            lines += ["", f"{group}:"]
            for command in (one for one in self.commands if one.group == group):
                note = "" if command.module else " (not built yet)"
                lines.append(f"  {command.name:<{width}}  {command.summary}{note}")
        lines += ["", f"`{self.prog} COMMAND --help` shows a command's options and an example."]
        return "\n".join(lines)


class _Parser(argparse.ArgumentParser):
    """Repeats what it does not understand without the password in it."""

    def error(self, message: str) -> NoReturn:
        super().error(redact(message))


def _version() -> str:
    try:
        return version("walt-amodal")
    except PackageNotFoundError:
        return "unknown (not installed)"


def _interrupt(signum: int, frame: FrameType | None) -> None:
    """SIGTERM ends a command the way Ctrl-C does, so that there is one way to stop."""
    raise KeyboardInterrupt
