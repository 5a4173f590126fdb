"""`walt-loop keep`: one pass over what is too old, or too much."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from walt_edge.contract.errors import UsageError
from walt_edge.contract.topics import Kind
from walt_train.loop.lineage.keep import Policy, keep
from walt_train.loop.lineage.thin import thin
from walt_train.loop.serve.jobs import Jobs, worker_name
from walt_train.loop.store.arguments import add_store_arguments, open_store

_GB = 10**9


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's options."""
    add_store_arguments(parser)
    add = parser.add_argument
    add("--home", type=Path, metavar="DIR", help="of walt-loop serve: copies of crops go there too")
    add_policy_arguments(parser, "")
    add("--yes", action="store_true", help="do it; without, only what would go is told")


def add_policy_arguments(parser: argparse.ArgumentParser, prefix: str) -> None:
    """Declares how long things are kept; the options begin with `--PREFIX`."""
    kinds = "crop, plate or frame"
    parser.add_argument(
        f"--{prefix}days",
        action="append",
        default=[],
        metavar="[KIND=]N",
        help=f"days that everything, or a {kinds}, is kept at most; may be repeated",
    )
    parser.add_argument(
        f"--{prefix}gb",
        action="append",
        default=[],
        metavar="[KIND=]N",
        help="gigabytes that everything, or a kind, may take; cameras share them fairly; may be repeated",
    )


def policy_of(days: Sequence[str], gigabytes: Sequence[str]) -> Policy:
    """Reads the options; raises UsageError."""
    by_kind: dict[Kind, float] = {}
    for kind, number in (_split("days", word) for word in days):
        # What is said of a kind holds for it, wherever it stands.
        for one in Kind if kind is None else (kind,):
            if kind is not None or not any(word.startswith(f"{one.value}=") for word in days):
                by_kind[one] = number
    sizes = {kind: round(number * _GB) for kind, number in (_split("gb", word) for word in gigabytes)}
    return Policy(by_kind, sizes)


def run(args: argparse.Namespace) -> int:
    """Tells what would go, or lets it go."""
    policy = policy_of(args.days, args.gb)
    if policy.is_empty:
        raise UsageError("how long is what kept? Give --days or --gb")
    say = sys.stdout.write
    with open_store(args) as store:
        told = keep(store, policy, do=False)
        say(f"{told.count} {'go' if args.yes else 'would go'} ({told.freed / 1e6:.1f} MB)\n")
        for kind, count in told.aged.items():
            say(f"  {count} {kind}s by age\n")
        for camera, count in told.crowded.items():
            say(f"  {camera}: {count} for space\n")
        if not args.yes:
            say("nothing is done without --yes\n")
            return 0
        with _bar(told.count) as note:
            done = keep(store, policy, do=True, note=note)
        say(f"{done.count} gone, {done.freed / 1e6:.1f} MB freed\n")
        if args.home is not None:
            erased = thin(store.engine, Jobs(store.engine, owner=worker_name()), args.home)
            say(f"{erased.files} pictures removed of generations that are over or hold what expired\n")
    return 0


@contextmanager
def _bar(total: int) -> Iterator[Callable[[int], None]]:
    with tqdm(total=total, desc="expiring", unit=" envelopes", disable=None) as bar:

        def note(count: int) -> None:
            bar.update(count)

        yield note


def _split(option: str, word: str) -> tuple[Kind | None, float]:
    kind, equals, text = word.rpartition("=")
    try:
        number = float(text)
        found = Kind(kind) if equals else None
    except ValueError as error:
        raise UsageError(f"--{option} '{word[:80]}' is not [KIND=]N, as in 90 or frame=7") from error
    if not math.isfinite(number) or number < 0 or number > 1e9:
        raise UsageError(f"--{option} '{word[:80]}': give a number of 0 or more")
    return found, number
