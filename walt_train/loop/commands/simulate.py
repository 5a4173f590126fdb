"""`walt-loop simulate`: thousands of devices with the real protocol, for planning and for tests."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
from pathlib import Path
from typing import NoReturn

import msgspec
from tqdm import tqdm

from walt_edge.contract.closing import Closing
from walt_edge.contract.errors import UsageError
from walt_edge.contract.topics import check_name
from walt_train.loop.admission.admission import REFRESH_S
from walt_train.loop.broker.connection import parse_address
from walt_train.loop.identity.registry import Registry
from walt_train.loop.identity.upkeep import Household
from walt_train.loop.simulate.audit import audit
from walt_train.loop.simulate.credentials import Issuer
from walt_train.loop.simulate.fleet import Fleet, Story
from walt_train.loop.simulate.outcome import Outcome
from walt_train.loop.simulate.planning import add_plan_arguments, run_plan
from walt_train.loop.simulate.window import Times
from walt_train.loop.store.arguments import add_store_arguments, store_config
from walt_train.loop.store.store import Store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's options."""
    parser.add_argument("--broker", metavar="HOST:PORT", help="an MQTT 5 broker of your own")
    parser.add_argument(
        "--home",
        type=Path,
        metavar="DIR",
        help="home's authorities: every device gets a certificate (default: no TLS)",
    )
    what = parser.add_argument_group("what the fleet does")
    what.add_argument("--devices", type=int, default=100, metavar="N", help="how many (%(default)s)")
    what.add_argument(
        "--crops-per-second", type=float, default=10.0, metavar="R", help="of the whole fleet (%(default)s)"
    )
    what.add_argument("--crop-kb", type=float, default=60.0, metavar="KB", help="size of a picture (%(default)s)")
    what.add_argument("--telemetry-s", type=float, default=60.0, metavar="S", help="between two (%(default)s)")
    what.add_argument(
        "--seconds", type=float, default=60.0, metavar="S", help="how long it sees things (%(default)s)"
    )
    what.add_argument("--site", default="sim", help="of all devices; begins their names (%(default)s)")
    what.add_argument("--seed", type=int, default=1)
    trouble = parser.add_argument_group("trouble")
    held = trouble.add_mutually_exclusive_group()
    held.add_argument("--outage-s", type=float, metavar="S", help="devices hold what they saw in an outage this long")
    held.add_argument("--backlog", type=int, default=0, metavar="N", help="devices hold this many crops each")
    trouble.add_argument("--cut-at-s", type=float, metavar="S", help="all connections break at once, after S seconds")
    trouble.add_argument(
        "--hostile", type=int, default=0, metavar="N", help="devices that send what nobody must believe"
    )
    trouble.add_argument("--hostile-per-second", type=float, default=5.0, metavar="R", help="of each (%(default)s)")
    times = parser.add_argument_group("a device's times")
    real = Times()
    times.add_argument("--window", type=int, default=real.window, metavar="N", help="crops unanswered (%(default)s)")
    times.add_argument(
        "--ack-timeout-s", type=float, default=real.ack_timeout_s, metavar="S", help="then sent again (%(default)s)"
    )
    times.add_argument(
        "--reconnect-max-s", type=float, default=real.reconnect_max_s, metavar="S", help="longest pause (%(default)s)"
    )
    times.add_argument(
        "--ramp-s", type=float, default=0.0, metavar="S", help="first attempts spread over (%(default)s)"
    )
    times.add_argument(
        "--patience-s", type=float, default=120.0, metavar="S", help="wait for home at the end (%(default)s)"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="the outcome as JSON")
    add_plan_arguments(parser)
    add_store_arguments(parser, "home's store: devices are enrolled in it, and it is looked at in the end")


def run(args: argparse.Namespace) -> int:
    """Plays the story; Ctrl-C or SIGTERM once: bring home what waits, twice: end. Status 1 if anything is wrong."""
    if args.plan is not None:
        return run_plan(args)
    if args.broker is None:
        raise UsageError("give --broker HOST:PORT to play, or --plan CAMERAS to calculate")
    story, door = _story(args), parse_address(args.broker)
    where = store_config(args) if args.store or args.database else None
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(Store(where)) if where else None
        told = stack.enter_context(_Progress())
        fleet = Fleet(story, door, told=told)
        if args.home:
            household = Household.open(args.home)
            registry = Registry(store.engine) if store else None
            issuer = stack.enter_context(Issuer(household.authority, registry))
            ear_door = (household.address.workers_host, household.address.workers_port)
            fleet = Fleet(story, door, issuer.device, ear_door, issuer.home(), told)
        outcome = asyncio.run(_play(fleet))
        if store:
            lost, doubled = audit(store.engine, fleet.boot_id, fleet.ledger)
            outcome = msgspec.structs.replace(outcome, lost=lost, doubled=doubled)
    for line in outcome.lines():
        tqdm.write(line)
    if args.out:
        args.out.write_bytes(msgspec.json.format(msgspec.json.encode(outcome)) + b"\n")
    return 0 if outcome.flawless else 1


async def _play(fleet: Fleet) -> Outcome:
    loop, playing = asyncio.get_running_loop(), asyncio.current_task()
    assert playing is not None

    def stop(signum: int) -> None:
        fleet.stop()
        loop.add_signal_handler(signum, playing.cancel)

    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, stop, signum)
    try:
        return await fleet.play()
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


def _story(args: argparse.Namespace) -> Story:
    if args.devices < 1 or args.crops_per_second < 0 or args.seconds < 0:
        raise UsageError("--devices must be at least 1, --crops-per-second and --seconds at least 0")
    times = Times(
        window=args.window,
        ack_timeout_s=args.ack_timeout_s,
        reconnect_min_s=min(Times().reconnect_min_s, args.reconnect_max_s),
        reconnect_max_s=args.reconnect_max_s,
        telemetry_s=args.telemetry_s,
    )
    outage_s = args.outage_s or 0.0
    return Story(
        devices=args.devices,
        crops_per_second=args.crops_per_second,
        crop_kb=args.crop_kb,
        seconds=args.seconds,
        backlog=args.backlog or round(outage_s * args.crops_per_second / args.devices),
        backlog_s=outage_s or 3600.0,
        cut_at_s=args.cut_at_s,
        hostile=args.hostile,
        hostile_per_second=args.hostile_per_second,
        settle_s=2 * REFRESH_S if args.home else 0.0,
        ramp_s=args.ramp_s,
        patience_s=args.patience_s,
        site=check_name(args.site, "--site"),
        times=times,
        seed=args.seed,
    )


class _Progress(Closing):
    """One bar for each phase."""

    def __init__(self) -> None:
        self._bar: tqdm[NoReturn] | None = None
        self._phase = ""

    def __call__(self, phase: str, done: float, all_: float) -> None:
        """Shows how far a phase is."""
        if phase != self._phase:
            self.close()
            self._phase = phase
            self._bar = tqdm(total=all_, desc=phase, bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed}")
        assert self._bar is not None
        self._bar.total = all_
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        """Ends the bar."""
        if self._bar is not None:
            self._bar.close()
