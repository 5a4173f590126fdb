"""`walt-loop holdout`: freezes truth that judges, lists it, and checks every byte of it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from walt_edge.contract.errors import UsageError, WaltError
from walt_edge.contract.topics import DeviceTopics
from walt_train.loop.gate.annotated import micros
from walt_train.loop.gate.holdout import FILE_NAME, Holdout, HoldoutError, Source, freeze, read_holdout
from walt_train.loop.serve.jobs import now_us


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's options."""
    add = parser.add_argument
    add("action", choices=("freeze", "list", "check"), help="what to do")
    add("folders", nargs="+", type=Path, metavar="DIR", help="images/ and annotations.json; of list: or of holdouts")
    add("--source", choices=[one.value for one in Source], help="of freeze: where the truth comes from")
    add("--name", default="", help="of freeze: what people call it (default: the folder's name)")
    add("--camera", action="append", default=[], metavar="NAME", help="of freeze: that took the pictures; may repeat")
    add("--device", action="append", default=[], metavar="SITE/DEVICE", help="of freeze: that it is on; may repeat")
    add("--by", default="", metavar="WHO", help="of freeze: who vouches for the truth")
    add("--begin", metavar="TIME", help="of freeze: when the first picture was taken, where the pictures do not say")


def run(args: argparse.Namespace) -> int:
    """Freezes one folder, or tells of several; returns 1 if something changed."""
    if args.action == "freeze":
        return _freeze(args)
    bad = 0
    for folder in _holdouts(args.folders, deep=args.action == "list"):
        try:
            sys.stdout.write(f"{folder}: {_line(read_holdout(folder))}\n")
        except WaltError as error:
            sys.stderr.write(f"walt-loop: {error}\n")
            bad += 1
    return 1 if bad else 0


def _freeze(args: argparse.Namespace) -> int:
    if args.source is None or len(args.folders) != 1:
        raise UsageError(f"freeze one folder, and say where its truth comes from: --source {'|'.join(Source)}")
    begin_us = None if args.begin is None else micros(args.begin)
    if args.begin is not None and begin_us is None:
        raise UsageError(f"--begin {args.begin} is not an ISO 8601 time, such as 2026-06-01T09:30:00Z")
    devices = [DeviceTopics.parse(word) for word in args.device]
    holdout = freeze(
        args.folders[0],
        source=Source(args.source),
        made_us=now_us(),
        name=args.name,
        cameras=args.camera,
        devices=[f"{one.site}/{one.device}" for one in devices],
        made_by=args.by,
        begin_us=begin_us,
    )
    sys.stdout.write(f"{args.folders[0]}: {_line(holdout)}\n")
    return 0


def _holdouts(folders: Sequence[Path], *, deep: bool) -> Iterator[Path]:
    """The folders themselves; of a folder of holdouts, those in it."""
    for folder in folders:
        inner = sorted(path.parent for path in folder.glob(f"*/{FILE_NAME}"))
        if not deep or (folder / FILE_NAME).exists():
            yield folder
        elif inner:
            yield from inner
        else:
            raise HoldoutError(f"{folder} holds no frozen holdout: walt-loop holdout freeze DIR --source ...")


def _line(holdout: Holdout) -> str:
    where = ", ".join(holdout.devices) or "no device"
    return (
        f"{holdout.name}, {holdout.source}, {len(holdout.frames)} frames of {', '.join(holdout.cameras)} ({where}), "
        f"by {holdout.made_by}, sha256 {holdout.content_sha256}"
    )
