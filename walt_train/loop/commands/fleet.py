"""`walt-loop fleet`: which devices there are, how they are, and what to do about those that are not well."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

import msgspec

from walt_train.loop.admission.arguments import add_admission_argument, admission_policy
from walt_train.loop.admission.policy import Policy
from walt_train.loop.broker.arguments import HOME, add_broker_arguments, broker_config, default_client_id
from walt_train.loop.broker.connection import BrokerConfig, parse_address
from walt_train.loop.fleet.enrolled import Enrolled
from walt_train.loop.fleet.fleet import anybody
from walt_train.loop.fleet.keeping import load
from walt_train.loop.fleet.listing import as_json, is_urgent, render, sorted_alerts
from walt_train.loop.fleet.metrics import CAMERAS_MOST, Figures, MetricsServer
from walt_train.loop.fleet.rules import Rules, load_rules
from walt_train.loop.fleet.watch import FleetWatch, WatchConfig
from walt_train.loop.store.arguments import add_store_arguments, open_store
from walt_train.loop.store.config import StoreConfig
from walt_train.loop.store.store import Store

_CLEAR_SCREEN = "\033[H\033[2J"
_AGAIN_S = 5.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's options."""
    parser.add_argument(
        "action",
        nargs="?",
        choices=("show", "watch"),
        default="show",
        help="show: print devices and alerts, exit 1 if one is urgent; watch: listen to the broker (default: show)",
    )
    add_store_arguments(parser)
    shown = parser.add_argument_group("show")
    shown.add_argument("--json", action="store_true", help="for programs")
    shown.add_argument("--watch", action="store_true", help="print again every few seconds, until Ctrl-C")
    heard = parser.add_argument_group("watch")
    add_broker_arguments(heard)
    heard.add_argument("--client-id", metavar="ID", help="stable and unique (default: from the host and the store)")
    add_admission_argument(heard)
    add_fleet_arguments(heard)


def add_fleet_arguments(parser: argparse._ActionsContainer) -> None:
    """Declares what every command has that listens to the fleet; see `begin_watch`."""
    parser.add_argument("--rules", type=Path, metavar="FILE", help="thresholds and webhook, YAML (default: built in)")
    parser.add_argument(
        "--metrics", metavar="HOST:PORT", help="serve Prometheus there, without a password: 127.0.0.1:9464"
    )
    parser.add_argument(
        "--metrics-cameras",
        type=int,
        default=CAMERAS_MOST,
        metavar="N",
        help="above N cameras none is shown by itself (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Shows the fleet, or listens to it until SIGTERM or Ctrl-C."""
    if args.action == "watch":
        return _listen(args)
    with open_store(args) as store:
        while True:
            snapshot, now_us = load(store.engine), time.time_ns() // 1000
            if args.json:
                text = msgspec.json.encode(as_json(snapshot, now_us)).decode() + "\n"
            else:
                text = render(snapshot, now_us)
            sys.stdout.write(_CLEAR_SCREEN + text if args.watch and not args.json else text)
            sys.stdout.flush()
            if not args.watch:
                return int(any(is_urgent(subject) for subject, _ in sorted_alerts(snapshot)))
            time.sleep(_AGAIN_S)


def begin_watch(
    args: argparse.Namespace,
    store: Store,
    stack: ExitStack,
    *,
    is_known: Callable[[str, str], bool] | None = None,
    ingested: Callable[[], dict[str, int]] | None = None,
) -> FleetWatch:
    """A watch that has begun, with its metrics where they are wanted; both end with `stack`.

    Args:
        args: Parsed by a parser that has a broker's options and went through `add_fleet_arguments`.
        store: Open.
        stack: Ends what is begun here.
        is_known: Whether a device belongs to the fleet; None: whoever the broker lets in.
        ingested: What became of envelopes so far, for the metrics.

    Raises:
        UsageError: Rules or addresses are wrong.
    """
    rules = load_rules(args.rules) if args.rules is not None else Rules()
    where = store.config
    folder = where.blob_folder or (where.database_file.parent if where.database_file else None)
    config = WatchConfig(rules=rules, folder=folder, is_known=is_known or anybody)
    watch = FleetWatch(store.engine, _broker(args, where), config)
    if args.metrics:
        host, port = parse_address(args.metrics)
        figures = Figures(watch.fleet, lambda: watch.home, lambda: watch.alerts, ingested, args.metrics_cameras)
        server = MetricsServer(figures, host, port)
        server.start()
        stack.callback(server.stop)
    watch.start()
    stack.callback(watch.stop)
    return watch


def _listen(args: argparse.Namespace) -> int:
    stopping = threading.Event()

    def stop(signum: int, frame: FrameType | None) -> None:
        stopping.set()

    with ExitStack() as stack:
        store = stack.enter_context(open_store(args, makes=True))
        is_closed = admission_policy(args) is Policy.ENROLLED
        begin_watch(args, store, stack, is_known=Enrolled(store.engine) if is_closed else None)
        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        stopping.wait()
    return 0


def _broker(args: argparse.Namespace, where: StoreConfig) -> BrokerConfig:
    # Not the ingest's own name, which is its session's.
    name = f"{args.client_id}-fleet" if args.client_id else default_client_id(where, "fleet")
    return broker_config(args, HOME, name)
