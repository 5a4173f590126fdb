"""`walt-edge config`: the configuration that would be in effect, and who said what; without secrets."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from typing import Any

from walt_edge.settings.flags import add_config_arguments, sources
from walt_edge.settings.sources import Key, Loaded

_COMMENT_COLUMN = 44


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options: those of `run`, and whether to print."""
    add_config_arguments(parser)
    parser.add_argument("--check", action="store_true", help="print nothing; the status says whether it is in order")


def run(args: argparse.Namespace) -> int:
    """Prints YAML that `--config` takes again, once its secrets are filled in."""
    loaded = sources(args).load_traced()
    if not args.check:
        sys.stdout.write("".join(f"{line}\n" for line in _lines(loaded, loaded.config.dump(), (), 0)))
    return 0


def _lines(loaded: Loaded, tree: dict[str, Any], above: Key, depth: int) -> Iterator[str]:
    for name, value in tree.items():
        key = (*above, name)
        if isinstance(value, dict):
            yield f"{'  ' * depth}{name}:"
            yield from _lines(loaded, value, key, depth + 1)
        elif name == "cameras" and value:
            yield "cameras:"
            for index, camera in enumerate(value):
                first, *others = _lines(loaded, camera, (*key, index), 2)
                yield f"  - {first.lstrip()}"
                yield from others
        else:
            line = f"{'  ' * depth}{name}: {json.dumps(value, ensure_ascii=False)}"
            origin = loaded.origin(key)
            yield line if origin == "default" else f"{line:<{_COMMENT_COLUMN}} # {origin}"
