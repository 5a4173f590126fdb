"""`walt-loop publish`: signs a bundle, and tells devices to take it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from walt_edge.contract.errors import UsageError
from walt_edge.contract.messages import Desired
from walt_edge.contract.topics import DeviceTopics
from walt_train.loop.broker.arguments import HOME, add_broker_arguments, broker_config, has_broker
from walt_train.loop.publish.desired import set_desired
from walt_train.loop.publish.repository import Release, Repository


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
    add(
        "--refresh",
        action="store_true",
        help="without a BUNDLE: sign what is there anew (weekly; it expires in 30 days)",
    )
    add("--repository", required=True, type=Path, metavar="DIR", help="to be served by HTTP(S); made if absent")
    add("--keys", required=True, type=Path, metavar="DIR", help="private keys, kept elsewhere; made if absent")
    add("--device", action="append", default=[], metavar="SITE/DEVICE", help="shall run it; may be repeated")
    add_broker_arguments(parser, "with --device: an MQTT 5 broker")


def run(args: argparse.Namespace) -> int:
    """Publishes, then sets what the devices are to run, and says what an agent needs."""
    if (args.bundle is None) != args.refresh:
        raise UsageError("give a BUNDLE to publish, or --refresh to sign what is there anew")
    if bool(args.device) != has_broker(args):
        raise UsageError("--device and a broker (--broker or --workers) belong together: give both or none")
    broker = broker_config(args, HOME) if args.device else None
    devices = [_device(text) for text in args.device]
    repository = Repository(args.repository, args.keys)
    release = _release(repository, args.bundle)
    say = sys.stdout.write
    say(f"release {release.number}: {release.target}, sha256 {release.sha256}\n")
    say(f"trust root: {repository.trust_root} (walt-edge run --updates URL --trust root.json)\n")
    if broker:
        desired = Desired(release=release.number, target=release.target, sha256=release.sha256)
        set_desired(broker, devices, desired)
        say(f"desired: {', '.join(args.device)}\n")
    return 0


def _release(repository: Repository, bundle: Path | None) -> Release:
    if bundle is not None:
        return repository.publish(bundle)
    repository.refresh()
    newest = repository.newest()
    assert newest is not None
    return newest


def _device(text: str) -> DeviceTopics:
    site, slash, device = text.partition("/")
    if not slash:
        raise UsageError(f"--device '{text}' is not SITE/DEVICE, as the agent logs it at its start")
    return DeviceTopics(site, device)
