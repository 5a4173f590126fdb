"""`walt-loop publish`: signs a bundle, promotes or undoes a release, and tells devices to take it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from walt_edge.contract.errors import UsageError
from walt_edge.contract.messages import Desired
from walt_edge.contract.topics import DeviceTopics
from walt_train.loop.broker.arguments import HOME, add_broker_arguments, broker_config, has_broker
from walt_train.loop.publish.desired import set_desired
from walt_train.loop.publish.repository import PublishError, Release, Repository
from walt_train.loop.publish.roles import CHANNELS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's options."""
    add = parser.add_argument
    add(
        "bundle",
        type=Path,
        nargs="?",
        metavar="BUNDLE",
        help="what walt-export wrote; the newest again is no new one",
    )
    instead = parser.add_argument_group("instead of a BUNDLE").add_mutually_exclusive_group()
    instead.add_argument(
        "--promote", type=int, metavar="N", help="release N, which canary signed, is for all devices"
    )
    instead.add_argument("--undo", type=int, metavar="N", help="the bytes of release N again, under a new number")
    instead.add_argument(
        "--refresh", action="store_true", help="sign what is there anew (weekly; it expires in 30 days)"
    )
    add(
        "--role",
        choices=CHANNELS,
        default=CHANNELS[0],
        help="who signs: canary for devices that try first (default: %(default)s)",
    )
    add("--repository", required=True, type=Path, metavar="DIR", help="to be served by HTTP(S); made if absent")
    add("--keys", required=True, type=Path, metavar="DIR", help="private keys, kept elsewhere; made if absent")
    add("--device", action="append", default=[], metavar="SITE/DEVICE", help="shall run it; may be repeated")
    add_broker_arguments(parser, "with --device: an MQTT 5 broker")


def run(args: argparse.Namespace) -> int:
    """Publishes, promotes or undoes, then sets what the devices are to run, and says what an agent needs."""
    instead = args.refresh or args.promote is not None or args.undo is not None
    if (args.bundle is None) != instead:
        raise UsageError("give a BUNDLE to publish, or one of --promote N, --undo N and --refresh")
    if bool(args.device) != has_broker(args):
        raise UsageError("--device and a broker (--broker or --workers) belong together: give both or none")
    broker = broker_config(args, HOME) if args.device else None
    devices = [_device(text) for text in args.device]
    repository = Repository(args.repository, args.keys)
    release = _release(repository, args)
    say = sys.stdout.write
    by = " and ".join(sorted(release.roles))
    say(f"release {release.number}: {release.target}, sha256 {release.sha256}, signed by {by}\n")
    say(f"trust root: {repository.trust_root} (walt-edge run --updates URL --trust root.json)\n")
    for line in repository.warnings():
        sys.stderr.write(f"walt-loop: {line}\n")
    if broker:
        desired = Desired(release=release.number, target=release.target, sha256=release.sha256)
        set_desired(broker, devices, desired)
        say(f"desired: {', '.join(args.device)}\n")
    return 0


def _release(repository: Repository, args: argparse.Namespace) -> Release:
    if args.bundle is not None:
        return repository.publish(args.bundle, args.role)
    if args.promote is not None:
        return repository.promote(_numbered(repository, args.promote))
    if args.undo is not None:
        return repository.undo(_numbered(repository, args.undo), args.role)
    repository.refresh()
    newest = repository.newest()
    if newest is None:
        raise PublishError(f"{args.repository} is signed anew, and has no release yet: publish a bundle")
    return newest


def _numbered(repository: Repository, number: int) -> Release:
    found = repository.releases()
    release = next((one for one in found if one.number == number), None)
    if release is None:
        there = ", ".join(str(one.number) for one in found[:10]) or "none"
        raise UsageError(f"there is no release {number} (the newest are {there})")
    return release


def _device(text: str) -> DeviceTopics:
    site, slash, device = text.partition("/")
    if not slash:
        raise UsageError(f"--device '{text}' is not SITE/DEVICE, as the agent logs it at its start")
    return DeviceTopics(site, device)
