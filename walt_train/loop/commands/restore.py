"""`walt-loop restore`: fills an empty store from a backup, and says what to ask the devices for."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from walt_train.loop.lineage.restore import resend_line, restore
from walt_train.loop.store.arguments import add_store_arguments, open_store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's options."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="that walt-loop backup filled")
    add_store_arguments(parser, "an empty or a new one; of any kind, whatever the backup is of")
    parser.add_argument("--home", type=Path, metavar="DIR", help="gets releases and models; must hold none")
    parser.add_argument("--broker", default="HOST:PORT", metavar="HOST:PORT", help="for the line that is told")


def run(args: argparse.Namespace) -> int:
    """Restores, and tells what is left to do."""
    with open_store(args, makes=True) as store:
        restored = restore(args.folder, store, args.home, quiet=False)
        place = store.config.place
    say = sys.stdout.write
    say(f"{place}: {restored.envelopes} envelopes, every one with the hash that it should have\n")
    if restored.forgotten:
        say(f"{restored.forgotten} were forgotten after the backup was made, and stay so\n")
    if restored.damaged:
        say(f"DAMAGED in the backup, and left out: {len(restored.damaged)} ({restored.damaged[0][:16]} ...)\n")
    if args.home:
        say(f"put the private keys back into {args.home / 'keys'}, readable by their owner alone\n")
    say("start walt-loop ingest, then ask the devices for what came after the backup:\n")
    say(f"  {resend_line(restored, args.broker)}\n")
    return 1 if restored.damaged else 0
