"""`walt-edge run`: watch cameras and send what is seen whole to the broker."""

from __future__ import annotations

import argparse
import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from walt_edge.agent.core import run as run_agent
from walt_edge.agent.logs import configure
from walt_edge.agent.notify import Notifier
from walt_edge.contract.errors import UsageError
from walt_edge.settings.flags import add_config_arguments, sources
from walt_edge.settings.reload import Reloader

LOG = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    add_config_arguments(parser)
    add = parser.add_argument
    add("--frames", type=_positive_int, metavar="N", help="stop after N watched frames of each camera")
    add("--watch-config", action="store_true", help="read --config anew when it changes, as on SIGHUP")


def run(args: argparse.Namespace) -> int:
    """Watches until stopped, the sources end, or `--frames` were watched."""
    config = sources(args).load()
    if not config.cameras:
        raise UsageError("no camera: give --rtsp URL (or --input FILE), or cameras in --config FILE")
    configure(config)
    reloader = Reloader(sources(args), config, watch=args.watch_config)
    with _stopping_on_signals() as stop, _reloading_on_hangup(reloader), Notifier() as notifier:
        return run_agent(config, stop, args.frames, reloader, notifier)


@contextmanager
def _stopping_on_signals() -> Iterator[threading.Event]:
    """SIGTERM and Ctrl-C ask for an orderly end; the second of them ends at once."""
    stop = threading.Event()

    def ask(signum: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        LOG.info("stopping: finishing tracks; once more to stop at once")

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _reloading_on_hangup(reloader: Reloader) -> Iterator[None]:
    """SIGHUP asks for the configuration to be read anew."""

    def ask(signum: int, frame: FrameType | None) -> None:
        reloader.request()

    before = signal.signal(signal.SIGHUP, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


def _positive_int(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not 1 or more")
    return value
