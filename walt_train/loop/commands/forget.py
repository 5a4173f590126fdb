"""`walt-loop forget`: deletes crops for good, with everything that shows them, and tells who learned from them."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from sqlalchemy import func, select
from tqdm import tqdm

from walt_edge.contract.errors import UsageError
from walt_edge.contract.topics import DeviceTopics
from walt_train.loop.broker.arguments import HOME, add_broker_arguments, broker_config, has_broker
from walt_train.loop.commands.resend import parse_time
from walt_train.loop.lineage.carry import Hands, carry_out
from walt_train.loop.lineage.choose import Choice, whole_ids
from walt_train.loop.lineage.forget import Done, Plan, Wish, begin, pending, plan
from walt_train.loop.publish.repository import Repository
from walt_train.loop.serve.jobs import Jobs, worker_name
from walt_train.loop.serve.rollout import by_mqtt
from walt_train.loop.store.arguments import add_store_arguments, open_store
from walt_train.loop.store.store import Store
from walt_train.loop.store.tables import generations


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's options."""
    add_store_arguments(parser)
    add = parser.add_argument
    add("--home", type=Path, metavar="DIR", help="of walt-loop serve, where copies of crops lie too")
    add("--crop", action="append", default=[], metavar="ID", help="8 or more digits of its sha256; may be repeated")
    add("--camera", action="append", default=[], metavar="NAME", help="everything of it; may be repeated")
    add("--device", action="append", default=[], metavar="SITE/DEVICE", help="everything of it; may be repeated")
    add("--since", metavar="TIME", help="captured then or later, as in 2026-11-23T06:00 (UTC if it names no zone)")
    add("--until", metavar="TIME", help="captured before; several of these options mean what all of them mean")
    add("--retrain", action="store_true", help="begin another generation of cameras whose models learned from it")
    add("--withdraw", action="store_true", help="devices return to a release that did not; needs --broker")
    add("--backup", action="append", default=[], type=Path, metavar="DIR", help="forget in this backup as well")
    add("--yes", action="store_true", help="do it; without, only what would be done is told")
    add_broker_arguments(parser, "with --withdraw: an MQTT 5 broker")


def run(args: argparse.Namespace) -> int:
    """Tells what would go, or does it."""
    _check(args)
    with open_store(args) as store:
        if args.home is None and _has_generations(store):
            raise UsageError("give --home of walt-loop serve: copies of the crops lie there too")
        hands = _hands(args, store)
        left = pending(store.engine)
        with store.engine.connect() as connection:
            choice = _choice(args, whole_ids(connection, args.crop))
            found = plan(connection, choice)
        if not args.yes:
            _tell(found, [one.words for one in left])
            return 0
        for forget in left:
            sys.stdout.write(f"completing: {forget.words}\n")
            _tell_done(carry_out(hands, forget, _bar))
        places = tuple(str(path.resolve()) for path in args.backup)
        wish = Wish(choice=choice, retrain=args.retrain, withdraw=args.withdraw, backups=places)
        begun = begin(store.engine, wish, _words(args))
        if begun is None:
            sys.stdout.write("nothing is stored of it\n")
            return 0
        sys.stdout.write(f"{begun.crops} deleted for good; a resend is not stored again\n")
        _tell_models(found)
        _tell_done(carry_out(hands, begun, _bar))
    return 0


def _check(args: argparse.Namespace) -> None:
    if not (args.crop or args.camera or args.device or args.since or args.until):
        raise UsageError("what is to be forgotten? Give --crop, --camera, --device, --since or --until")
    if args.withdraw and not has_broker(args):
        raise UsageError("--withdraw needs --broker or --workers: the broker tells the devices")
    if args.withdraw and args.home is None:
        raise UsageError("--withdraw needs --home, where the releases are")


def _choice(args: argparse.Namespace, crops: tuple[str, ...]) -> Choice:
    since_us = None if args.since is None else parse_time(args.since)
    until_us = None if args.until is None else parse_time(args.until, "--until")
    if since_us is not None and until_us is not None and since_us >= until_us:
        raise UsageError(f"--since {args.since} is not before --until {args.until}")
    for text in args.device:
        DeviceTopics.parse(text)
    return Choice(
        crops=crops,
        cameras=tuple(args.camera),
        devices=tuple(args.device),
        since_us=since_us,
        until_us=until_us,
    )


def _hands(args: argparse.Namespace, store: Store) -> Hands:
    jobs = Jobs(store.engine, owner=worker_name())
    home: Path | None = args.home
    releases = None if home is None else Repository(home / "repository", home / "keys")
    tell = by_mqtt(broker_config(args, HOME)) if has_broker(args) else None
    return Hands(store=store, jobs=jobs, home=home, releases=releases, tell=tell)


def _has_generations(store: Store) -> bool:
    with store.engine.connect() as connection:
        return bool(connection.scalar(select(func.count()).select_from(generations)))


def _tell(found: Plan, left: Sequence[str]) -> None:
    say = sys.stdout.write
    counts = Counter((one.camera, one.kind) for one in found.chosen)
    size = sum(one.bytes for one in found.chosen)
    say(f"{len(found.ids)} would be deleted for good ({size / 1e6:.1f} MB); nothing is done without --yes\n")
    for (camera, kind), count in sorted(counts.items()):
        say(f"  {camera}: {count} {kind}s\n")
    if found.deleted:
        say(f"  {len(found.deleted)} that were deleted before\n")
    _tell_models(found)
    for words in left:
        say(f"an earlier one is not completed, and would be first: {words}\n")


def _tell_models(found: Plan) -> None:
    for one in found.affected:
        sys.stdout.write(f"{one.line}\n")


def _tell_done(done: Done) -> None:
    say = sys.stdout.write
    for title in done.stopped:
        say(f"{title} was at work on it and was stopped\n")
    erased = done.erased
    say(f"removed: {done.blobs} blobs, {erased.clips} clips of frozen clip art, {erased.files} pictures\n")
    for line in done.lines:
        say(f"{line}\n")
    for line in done.remains:
        say(f"REMAINS {line}\n")
    say(
        "not reached from here: spools of devices (encrypted, until they need the space), models on devices that are "
        "away, folders that were exported by hand\n"
    )


def _bar(pieces: Sequence[Sequence[str]]) -> Iterator[Sequence[str]]:
    with tqdm(total=sum(map(len, pieces)), desc="deleting", unit=" blobs", disable=None) as bar:
        for piece in pieces:
            yield piece
            bar.update(len(piece))


def _words(args: argparse.Namespace) -> str:
    """The command, as it can be read later."""
    words: list[str] = []
    for name in ("crop", "camera", "device"):
        for value in getattr(args, name):
            words += [f"--{name}", value]
    for name in ("since", "until"):
        if getattr(args, name):
            words += [f"--{name}", getattr(args, name)]
    words += [f"--{name}" for name in ("retrain", "withdraw") if getattr(args, name)]
    return shlex.join(["forget", *words])[:4000]
