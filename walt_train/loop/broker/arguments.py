"""How every command is told where the broker is, and who it is there: by one folder, or by a file each."""

from __future__ import annotations

import argparse
import hashlib
import socket
from pathlib import Path
from typing import Final

from walt_edge.contract.errors import UsageError
from walt_train.loop.broker.connection import BrokerConfig, parse_address
from walt_train.loop.store.config import StoreConfig

INGEST: Final = "walt-ingest"
"""Reads envelopes and writes acknowledgements; nothing else."""
HOME: Final = "walt-home"
"""Reads what devices tell, and tells them what to run."""
ROLES: Final = (INGEST, HOME)

AUTHORITY_FILE: Final = "home-ca.pem"
GROUP_FILE: Final = "ingest-group"
ADDRESS_FILE: Final = "broker"
_GROUP: Final = "ingest"


def add_broker_arguments(parser: argparse._ActionsContainer, help_: str = "an MQTT 5 broker") -> None:
    """Declares how a command is told of the broker; `broker_config` reads it."""
    add = parser.add_argument
    add("--broker", metavar="HOST:PORT", help=f"{help_} (default: as --workers says)")
    add("--workers", type=Path, metavar="DIR", help="HOME/workers of walt-loop broker: address, certificates, names")
    add("--ca", type=Path, metavar="FILE", help="certificate authority of the broker; turns TLS on")
    add("--cert", type=Path, metavar="FILE", help="our certificate, for mutual TLS")
    add("--key", type=Path, metavar="FILE", help="its key")


def has_broker(args: argparse.Namespace) -> bool:
    """Whether a broker was named at all; raises UsageError for files that are given twice or by halves."""
    if (args.cert or args.key) and not args.ca:
        raise UsageError("--cert and --key need --ca, the certificate authority of the broker")
    if args.workers and args.ca:
        raise UsageError("--workers brings its own certificates: leave --ca, --cert and --key out")
    return bool(args.broker or args.workers)


def broker_config(args: argparse.Namespace, role: str, client_id: str = "", expiry_s: int = 600) -> BrokerConfig:
    """Where the broker is, and what is shown there.

    Args:
        args: Parsed by a parser that went through `add_broker_arguments`.
        role: One of `ROLES`: whose certificate is taken from `--workers`.
        client_id: See `BrokerConfig`; "" for who keeps no session.
        expiry_s: See `BrokerConfig`.

    Raises:
        UsageError: Nothing says where the broker is, the folder is none, or files are given twice or by halves.
    """
    if not has_broker(args):
        raise UsageError("where is the broker? Give --broker HOST:PORT, or --workers DIR of walt-loop broker")
    folder: Path | None = args.workers
    ca, cert, key = args.ca, args.cert, args.key
    if folder is not None:
        ca, cert = folder / AUTHORITY_FILE, folder / f"{role}.pem"
        key = cert
    host, port = parse_address(args.broker or _read(args.workers, ADDRESS_FILE))
    return BrokerConfig(host=host, port=port, client_id=client_id, ca=ca, cert=cert, key=key, expiry_s=expiry_s)


def default_client_id(where: StoreConfig, part: str) -> str:
    """The same for the same part of home, store and host, and for no other."""
    digest = hashlib.sha256(where.identity.encode()).hexdigest()[:8]
    return f"walt-{part}-{socket.gethostname()[:40]}-{digest}"


def shared_group(args: argparse.Namespace) -> str:
    """The name in which the ingest's workers share their load; raises UsageError.

    Whoever knows it can take turns of theirs, so that of `--workers` cannot be guessed.
    """
    if args.group:
        return str(args.group)
    return _read(args.workers, GROUP_FILE) if args.workers else _GROUP


def _read(folder: Path, name: str) -> str:
    try:
        return (folder / name).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"--workers {folder}: cannot read '{name}' there; walt-loop broker writes it to HOME/workers"
        ) from error
