"""`walt-loop identity`: gives devices their certificates by HTTPS, and keeps the broker's files up to date."""

from __future__ import annotations

import argparse
import contextlib
import logging
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

from walt_train.loop.identity.desk import Desk
from walt_train.loop.identity.registry import Registry
from walt_train.loop.identity.service import make_app
from walt_train.loop.identity.upkeep import TURN_S, Household, Upkeep
from walt_train.loop.serve.http import HttpConfig, HttpServer
from walt_train.loop.store.arguments import add_store_arguments, store_config
from walt_train.loop.store.store import Store

LOGGER = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's options."""
    add = parser.add_argument
    add("--home", required=True, type=Path, metavar="DIR", help="where walt-loop broker keeps the authorities")
    add("--listen", default="0.0.0.0", metavar="ADDRESS", help="default: %(default)s")  # noqa: S104 (devices come)
    add_store_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Serves until SIGTERM or Ctrl-C."""
    household = Household.open(args.home)
    authority, address = household.authority, household.address
    stop = _stop_on_signals()
    with Store(store_config(args)) as store:
        registry = Registry(store.engine)
        upkeep = Upkeep(registry, household)
        upkeep.turn()
        config = HttpConfig(host=args.listen, port=address.enroll_port, tls_cert=household.server)
        with HttpServer(make_app(Desk(authority, registry, address)), config) as server:
            sys.stdout.write(f"{address.url}\n")
            sys.stdout.flush()
            while not stop.wait(TURN_S):
                if upkeep.turn():
                    with contextlib.suppress(OSError):  # the old certificate lasts for a while yet
                        server.reread_certificate()
    return 0


def _stop_on_signals() -> threading.Event:
    stop = threading.Event()

    def ask(signum: int, frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, ask)
    signal.signal(signal.SIGINT, ask)
    return stop
