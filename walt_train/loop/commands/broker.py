"""`walt-loop broker`: home's certificate authorities, and a Mosquitto that lets in whom they signed."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from walt_train.loop.identity.authority import Authority
from walt_train.loop.identity.mosquitto import CONFIG, Address, BrokerFiles
from walt_train.loop.identity.registry import Registry
from walt_train.loop.identity.upkeep import Household
from walt_train.loop.store.arguments import add_store_arguments, store_config
from walt_train.loop.store.store import Store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's options."""
    add = parser.add_argument
    add(
        "--home",
        required=True,
        type=Path,
        metavar="DIR",
        help="keeps the authorities in DIR/identity; made if absent",
    )
    add(
        "--host",
        action="append",
        required=True,
        metavar="NAME",
        help="name or address by which devices meet home; may be repeated, they are told the first",
    )
    add("--write", type=Path, metavar="DIR", help="where Mosquitto's files go (default: HOME/mosquitto)")
    add("--seen-as", type=Path, metavar="DIR", help="that folder's path where Mosquitto runs, if in a container")
    defaults = Address(hosts=())
    add("--listen", default="", metavar="ADDRESS", help="of the devices' door (default: everywhere)")
    add("--port", type=int, default=defaults.port, metavar="N", help="its port (default: %(default)s)")
    add(
        "--workers-host",
        default=defaults.workers_host,
        metavar="ADDRESS",
        help="where the door for home's workers listens (default: %(default)s)",
    )
    add(
        "--workers-port", type=int, default=defaults.workers_port, metavar="N", help="its port (default: %(default)s)"
    )
    add(
        "--enroll-port",
        type=int,
        default=defaults.enroll_port,
        metavar="N",
        help="HTTPS port of walt-loop identity (default: %(default)s)",
    )
    add("--user", default=defaults.user, help="whom Mosquitto becomes if started as root (default: %(default)s)")
    add_store_arguments(parser, "the store, which knows who is revoked; made if absent")


def run(args: argparse.Namespace) -> int:
    """Writes what is not there yet or does not last, and prints how to start the broker."""
    address = Address(
        hosts=tuple(args.host),
        listen=args.listen,
        port=args.port,
        workers_host=args.workers_host,
        workers_port=args.workers_port,
        enroll_port=args.enroll_port,
        user=args.user,
        folder=str((args.write or args.home / "mosquitto").absolute()),
        seen_as=str(args.seen_as or ""),
    )
    with Store(store_config(args, makes=True)) as store:
        authority = Authority.make(args.home / "identity")
        files = BrokerFiles(authority, address)
        Household(args.home, authority, address, files).write(Registry(store.engine).revocations())
        address.write(authority.folder)
    told = "told the broker that runs from it" if files.reload() else f"mosquitto -c {files.folder / CONFIG}"
    sys.stdout.write(f"{files.folder}: {told}\n")
    sys.stdout.write(
        f"{args.home / 'workers'}: --workers of walt-loop ingest, serve and others that meet the broker\n"
    )
    return 0
