"""`walt-loop revoke`: a device that no longer counts, and is told so by the broker at once."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from walt_edge.contract.topics import DeviceTopics
from walt_train.loop.identity.registry import Registry
from walt_train.loop.identity.upkeep import Household
from walt_train.loop.store.arguments import add_store_arguments, store_config
from walt_train.loop.store.store import Store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's options."""
    add = parser.add_argument
    add("device", metavar="SITE/DEVICE", help="as walt-loop devices lists it")
    add("--reason", required=True, metavar="TEXT", help="kept beside it: stolen, sold, broken")
    add("--home", required=True, type=Path, metavar="DIR", help="where walt-loop broker keeps the authorities")
    add_store_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Revokes, rewrites the broker's lists and has it read them; whatever is already so stays so."""
    names = DeviceTopics.parse(args.device)
    broker = Household.open(args.home).broker
    with Store(store_config(args)) as store:
        registry = Registry(store.engine)
        is_news = registry.revoke(names, args.reason)
        sys.stdout.write(f"{args.device} {'is revoked' if is_news else 'was revoked before'}\n")
        if broker is None:
            sys.stdout.write("the broker refuses it as soon as walt-loop identity has told it\n")
            return 0
        broker.write(registry.revocations())
    if broker.reload():
        sys.stdout.write("the broker refuses it from now on\n")
    else:
        sys.stdout.write(f"no broker runs from {broker.folder} here: send SIGHUP to the one that does\n")
    return 0
