"""What continuous retraining survives, and what looking for its triggers costs.

    python -m benchmarks.fleet_retraining --out docs/benchmarks/fleet_retraining.json

A real `walt-loop serve` on a real store, repository and broker makes generation after generation of many cameras,
with programs that do what the real ones do in a moment. It is killed with SIGKILL again and again: the process and
all that it has started, the process alone, or a program alone. Afterwards every clip art that was fed must have led
to one generation that ended once, and everything that is released must be what the gate let pass, as a device's own
client finds it. Then the triggers look at two thousand cameras with a million crops.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import psutil
from sqlalchemy import func, select

from benchmarks.fleet_looking import looking
from benchmarks.report import Report, Row, arguments
from tests.broker import Broker
from tests.material import ROOT
from tests.walt_train.loop.serve.loop import fill, truth
from tests.walt_train.loop.serve.serving import BROKEN
from walt_edge.contract.bundle import Bundle, BundleError
from walt_edge.contract.messages import Desired
from walt_edge.contract.processes import end_with
from walt_edge.update.errors import UpdateError
from walt_edge.update.trust import Trust
from walt_train.loop.lineage.tables import wishes
from walt_train.loop.rollout.tables import rollouts
from walt_train.loop.serve.generation import StepName
from walt_train.loop.serve.jobs import ENDED, Generation, Jobs, State
from walt_train.loop.store.store import Store
from walt_train.loop.store.tables import steps

BATCH = 40
"""Crops that a camera is fed at a time; no two cameras have as many, so that no two models are the same bytes."""
_FEEDS = 5
_AT_WORK = 3
_CAMERAS = 40
_REFUSED = 4
"""Every so many-th camera's models are no better than what they have to beat."""
_LEASE_S = 1.0
_OPEN_S = 60.0
_MOMENT_S = 2.0
_END_S = 240.0
_EVERYBODY, _ALONE = 0.5, 0.75


@dataclass(slots=True)
class Tally:
    """What was found.

    Attributes:
        kills: By whom they hit.
        fed: How often a camera was given enough for one more generation.
        runs: Generations that ended.
        releases: That a device's client can fetch.
        doubled: Generations too many, bundles released twice, rollouts begun twice.
        lost: What was fed and led to no generation that ended.
        half: Released, wished or told of, and not what the gate let pass, or not to be fetched.
        stuck: Leases that nobody gave back, and steps that do not fit their generation.
    """

    kills: Counter[str] = field(default_factory=Counter)
    fed: int = 0
    runs: int = 0
    releases: int = 0
    doubled: int = 0
    lost: int = 0
    half: int = 0
    stuck: int = 0
    states: Counter[str] = field(default_factory=Counter)


def main() -> None:
    """Measures, prints a table, writes JSON."""
    parser = arguments(__doc__)
    parser.add_argument("--kills", type=int, help="how many (default: 100, or 3 with --quick)")
    args = parser.parse_args()
    kills = args.kills or (3 if args.quick else 100)
    report = Report("fleet_retraining", {"kills": kills, "seed": args.seed})
    with tempfile.TemporaryDirectory(prefix="walt-retraining-") as folder:
        measure(report, Path(folder), quick=args.quick, kills=kills, seed=args.seed)
    report.finish(args.out)


def rows(quick: bool, folder: Path) -> list[Row]:
    """All figures.

    Args:
        quick: A few kills, and a smaller fleet.
        folder: Empty; holds what is made.
    """
    report = Report("fleet_retraining")
    measure(report, folder, quick=quick, kills=3 if quick else 100, seed=1)
    return report.rows


def measure(report: Report, folder: Path, *, quick: bool, kills: int, seed: int) -> None:
    """Adds all figures to a report."""
    began_s = time.monotonic()
    tally = killed(folder / "killed", kills, seed)
    report.add("serve killed at random moments: kills", tally.kills.total(), target=kills)
    for who, count in sorted(tally.kills.items()):
        report.add(f"  of these {who}", count)
    report.add("  generations that ended", tally.runs, target=1)
    report.add("  releases that a device's client verified", tally.releases)
    for what, value in (("doubled", tally.doubled), ("lost", tally.lost), ("half-published", tally.half)):
        report.add(f"  {what}", value, target=0, better="lower")
    report.add("  leases or steps that were left open", tally.stuck, target=0, better="lower")
    report.add("  it took", time.monotonic() - began_s, "s")
    looking(report, folder / "looking", *((200, 20_000) if quick else (2_000, 1_000_000)))


