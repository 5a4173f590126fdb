"""`walt-loop ingest`: the broker's envelopes, exactly once, into the store."""

from __future__ import annotations

import argparse
import hashlib
import signal
import socket
from pathlib import Path
from types import FrameType

from walt_edge.contract.errors import UsageError
from walt_train.loop.ingest import Ingest, IngestConfig
from walt_train.loop.link import BrokerConfig, parse_address
from walt_train.loop.store import Store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's options."""
    parser.add_argument("--broker", required=True, metavar="HOST:PORT", help="an MQTT 5 broker")
    parser.add_argument("--store", required=True, type=Path, metavar="DIR", help="the store; made if absent")
    parser.add_argument("--group", default="ingest", help="workers of one share the load (default: %(default)s)")
    parser.add_argument("--client-id", metavar="ID", help="stable and unique (default: from the host and the store)")
    parser.add_argument("--ca", type=Path, metavar="FILE", help="certificate authority; turns TLS on")
    parser.add_argument("--cert", type=Path, metavar="FILE", help="our certificate, for mutual TLS")
    parser.add_argument("--key", type=Path, metavar="FILE", help="its key")
    parser.add_argument(
        "--expiry-s", type=int, default=600, help="how long the broker keeps our session (default: %(default)s)"
    )
    parser.add_argument(
        "--patience-s", type=float, default=120.0, help="how long to retry a full disk (default: %(default)s)"
    )
    parser.add_argument("--no-wait", action="store_true", help="fail at once if the broker is down at the start")


def run(args: argparse.Namespace) -> int:
    """Runs until SIGTERM or Ctrl-C; a group that has begun is finished first."""
    if (args.cert or args.key) and not args.ca:
        raise UsageError("--cert and --key need --ca, the certificate authority of the broker")
    if args.expiry_s < 1:
        raise UsageError(f"--expiry-s {args.expiry_s}: a session that ends at once loses messages; give 60 or more")
    host, port = parse_address(args.broker)
    broker = BrokerConfig(
        host=host,
        port=port,
        client_id=args.client_id or default_client_id(args.store),
        ca=args.ca,
        cert=args.cert,
        key=args.key,
        expiry_s=args.expiry_s,
    )
    config = IngestConfig(
        broker=broker, group=args.group, wait_for_broker=not args.no_wait, storage_patience_s=args.patience_s
    )
    with Store(args.store) as store:
        ingest = Ingest(store, config)

        def stop(signum: int, frame: FrameType | None) -> None:
            ingest.stop()

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        ingest.run()
    return 0


def default_client_id(store: Path) -> str:
    """The same for the same store on the same host, and for no other."""
    digest = hashlib.sha256(str(store.resolve()).encode()).hexdigest()[:8]
    return f"walt-ingest-{socket.gethostname()[:40]}-{digest}"
