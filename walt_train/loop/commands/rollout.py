"""`walt-loop rollout`: which releases are on their way to whom, and a person's decisions about them."""

from __future__ import annotations

import argparse
import getpass
import signal
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

import msgspec

from walt_edge.contract.bundle import Bundle
from walt_edge.contract.errors import UsageError
from walt_edge.contract.topics import DeviceTopics
from walt_train.loop.broker.arguments import HOME, add_broker_arguments, broker_config, has_broker
from walt_train.loop.publish.repository import Repository
from walt_train.loop.rollout.engine import RolloutEngine
from walt_train.loop.rollout.model import CANARY, HOUR_S, Plan, Rollout
from walt_train.loop.rollout.rollouts import Rollouts, device_states
from walt_train.loop.serve.rollout import by_mqtt
from walt_train.loop.store.arguments import add_store_arguments, open_store
from walt_train.loop.store.store import Store

_ACTIONS = ("list", "show", "start", "pause", "resume", "abort", "rollback", "run")
_EVERY_S = 1.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's options."""
    add = parser.add_argument
    add("action", nargs="?", default="list", choices=_ACTIONS, help="what to do (default: %(default)s)")
    add("what", nargs="?", metavar="ID|BUNDLE", help="which rollout; of start: the bundle; not of list and run")
    add_store_arguments(parser, "home's store, with what its fleet has told")
    add("--reason", default="", help="why: of abort and rollback; it stands in the history")
    add("--limit", type=int, default=20, metavar="N", help="of list: at most so many (default: %(default)s)")
    start = parser.add_argument_group("start")
    start.add_argument(
        "--device", action="append", default=[], metavar="SITE/DEVICE", help="shall run it; repeatable"
    )
    start.add_argument("--all", action="store_true", help="every device that the fleet's watch has heard")
    start.add_argument("--canary", type=int, metavar="N", help="so many first (default: 1 %%, 20 at most)")
    start.add_argument("--observe-hours", type=float, metavar="H", help="each stage at least (default: 1 to 2)")
    start.add_argument("--plan", type=Path, metavar="FILE", help="a plan as JSON, instead of the usual one")
    driving = parser.add_argument_group("start and run")
    driving.add_argument("--home", type=Path, metavar="DIR", help="holds the repository and the keys")
    add_broker_arguments(parser, "of run: an MQTT 5 broker, which tells the devices")


def run(args: argparse.Namespace) -> int:
    """Lists, shows, or does what was decided."""
    if (args.what is None) == (args.action not in ("list", "run")):
        raise UsageError("list and run take nothing more, start takes a BUNDLE, the others the ID of a rollout")
    does: dict[str, Callable[[Store, argparse.Namespace], str]] = {
        "list": _list,
        "show": _show,
        "start": _start,
        "run": _run,
    }
    with open_store(args) as store:
        sys.stdout.write(does.get(args.action, _decide)(store, args))
    return 0


def _list(store: Store, args: argparse.Namespace) -> str:
    found = Rollouts(store.engine).all(limit=args.limit)
    if not found:
        return "no rollout yet: walt-loop rollout start BUNDLE --all begins one\n"
    return "".join(f"{_row(one)}\n" for one in found)


def _show(store: Store, args: argparse.Namespace) -> str:
    one = Rollouts(store.engine).read(_number(args.what))
    lines = [_row(one), f"begun by {one.by}, {_when(one.created_us)}", ""]
    for cohort in one.cohorts:
        undone = sum(member.undone_us is not None for member in cohort.members)
        running = sum(member.running_us is not None for member in cohort.members)
        lines.append(
            f"{cohort.name:8} {len(cohort.members):6} devices, {cohort.touched} told, {running} have run it, "
            f"{undone} taken back"
        )
    if one.is_open:
        lines += [
            "",
            *(f"{finding.signal:12} {finding.verdict:10} {finding.line}" for finding in one.evidence.findings),
        ]
    lines += ["", *(f"{_when(event.at_us)}  {event.what:12} {event.by}: {event.detail}" for event in one.events)]
    return "\n".join(lines) + "\n"