def killed(folder: Path, kills: int, seed: int, *, broken: bool = False) -> Tally:
    """Kills `walt-loop serve` so often, lets it end what is open, and counts.

    Args:
        folder: Made; holds everything.
        kills: How often.
        seed: Of moments and victims.
        broken: With a publisher that does not look first whether it has released something.
    """
    folder.mkdir(parents=True)
    chance = random.Random(seed)
    with Broker.start(folder) as broker, Store(folder / "store") as store:
        fleet = _Fleet(folder, store, broker.address, broken)
        while fleet.tally.kills.total() < kills:
            fleet.feed()
            with fleet.serving() as process:
                time.sleep(chance.uniform(0.0, fleet.moment_s))
                fleet.kill(process, chance)
        return fleet.end()


class _Fleet:
    """Cameras with clip art, and a home that makes models of it."""

    def __init__(self, folder: Path, store: Store, broker: str, broken: bool) -> None:
        self.tally = Tally()
        self.url, self.moment_s = "", _MOMENT_S
        self._folder, self._store, self._broker = folder, store, broker
        self._jobs = Jobs(store.engine, owner="reader")
        self._env = {**os.environ, "PYTHONPATH": str(ROOT)} | ({BROKEN: "1"} if broken else {})
        self._fed: Counter[str] = Counter()
        self._names = [f"cam-{number:02}" for number in range(_CAMERAS)]
        good = {f"0 {count}": 45.0 + count / 10 for count in range(BATCH, BATCH * (_FEEDS + 2))}
        truth(folder / "good", {"motion": 40.0, **good})
        truth(folder / "bad", {"motion": 99.0, **good})

    def feed(self) -> None:
        """Gives some cameras that wait enough for one more generation, so that there is always work."""
        latest = {one.camera: one for one in self._jobs.all()}
        waiting = [name for name in self._names if self._is_idle(name, latest.get(name))]
        at_work = sum(self._fed.values()) - sum(_made(latest.get(name)) for name in self._fed)
        for name in waiting[: max(0, _AT_WORK - at_work)]:
            begin, count = BATCH * self._fed[name], BATCH
            if not self._fed[name]:
                # No two cameras hold as much: two models of the same bytes would be one release.
                begin, count = BATCH * _FEEDS, BATCH + self._names.index(name)
            fill(self._store, name, range(begin, begin + count), device=f"walt-{name}")
            self._fed[name] += 1
            self.tally.fed += 1

    def _is_idle(self, name: str, latest: Generation | None) -> bool:
        """Whether all that a camera was fed has led to what it had to."""
        return _made(latest) == self._fed[name] < _FEEDS

    @contextlib.contextmanager
    def serving(self, *words: str) -> Iterator[subprocess.Popen[bytes]]:
        """`walt-loop serve`, from when it serves."""
        parent = os.getpid()
        with (self._folder / "serve.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.walt_train.loop.serve.serving", *self._words(), *words],
                stdout=subprocess.PIPE,
                stderr=log,
                env=self._env,
                cwd=ROOT,
                start_new_session=True,
                preexec_fn=lambda: end_with(parent),
            )
        try:
            assert process.stdout is not None
            began_s = time.monotonic()
            self.url = _first_line(process.stdout)
            # A machine that starts slowly works slowly: no kill may come too soon for anything to be done.
            self.moment_s = max(_MOMENT_S, time.monotonic() - began_s)
            yield process
        finally:
            _kill_all(process)
            process.wait()

    def _words(self) -> list[str]:
        folder = self._folder
        words = ["--store", str(folder / "store"), "--home", str(folder / "home"), "--broker", self._broker]
        words += ["--min-crops", "4", "--min-tracks", "2", "--lease-s", str(_LEASE_S), "--retry-s", "0.1"]
        words += ["--rest-hours", "0.0005"]
        for number, name in enumerate(self._names):
            words += ["--truth", f"{name}={folder / ('good' if (number + 1) % _REFUSED else 'bad')}"]
        return words

    def kill(self, process: subprocess.Popen[bytes], chance: random.Random) -> None:
        """SIGKILL to all of it, to the worker alone, or to a program alone."""
        drawn = chance.random()
        children = psutil.Process(process.pid).children(recursive=True)
        if drawn < _EVERYBODY:
            _kill_all(process)
            self.tally.kills["the worker and its programs"] += 1
        elif drawn < _ALONE or not children:
            process.kill()
            self.tally.kills["the worker alone"] += 1
        else:
            with contextlib.suppress(psutil.NoSuchProcess):
                chance.choice(children).kill()
            self.tally.kills["a program alone"] += 1
            # It goes on, and is killed in the end like the others; that is no kill of its own.
            time.sleep(chance.uniform(0.0, _MOMENT_S / 2))

    def end(self) -> Tally:
        """Lets everything that is open end, and counts."""
        with self.serving() as process:
            deadline_s = time.monotonic() + _END_S
            while self._is_open() and time.monotonic() < deadline_s and process.poll() is None:
                time.sleep(0.1)
            found = self._jobs.all()
            self._count_runs(found)
            self._count_releases(found)
        return self.tally

    def _is_open(self) -> bool:
        latest = {one.camera: one for one in self._jobs.all()}
        return any(
            name not in latest or latest[name].state not in ENDED or latest[name].number < fed
            for name, fed in self._fed.items()
        )

    def _count_runs(self, found: list[Generation]) -> None:
        tally = self.tally
        ended = Counter(one.camera for one in found if one.state in ENDED)
        every = Counter(one.camera for one in found)
        tally.runs = ended.total()
        tally.states = Counter(one.state.value for one in found)
        # What failed for good has learned nothing: the same clip art has led to one more, by itself.
        failed = Counter(one.camera for one in found if one.state is State.FAILED)
        for name, fed in self._fed.items():
            tally.lost += max(0, fed - ended[name])
            tally.doubled += max(0, every[name] - failed[name] - fed)
        tally.stuck += sum(bool(one.owner) for one in found) + sum(_is_torn(one) for one in found)
        with self._store.engine.connect() as connection:
            counts = connection.execute(
                select(func.count()).select_from(steps).group_by(steps.c.camera, steps.c.number)
            )
            tally.stuck += sum(count != len(StepName) for (count,) in counts)

    def _count_releases(self, found: list[Generation]) -> None:
        """Everything that is released is what the gate let pass, once, and can be fetched; nothing else is."""
        tally, home = self.tally, self._folder / "home"
        passed = {one.step(StepName.EXPORT).result["sha256"]: one for one in found if one.state is State.DONE}
        trust = Trust(self._folder / "device", self.url, home / "repository" / "root.json")
        for sha256, one in passed.items():
            result = one.step(StepName.PUBLISH).result
            wish = Desired(release=result["release"], target=result["target"], sha256=result["sha256"])
            is_whole = result["sha256"] == sha256 and _fetch(trust, wish, self._folder / "fetched.walt")
            tally.releases += is_whole
            tally.half += not is_whole
        # Names of targets begin with their sha256, as TUF's consistent snapshots have it.
        files = Counter(path.name.partition(".")[0] for path in (home / "repository" / "targets").rglob("*.walt"))
        tally.half += sum(sha256 not in passed for sha256 in files)
        tally.doubled += sum(count - 1 for sha256, count in files.items() if sha256 in passed)
        with self._store.engine.connect() as connection:
            begun = Counter(connection.scalars(select(rollouts.c.sha256)))
            wished = set(connection.scalars(select(wishes.c.release)))
        tally.doubled += sum(count - 1 for count in begun.values())
        tally.half += sum(sha256 not in passed for sha256 in begun)
        tally.half += len(wished - {one.step(StepName.PUBLISH).result["release"] for one in passed.values()})


