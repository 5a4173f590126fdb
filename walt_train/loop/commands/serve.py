"""`walt-loop serve`: makes better models by itself, publishes them, and serves them to the agents."""

from __future__ import annotations

import argparse
import contextlib
import logging
import math
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from walt_edge.contract.errors import UsageError
from walt_edge.contract.topics import TopicError, check_name
from walt_train.loop.broker.arguments import HOME, add_broker_arguments, broker_config
from walt_train.loop.commands.keep import add_policy_arguments, policy_of
from walt_train.loop.gate.holdout import HoldoutError, Source, holdout_of
from walt_train.loop.gate.judging import Judging
from walt_train.loop.gate.rules import Rules as GateRules
from walt_train.loop.lineage.carry import Hands
from walt_train.loop.publish.files import BusyError
from walt_train.loop.publish.repository import Repository
from walt_train.loop.rollout.driving import Driving
from walt_train.loop.rollout.engine import RolloutEngine
from walt_train.loop.serve.duties import Duties, duties_of
from walt_train.loop.serve.http import HttpConfig, HttpServer, make_app, parse_listen
from walt_train.loop.serve.jobs import Jobs, now_us, worker_name
from walt_train.loop.serve.programs import Programs
from walt_train.loop.serve.rollout import Publishing, by_mqtt
from walt_train.loop.serve.runners.ray import RayRunner
from walt_train.loop.serve.steps import Workshop
from walt_train.loop.serve.tidy import LOG_DAYS
from walt_train.loop.serve.triggers.lookout import waiting
from walt_train.loop.serve.triggers.rules import Rules, Threshold
from walt_train.loop.serve.worker import Worker, WorkerConfig
from walt_train.loop.store.arguments import add_store_arguments, store_config
from walt_train.loop.store.store import Store

LOGGER = logging.getLogger(__name__)
_LOOPBACK = ("127.", "::1", "localhost")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's options."""
    add = parser.add_argument
    add_store_arguments(parser, "a store that walt-loop ingest fills")
    add("--home", required=True, type=Path, metavar="DIR", help="generations, repository and keys; made if absent")
    add_broker_arguments(parser, "an MQTT 5 broker, which tells the devices what to run")
    _add_training(parser)
    _add_triggers(parser)
    _add_judging(parser)
    add_policy_arguments(parser, "keep-")
    add("--http", default="127.0.0.1:0", metavar="HOST:PORT", help="serves the repository (default: %(default)s)")
    add("--tls-cert", type=Path, metavar="FILE", help="serves by HTTPS: certificate chain")
    add("--tls-key", type=Path, metavar="FILE", help="its key")
    add("--once", action="store_true", help="return when no work is left and a generation has ended")
    add("--retry-failed", action="store_true", help="first let generations that failed go on where they did")
    add("--lease-s", type=float, default=30.0, metavar="S", help="a worker silent so long is dead (default: 30)")
    add("--retry-s", type=float, default=15.0, metavar="S", help="wait before a second attempt (default: 15)")


