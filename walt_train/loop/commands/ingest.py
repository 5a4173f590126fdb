"""`walt-loop ingest`: the broker's envelopes, exactly once, into the store."""

from __future__ import annotations

import argparse
import logging
import signal
import threading
import time
from contextlib import ExitStack
from types import FrameType

from walt_edge.contract.errors import UsageError
from walt_edge.contract.messages import AckState
from walt_train.loop.admission.arguments import add_admission_argument, admission_policy
from walt_train.loop.admission.policy import Policy
from walt_train.loop.broker.arguments import (
    INGEST,
    add_broker_arguments,
    broker_config,
    default_client_id,
    shared_group,
)
from walt_train.loop.commands.fleet import add_fleet_arguments, begin_watch
from walt_train.loop.fleet.enrolled import Enrolled
from walt_train.loop.ingest.ingest import Ingest, IngestConfig
from walt_train.loop.store.arguments import add_store_arguments, store_config
from walt_train.loop.store.config import StoreConfig
from walt_train.loop.store.store import Store, StoreWriteError

LOGGER = logging.getLogger(__name__)
_OPEN_RETRY_S = 2.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's options."""
    add_broker_arguments(parser)
    add_store_arguments(parser, "the store; made if absent")
    parser.add_argument("--group", help="workers of one share the load (default: as --workers says, else ingest)")
    parser.add_argument("--client-id", metavar="ID", help="stable and unique (default: from the host and the store)")
    parser.add_argument(
        "--expiry-s", type=int, default=600, help="how long the broker keeps our session (default: %(default)s)"
    )
    parser.add_argument(
        "--patience-s",
        type=float,
        default=120.0,
        help="how long to retry a store that is full or down (default: %(default)s)",
    )
    add_admission_argument(parser)
    add_fleet_arguments(parser)
    parser.add_argument("--no-wait", action="store_true", help="fail at once if the broker is down at the start")


def run(args: argparse.Namespace) -> int:
    """Runs until SIGTERM or Ctrl-C; a group that has begun is finished first."""
    if args.expiry_s < 1:
        raise UsageError(f"--expiry-s {args.expiry_s}: a session that ends at once loses messages; give 60 or more")
    where = store_config(args, makes=True)
    config = _config(args, where)
    stopping = threading.Event()
    ingests: list[Ingest] = []

    def stop(signum: int, frame: FrameType | None) -> None:
        stopping.set()
        for ingest in ingests:
            ingest.stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    store = _open_patiently(where, args.patience_s, stopping)
    if store is None:
        return 0
    with ExitStack() as stack:
        stack.enter_context(store)
        ingest = Ingest(store, config)
        ingests.append(ingest)
        _listen_to_the_fleet(args, store, stack, ingest, config.policy)
        if not stopping.is_set():
            ingest.run()
    return 0


def _config(args: argparse.Namespace, where: StoreConfig) -> IngestConfig:
    broker = broker_config(args, INGEST, args.client_id or default_client_id(where, "ingest"), args.expiry_s)
    return IngestConfig(
        broker=broker,
        group=shared_group(args),
        wait_for_broker=not args.no_wait,
        storage_patience_s=args.patience_s,
        policy=admission_policy(args),
    )


def _listen_to_the_fleet(
    args: argparse.Namespace, store: Store, stack: ExitStack, ingest: Ingest, policy: Policy
) -> None:
    """One process does all on a laptop; on a cluster one of the workers listens, and the others stand by."""
    if args.cert:
        # An ingest's own certificate reads envelopes alone; the folder of --workers holds the other as well.
        LOGGER.info("not listening to the fleet with --cert: give --workers DIR, or run walt-loop fleet watch")
        return
    known = Enrolled(store.engine) if policy is Policy.ENROLLED else None

    def ingested() -> dict[str, int]:
        return {state.value: ingest.tally.states[state] for state in AckState}

    begin_watch(args, store, stack, is_known=known, ingested=ingested)


def _open_patiently(where: StoreConfig, patience_s: float, stopping: threading.Event) -> Store | None:
    """Opens the store, waiting for one that is down; None if asked to stop meanwhile; raises StoreWriteError."""
    since_s, said = time.monotonic(), False
    while not stopping.is_set():
        try:
            return Store(where)
        except StoreWriteError as error:
            # A folder that cannot be made will not be by waiting; a server that is down may come.
            if where.database_file is not None or time.monotonic() - since_s >= patience_s:
                raise
            LOGGER.log(logging.DEBUG if said else logging.WARNING, "%s: trying again until it answers", error)
            said = True
        stopping.wait(_OPEN_RETRY_S)
    return None
