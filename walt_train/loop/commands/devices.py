"""`walt-loop devices`: who sends, whose crops wait for a person, and that person's decisions."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from walt_edge.contract.errors import UsageError
from walt_edge.contract.topics import DeviceTopics
from walt_train.loop.admission import standing
from walt_train.loop.admission.names import NAMES_A_DEVICE
from walt_train.loop.store.arguments import add_store_arguments, open_store
from walt_train.loop.store.store import Store

_ACTIONS = ("list", "approve", "hold", "release", "give", "limit", "sheet")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's options."""
    add = parser.add_argument
    add("action", nargs="?", default="list", choices=_ACTIONS, help="what to do (default: %(default)s)")
    add("device", nargs="?", metavar="SITE/DEVICE", help="which one; not of list")
    add_store_arguments(parser)
    add("--camera", metavar="NAME", help="of hold, release and sheet: that camera alone; of give: its name")
    add("--reason", default="held by hand", help="of hold: why (default: %(default)s)")
    add("--anew", action="store_true", help="of release: what it sends now is as it shall be; forget its past")
    add("--messages-an-hour", type=float, metavar="N", help="of limit (default: the usual)")
    add("--mb-an-hour", type=float, metavar="N", help="of limit (default: the usual)")
    add("--out", type=Path, metavar="FILE.png", help="of sheet: where to (default: DEVICE.png)")


def run(args: argparse.Namespace) -> int:
    """Lists, or does what was decided."""
    if (args.device is None) != (args.action == "list"):
        raise UsageError("name a device as SITE/DEVICE, and what to do with it: walt-loop devices lists them")
    with open_store(args) as store:
        if args.action == "list":
            sys.stdout.write(_table(standing.seen(store.engine)))
            return 0
        does: dict[str, Callable[[Store, DeviceTopics, argparse.Namespace], str]] = {
            "approve": _approve,
            "hold": _hold,
            "release": _release,
            "give": _give,
            "limit": _limit,
            "sheet": _sheet,
        }
        line = does[args.action](store, DeviceTopics.parse(args.device), args)
    sys.stdout.write(f"{line}\n")
    return 0


def _approve(store: Store, names: DeviceTopics, args: argparse.Namespace) -> str:
    freed = standing.approve(store.engine, names, _who())
    return f"{args.device} is approved: {freed} envelopes that waited may train, and what comes from now on"


def _hold(store: Store, names: DeviceTopics, args: argparse.Namespace) -> str:
    standing.hold(store.engine, names, args.camera, args.reason)
    what = f"camera {args.camera} of {args.device}" if args.camera else args.device
    return f"what {what} sends from now on is stored and does not train until it is released"


def _release(store: Store, names: DeviceTopics, args: argparse.Namespace) -> str:
    if args.camera is None:
        return _approve(store, names, args)
    freed = standing.release(store.engine, names, args.camera, anew=args.anew)
    return f"camera {args.camera} of {args.device} is released: {freed} envelopes that waited may train"


def _give(store: Store, names: DeviceTopics, args: argparse.Namespace) -> str:
    if args.camera is None:
        raise UsageError(f"say whose name it shall be: walt-loop devices give {args.device} --camera NAME")
    freed = standing.give(store.engine, names, args.camera)
    return (
        f"the name {args.camera} is a camera's of {args.device} alone: {freed} envelopes that waited may train, and "
        "what others send under it waits"
    )


def _limit(store: Store, names: DeviceTopics, args: argparse.Namespace) -> str:
    size = None if args.mb_an_hour is None else args.mb_an_hour * 1e6
    standing.limit(store.engine, names, args.messages_an_hour, size)
    return f"{args.device} is limited anew, within a second"


def _sheet(store: Store, names: DeviceTopics, args: argparse.Namespace) -> str:
    # OpenCV is not needed by whoever only lists.
    from walt_train.loop.admission.sheet import write_sheet

    path = args.out or Path(f"{names.device}.png")
    sheet = write_sheet(store, names, path, args.camera, quiet=not sys.stderr.isatty())
    broken = f", {sheet.unreadable} of them cannot be decoded" if sheet.unreadable else ""
    return f"{path}: {sheet.shown} of {sheet.held} crops that wait{broken}"


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user has no name
        return f"user {os.getuid()}"


def _table(devices: list[standing.Seen]) -> str:
    if not devices:
        return "no device was enrolled, and none has sent anything\n"
    head = ("device", "state", "first stored", "last stored", "crops", "held", "over rate", "refused")
    rows = [
        (
            f"{one.site}/{one.device}",
            one.state,
            _time(one.first_us),
            _time(one.last_us),
            *map(str, (one.crops, one.held, one.over_rate, one.refused)),
        )
        for one in devices
    ]
    widths = [max(len(row[at]) for row in (head, *rows)) for at in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (head, *rows)]
    lines += [f"held: {one.site}/{one.device} camera {name}: {why}" for one in devices for name, why in one.cameras]
    lines += [_taken(one, name, owner) for one in devices for name, owner in one.taken]
    new = next((one for one in devices if one.state == "new" and one.held), None)
    if new:
        name = f"{new.site}/{new.device}"
        lines.append(f"look at what waits: walt-loop devices sheet {name}; then: walt-loop devices approve {name}")
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _taken(one: standing.Seen, name: str, owner: str) -> str:
    """What waits for a name, and the remedy."""
    device = f"{one.site}/{one.device}"
    why = f"that name is {owner}'s" if owner else f"it has sent {NAMES_A_DEVICE} names of cameras before"
    return (
        f"held: {device} camera {name}: {why}; name the camera on its device (walt-edge run --rtsp NAME=URL), or, "
        f"if it replaces that one: walt-loop devices give {device} --camera {name}"
    )


def _time(us: int | None) -> str:
    return "-" if us is None else f"{datetime.fromtimestamp(us / 1e6, UTC):%Y-%m-%d %H:%M}"