def _made(latest: Generation | None) -> int:
    """How many generations of a camera have ended."""
    if latest is None:
        return 0
    return latest.number if latest.state in ENDED else latest.number - 1


def _is_torn(one: Generation) -> bool:
    """Whether a generation's state and its steps tell different stories."""
    done = [step.state for step in one.steps].count(State.DONE)
    if one.state is State.DONE:
        return done != len(one.steps)
    return done == len(one.steps) or one.state not in ENDED


def _fetch(trust: Trust, wish: Desired, into: Path) -> bool:
    """Whether a device's client believes a release, gets it, and finds a bundle in it."""
    into.unlink(missing_ok=True)
    try:
        trust.fetch(wish, into)
        return Bundle.read(into).sha256 == wish.sha256
    except (UpdateError, BundleError, OSError):
        return False


def _first_line(stream: IO[bytes]) -> str:
    line = stream.readline().decode().strip()
    assert line.startswith("http"), f"walt-loop serve did not begin to serve: {line}"
    return line


def _kill_all(process: subprocess.Popen[bytes]) -> None:
    """Stopped first, or it would see its programs die and begin them again."""
    try:
        parent = psutil.Process(process.pid)
        parent.suspend()
        everybody = [*parent.children(recursive=True), parent]
    except psutil.NoSuchProcess:
        return
    for one in everybody:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.send_signal(signal.SIGKILL)
    process.wait()


if __name__ == "__main__":
    main()