def _add_training(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--recipe", default="demo", help="of walt-train (default: %(default)s)")
    add("--steps", type=int, metavar="N", help="optimiser steps (default: what the recipe says)")
    add("--seed", type=int, default=0, metavar="S", help="of the training (default: %(default)s)")
    add("--gpus", type=int, default=0, metavar="N", help="for training; 0 = the processor (default)")
    add(
        "--ray",
        default="",
        metavar="URL",
        help="job server of a Ray cluster that shares --home, http://HEAD:8265: trains and exports there",
    )
    add("--ray-token", type=Path, metavar="FILE", help="that cluster's token, where it asks for one")
    add(
        "--log-days",
        type=float,
        default=LOG_DAYS,
        metavar="D",
        help="keep logs of ended generations (default: %(default)g)",
    )


def _add_triggers(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("when a camera's next generation begins").add_argument
    add(
        "--min-crops",
        type=int,
        default=50,
        metavar="N",
        help="crops at new places and in new poses (default: %(default)s)",
    )
    add("--min-tracks", type=int, default=20, metavar="N", help="new objects that they show (default: %(default)s)")
    add("--every-days", type=float, metavar="D", help="begin one so long after the last, if anything is new")
    add("--pause-hours", type=float, default=0.0, metavar="H", help="least time between two of a camera (default: 0)")
    add("--a-day", type=int, metavar="N", help="how many the fleet may begin in 24 hours; who gains most is first")
    add(
        "--rest-hours",
        type=float,
        default=1.0,
        metavar="H",
        help="wait after one that failed, doubled with each in a row (default: %(default)g)",
    )


def _add_judging(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--truth",
        action="append",
        default=[],
        metavar="[CAMERA=]DIR",
        help="a frozen holdout (walt-loop holdout) that judges a camera's models; without a name, the only camera's; "
        "may be repeated",
    )
    add("--gain", type=float, default=5.0, metavar="P", help="points above generation 0 (default: %(default)s)")
    add("--slower", type=float, default=1.5, metavar="F", help="times the champion's time, at most (%(default)s)")
    add("--publish-unjudged", action="store_true", help="publish where there is no truth to judge by")


def run(args: argparse.Namespace) -> int:
    """Works and serves until SIGTERM or Ctrl-C."""
    where = store_config(args)
    _check(args)
    # Machines of a cluster do not share our working folder.
    home: Path = args.home.resolve() if args.ray else args.home
    judging = _judging(args)
    policy = policy_of(args.keep_days, args.keep_gb)
    programs = Programs.installed(args.gpus)
    runner = RayRunner(args.ray, home, args.gpus, token_file=args.ray_token) if args.ray else None
    broker = broker_config(args, HOME)
    host, port = parse_listen(args.http)
    http = HttpConfig(host=host, port=port, tls_cert=args.tls_cert, tls_key=args.tls_key)
    repository = Repository(home / "repository", home / "keys")
    # Another worker of this home that starts at the same moment does the same.
    with contextlib.suppress(BusyError):
        repository.begin()
    with Store(where) as store:
        jobs = Jobs(store.engine, owner=worker_name(), lease_s=args.lease_s)
        for failed in jobs.reopen() if args.retry_failed else ():
            LOGGER.info("%s goes on; it had failed: %s", failed.title, failed.reason)
        tell = by_mqtt(broker)
        rollouts = RolloutEngine(store.engine, repository, tell)
        publishing, hands = Publishing(repository, rollouts), Hands(store, jobs, home, repository, tell)
        at_work = programs if runner is None else programs.elsewhere()
        workshop = Workshop(store, home, jobs, at_work, publishing, judging, runner)
        worker = Worker(store, jobs, workshop, _config(args, home), keep=publishing.keep)

        def stop(signum: int, frame: FrameType | None) -> None:
            worker.stop()

        with HttpServer(make_app(home / "repository", jobs.all, lambda: waiting(store.engine)), http) as server:
            signal.signal(signal.SIGTERM, stop)
            signal.signal(signal.SIGINT, stop)
            _announce(server.url, host, args.tls_cert)
            with Driving(rollouts), Duties(duties_of(hands, policy, runner, args.log_days)):
                worker.run()
    return 0


def _announce(url: str, host: str, tls_cert: Path | None) -> None:
    sys.stdout.write(f"{url}\n")
    sys.stdout.flush()
    if not host.startswith(_LOOPBACK) and tls_cert is None:
        LOGGER.warning("%s is open to the network and not encrypted: releases are signed, /api/v1 is not", url)


def _check(args: argparse.Namespace) -> None:
    if bool(args.tls_cert) != bool(args.tls_key):
        raise UsageError("--tls-cert and --tls-key go together")
    least = {"--min-crops": args.min_crops, "--min-tracks": args.min_tracks, "--steps": args.steps}
    least |= {"--a-day": args.a_day}
    for option, value in least.items():
        if value is not None and value < 1:
            raise UsageError(f"{option} {value}: give at least 1")
    if not all(map(math.isfinite, (args.lease_s, args.retry_s, args.gain, args.slower))):
        raise UsageError("--lease-s, --retry-s, --gain and --slower must be finite numbers")
    spans = {"--pause-hours": args.pause_hours, "--rest-hours": args.rest_hours, "--log-days": args.log_days}
    for option, value in (spans | {"--every-days": args.every_days or 0.0}).items():
        if not 0 <= value < math.inf:
            raise UsageError(f"{option} {value}: give 0 or more")
    if args.rest_hours <= 0:
        raise UsageError("--rest-hours must be positive: what fails would begin again at once, for ever")
    if args.lease_s <= 0 or args.retry_s < 0:
        raise UsageError("--lease-s must be positive, --retry-s 0 or more")
    if args.seed < 0 or args.gpus < 0:
        raise UsageError("--seed and --gpus must be 0 or more")


def _judging(args: argparse.Namespace) -> Judging:
    truths, only = split_truths(args.truth)
    for folder in [folder for folders in [*truths.values(), only] for folder in folders]:
        if not (folder / "annotations.json").is_file():
            raise UsageError(f"--truth {folder} holds no annotations.json: give a COCO folder with exact layers")
        try:
            holdout = holdout_of(folder, now_us())
        except HoldoutError as error:
            raise UsageError(f"--truth {folder}: {error}") from error
        if holdout.source is Source.MODEL:
            raise UsageError(f"--truth {folder}: its labels are a model's ({holdout.made_by}), which never judge")
    rules = GateRules(gain_points=args.gain, latency_factor=args.slower)
    return Judging(truths=truths, only_truths=only, rules=rules, publish_unjudged=args.publish_unjudged)


def split_truths(words: Sequence[str]) -> tuple[dict[str, list[Path]], list[Path]]:
    """Splits [CAMERA=]DIR: folders by camera, and those without a name."""
    truths: dict[str, list[Path]] = {}
    only: list[Path] = []
    for word in words:
        camera, equals, folder = word.partition("=")
        if not equals or "/" in camera:
            only.append(Path(word))
            continue
        try:
            truths.setdefault(check_name(camera, "camera"), []).append(Path(folder))
        except TopicError as error:
            raise UsageError(f"--truth {word}: {error}") from error
    return truths, only


def _config(args: argparse.Namespace, home: Path) -> WorkerConfig:
    return WorkerConfig(
        home=home,
        recipe=args.recipe,
        seed=args.seed,
        training_steps=args.steps,
        rules=Rules(
            threshold=Threshold(crops=args.min_crops, tracks=args.min_tracks),
            every_days=args.every_days,
            pause_s=args.pause_hours * 3600.0,
            back_off_s=args.rest_hours * 3600.0,
            a_day=args.a_day,
        ),
        once=args.once,
        retry_s=args.retry_s,
        lease_s=args.lease_s,
    )