def _start(store: Store, args: argparse.Namespace) -> str:
    """Signs a bundle for canaries and creates its rollout; whoever drives rollouts does the rest."""
    if args.home is None:
        raise UsageError("start signs the bundle: give --home, which holds the repository and the keys")
    if bool(args.device) == args.all:
        raise UsageError("name devices by --device SITE/DEVICE, or all of them by --all")
    known = [DeviceTopics(*who) for who in sorted(device_states(store.engine))] if args.all else []
    devices = known or [DeviceTopics.parse(text) for text in args.device]
    if not devices:
        raise UsageError("the fleet's watch has heard no device yet: name them by --device SITE/DEVICE")
    plan = _plan(args, len(devices))
    bundle = Path(args.what)
    repository = Repository(args.home / "repository", args.home / "keys")
    name = Bundle.read(bundle).manifest.name
    release = repository.publish(bundle, role="canary")
    made = Rollouts(store.engine).create(release, devices, getpass.getuser(), plan=plan, name=name)
    return f"{_row(made)}\nwalt-loop serve drives it, or: walt-loop rollout run\n"


def _plan(args: argparse.Namespace, devices: int) -> Plan:
    if args.plan is not None:
        try:
            plan = msgspec.json.decode(args.plan.read_bytes(), type=Plan)
        except (OSError, msgspec.DecodeError) as error:
            raise UsageError(f"--plan {args.plan}: {error}") from error
    else:
        plan = Plan.of(devices)
    stages = list(plan.stages)
    if args.canary is not None:
        if args.canary < 1:
            raise UsageError(f"--canary {args.canary}: give at least 1")
        stages = [
            msgspec.structs.replace(one, share=1.0, most=args.canary) if one.name == CANARY else one for one in stages
        ]
    if args.observe_hours is not None:
        if not 0 < args.observe_hours <= 24 * 30:
            raise UsageError(f"--observe-hours {args.observe_hours}: give more than 0, at most 720")
        stages = [msgspec.structs.replace(one, observe_s=args.observe_hours * HOUR_S) for one in stages]
    return msgspec.structs.replace(plan, stages=tuple(stages))


def _decide(store: Store, args: argparse.Namespace) -> str:
    """A person's word: pause, resume, abort, rollback."""
    rollouts, number, who = Rollouts(store.engine), _number(args.what), getpass.getuser()
    if args.action in ("abort", "rollback") and not args.reason.strip():
        raise UsageError(
            f"{args.action} takes the release back from devices: give --reason, it stands in the history"
        )
    does = {
        "pause": rollouts.pause,
        "resume": rollouts.resume,
        "abort": rollouts.abort,
        "rollback": rollouts.rollback,
    }
    does[args.action](number, who, args.reason)
    return f"{_row(rollouts.read(number))}\n"


def _run(store: Store, args: argparse.Namespace) -> str:
    """Drives rollouts until SIGTERM or Ctrl-C."""
    if args.home is None or not has_broker(args):
        raise UsageError("run signs and tells: give --home, and --broker or --workers")
    stopping = threading.Event()

    def stop(signum: int, frame: FrameType | None) -> None:
        stopping.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    repository = Repository(args.home / "repository", args.home / "keys")
    RolloutEngine(store.engine, repository, by_mqtt(broker_config(args, HOME))).run(stopping, _EVERY_S)
    return ""


def _number(text: str) -> int:
    if not text.isdecimal():
        raise UsageError(f"'{text}' is no rollout's ID: walt-loop rollout list names them")
    return int(text)


def _row(one: Rollout) -> str:
    stage = f", {one.now.name}" if one.is_open else ""
    why = f": {one.detail}" if one.detail else ""
    return f"{one.id}  release {one.release} ({one.name})  {one.state}{stage}{why}"


def _when(at_us: int) -> str:
    return f"{datetime.fromtimestamp(at_us / 1e6, tz=UTC):%Y-%m-%d %H:%M:%S}"
