"""`walt-loop backup`: a copy of the store, and of what home has made, while everything runs on."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from walt_train.loop.lineage.backup import make_backup
from walt_train.loop.store.arguments import add_store_arguments, open_store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's options."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="gets the copy; again, it gets what is new")
    add_store_arguments(parser)
    parser.add_argument("--home", type=Path, metavar="DIR", help="of walt-loop serve: releases and models as well")


def run(args: argparse.Namespace) -> int:
    """Copies, and says what was left out."""
    with open_store(args) as store:
        made = make_backup(store, args.folder, args.home, quiet=False)
    say = sys.stdout.write
    backup = made.backup
    count = backup.tables["envelopes"].rows - len(backup.gone)
    say(f"{args.folder}: {count} envelopes ({backup.bytes / 1e6:.1f} MB), {made.fresh} of them new")
    say(f", {len(backup.files)} files\n" if args.home else "\n")
    if args.home:
        say(
            f"NOT copied: the private keys in {args.home / 'keys'}, and those of certificate authorities. Whoever "
            "has them can sign releases; without them no device takes another one. Keep them encrypted, elsewhere\n"
        )
    if made.damaged:
        say(
            f"DAMAGED in the store, and not copied: {len(made.damaged)} ({made.damaged[0][:16]} ...); delete them "
            "with walt-loop forget, or restore them from an older backup\n"
        )
        return 1
    return 0
