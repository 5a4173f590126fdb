"""`walt-loop keys`: the keys that sign releases, and how the important ones leave this machine."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from walt_edge.contract.errors import UsageError
from walt_train.loop.publish.ceremony import Ceremony, KeyState
from walt_train.loop.publish.roles import OFFLINE, ROLES

_ACTIONS = ("show", "offline", "rotate", "renew")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's options."""
    add = parser.add_argument
    add(
        "action",
        nargs="?",
        default="show",
        choices=_ACTIONS,
        help="show: which there are, and what expires when; offline DIR: move root's and targets' keys there; rotate "
        "ROLE: make a new one, the old is useless; renew: sign root and targets for another two years",
    )
    add("what", nargs="?", metavar="DIR|ROLE", help=f"of offline: a stick's folder; of rotate: {', '.join(ROLES)}")
    add("--home", type=Path, metavar="DIR", help="of walt-loop serve: its repository/ and keys/")
    add("--repository", type=Path, metavar="DIR", help="of walt-loop publish, with --keys instead of --home")
    add("--keys", type=Path, metavar="DIR", help="where the keys lie that sign from day to day")
    add("--offline", type=Path, metavar="DIR", help="of rotate, renew, show: where root's and targets' keys lie")


def run(args: argparse.Namespace) -> int:
    """Shows, or does it, and says what is left to do."""
    ceremony = _ceremony(args)
    lines = {"show": _show, "offline": _offline, "rotate": _rotate, "renew": _renew}[args.action](ceremony, args)
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    for line in ceremony.warnings():
        sys.stderr.write(f"walt-loop: {line}\n")
    return 0


def _ceremony(args: argparse.Namespace) -> Ceremony:
    if (args.what is not None) != (args.action in ("offline", "rotate")):
        raise UsageError("offline takes a folder and rotate a role, as in walt-loop keys offline /media/stick")
    if args.home is not None and (args.repository or args.keys):
        raise UsageError("--home stands for its repository and keys: give it alone, or both of the others")
    repository, keys = args.repository, args.keys
    if args.home is not None:
        repository, keys = args.home / "repository", args.home / "keys"
    if repository is None or keys is None:
        raise UsageError("say whose keys: --home DIR of walt-loop serve, or --repository and --keys of publish")
    offline = args.offline
    if args.action == "offline":
        if offline is not None:
            raise UsageError("offline takes its folder as it is: walt-loop keys offline /media/stick")
        offline = Path(args.what)
    if args.action == "rotate" and args.what not in ROLES:
        raise UsageError(f"'{args.what}' is no role: {', '.join(ROLES)}")
    return Ceremony(repository, keys, offline)


def _show(ceremony: Ceremony, args: argparse.Namespace) -> list[str]:
    head = f"{'role':<10} {'key':<10} {'expires':<22} where"
    return [head, *(_line(one) for one in ceremony.show())]


def _line(one: KeyState) -> str:
    expires = "not signed yet"
    if one.expires is not None:
        days = (one.expires - datetime.now(UTC)) // timedelta(days=1)
        expires = f"{one.expires:%Y-%m-%d} ({days} d)"
    absent = "not here, as it should be" if one.role in OFFLINE else "MISSING"
    exchanged = ", an exchange was begun: repeat rotate" if one.is_exchanged else ""
    return f"{one.role:<10} {one.key_id[:8] or '-':<10} {expires:<22} {one.path or absent}{exchanged}"


def _offline(ceremony: Ceremony, args: argparse.Namespace) -> list[str]:
    moved = ceremony.move_offline()
    if not moved:
        return [f"the keys of root and targets are in {args.what} already"]
    return [
        f"the keys of {' and '.join(moved)} are in {args.what}: keep it apart, and a second copy elsewhere",
        "they once lay here: walt-loop keys rotate root and rotate targets, with --offline, make some that never did",
    ]


def _rotate(ceremony: Ceremony, args: argparse.Namespace) -> list[str]:
    ceremony.rotate(args.what)
    (new,) = (one for one in ceremony.show() if one.role == args.what)
    return [f"{args.what} has the key {new.key_id[:8]} in {new.path}; the old one is useless"]


def _renew(ceremony: Ceremony, args: argparse.Namespace) -> list[str]:
    renewed = ceremony.renew()
    return [_line(one) for one in ceremony.show() if one.role in renewed]
