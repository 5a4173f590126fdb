"""`walt-loop enroll`: a token that lets one device in, once."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from walt_train.loop.identity.registry import Registry
from walt_train.loop.identity.upkeep import Household
from walt_train.loop.store.arguments import add_store_arguments, store_config
from walt_train.loop.store.store import Store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's options."""
    add = parser.add_argument
    add("--home", required=True, type=Path, metavar="DIR", help="where walt-loop broker keeps the authorities")
    add("--site", required=True, metavar="NAME", help="where the device will belong")
    add("--device", metavar="ID", help="its id: needed for one that is known already, or was revoked")
    add("--hours", type=float, default=24.0, metavar="H", help="the token counts for so long (default: 24)")
    add_store_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Prints the line to run on the device."""
    household = Household.open(args.home)
    authority, address = household.authority, household.address
    with Store(store_config(args)) as store:
        registry = Registry(store.engine)
        token = registry.make_token(authority.fingerprint, args.site, args.device, args.hours)
        known = registry.get(args.device) if args.device else None
    sys.stdout.write(f"walt-edge enroll {address.url} {token}\n")
    note = f"good once, for {args.hours:g} hours"
    if known is not None:
        what = "was revoked and" if known.revoked_us is not None else "has a certificate, which"
        note += f"; {args.device} {what} is replaced when the token is used"
    sys.stderr.write(
        f"({note}; without a token in the process list: walt-edge enroll {address.url} --token-file -)\n"
    )
    return 0
