"""`walt-loop resend`: after a restore, asks devices for what they still hold of what the store has lost.

A device keeps what was acknowledged until it needs the space. What the store still has comes again and is answered as
a duplicate. What was deleted after the copy was made keeps its tombstone in one of `walt-loop backup`; in any other
it has lost it: delete it again before this.
"""

from __future__ import annotations

import argparse
import sys
import time
import uuid
from datetime import UTC, datetime

from walt_edge.contract.errors import UsageError
from walt_edge.contract.messages import Resend, encode_json
from walt_edge.contract.topics import DeviceTopics
from walt_train.loop.broker.arguments import HOME, add_broker_arguments, broker_config
from walt_train.loop.broker.connection import BrokerError
from walt_train.loop.broker.retained import known_devices, publish_retained


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's options."""
    add = parser.add_argument
    add(
        "--since", required=True, metavar="TIME", help="of the copy, as in 2026-11-23T06:00 (UTC if it names no zone)"
    )
    add("--device", action="append", default=[], metavar="SITE/DEVICE", help="may be repeated (default: all)")
    add_broker_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Leaves a retained request for each device; those that are away follow it when they are back."""
    broker = broker_config(args, HOME)
    since_utc_us = parse_time(args.since)
    devices = [DeviceTopics.parse(text) for text in args.device] or known_devices(broker)
    if not devices:
        raise BrokerError(f"broker {broker.address} knows no device: name it with --device SITE/DEVICE")
    payload = encode_json(Resend(since_utc_us=since_utc_us, nonce=uuid.uuid4().hex))
    publish_retained(broker, {one.resend: payload for one in devices}, "the request to send again")
    names = ", ".join(f"{one.site}/{one.device}" for one in devices)
    sys.stdout.write(f"asked {names} for what home had since {args.since}; walt-loop store shows it come\n")
    return 0


def parse_time(text: str, option: str = "--since") -> int:
    """Microseconds since 1970 of a time in ISO 8601, UTC unless it names a zone; raises UsageError."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"{option} '{text}' is no time as in 2026-11-23T06:00: {error}") from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    since_us = int(moment.timestamp() * 1_000_000)
    if not 0 <= since_us <= time.time_ns() // 1000:
        raise UsageError(f"{option} '{text}' is not between 1970 and now")
    return since_us
