"""How long each of home's pages takes, at two thousand devices and a million crops, on SQLite and on PostgreSQL.

    python -m benchmarks.fleet_pages --out docs/benchmarks/pages.json

A real server in a process of its own is asked over loopback by real HTTP, signed in: each kind of page and each route
of the API, first by one who waits for every answer, then by four at once, who ask for all kinds in turn. It is
asked a few times before anything is measured. PostgreSQL is the machine's own, started for this; without one it is
left out. The limit beside it is an answer that looks at nothing: what HTTP, the gate and Python take by themselves.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil
import pytest
import urllib3
from sqlalchemy import select

from benchmarks.fleet_filling import fill
from benchmarks.fleet_sizes import FULL, QUICK, Size, camera_name, whole_rollout
from benchmarks.report import Report, Row, arguments
from tests.postgres import Postgres
from walt_train.loop.store.config import StoreConfig
from walt_train.loop.store.store import Store
from walt_train.loop.store.tables import envelopes
from walt_train.loop.web.access.cookies import SESSION
from walt_train.loop.web.access.person import Role
from walt_train.loop.web.app import make_app
from walt_train.loop.web.server import WebServer
from walt_train.loop.web.settings import WebSettings
from walt_train.loop.web.site import Site

TARGET_MS: Final = 200.0
_WARM: Final = 3
_START_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Ask:
    """A kind of page, and addresses of it that are asked for in turn."""

    name: str
    paths: tuple[str, ...]


def main() -> None:
    """Measures, prints a table, writes JSON."""
    parser = arguments(__doc__)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        _serve()
        return
    size = QUICK if args.quick else FULL
    report = Report("pages", {"devices": size.devices, "crops": size.crops})
    with tempfile.TemporaryDirectory(prefix="walt-pages-") as folder:
        for row in _rows(args.quick, Path(folder)):
            report.add(row.what, row.value, row.unit, target=row.target, better=row.better)
    report.finish(args.out)


def rows(quick: bool, folder: Path) -> list[Row]:
    """The figures, for `benchmarks.fleet`."""
    return list(_rows(quick, folder))


def _rows(quick: bool, folder: Path) -> Iterator[Row]:
    size = QUICK if quick else FULL
    yield from _measure("SQLite", StoreConfig.local(folder / "store"), folder / "home", size, quick)
    if quick:
        return  # A quick look at PostgreSQL would be the time that it takes to start.
    with suppress(pytest.skip.Exception), Postgres.start() as cluster:
        config = StoreConfig(cluster.database(), str(folder / "blobs"))
        yield from _measure("PostgreSQL", config, folder / "home-postgres", size, quick)


def _measure(name: str, config: StoreConfig, home: Path, size: Size, quick: bool) -> Iterator[Row]:
    began_s = time.perf_counter()
    with Store(config) as store:
        fill(store, home, size, time.time_ns() // 1000)
        filled_s = time.perf_counter() - began_s
        site = Site.of(store, home=home)
        site.access.people.add("benchmark", Role.ADMIN, "correct horse battery staple")
        secret = site.access.sessions.begin("benchmark", "127.0.0.1", "benchmark")
        asks = _asks(store, size)
    yield Row(f"{name}: filling it", filled_s, "s", None, "lower")
    with _server(config, home) as (url, server):
        http = urllib3.PoolManager(maxsize=4, retries=False)
        headers = {"cookie": f"{SESSION}={secret}", "accept": "text/html"}
        rounds = 6 if quick else 60
        for concurrency in (1, 4):
            times = _ask_all(http, url, headers, asks, rounds if concurrency == 1 else rounds // 2, concurrency)
            figures = [row for ask in asks for row in _figures(name, ask, times[ask.name], concurrency)]
            yield from figures
            yield from summary(f"{name}, {concurrency} at once", figures)
        for ask in asks:
            cpu_ms = _processor_ms(http, url, headers, ask, server, 4 if quick else 20)
            yield Row(f"{name}: {ask.name}, the server's processor time", cpu_ms, "ms", None, "lower")
        http.clear()


def _figures(name: str, ask: Ask, times_ms: list[float], concurrency: int) -> list[Row]:
    ordered = sorted(times_ms)
    last = ordered[min(len(ordered) - 1, round(0.99 * (len(ordered) - 1)))]
    title = f"{name}, {concurrency} at once: {ask.name}"
    return [
        Row(f"{title}, p50", ordered[len(ordered) // 2], "ms", None, "lower"),
        Row(f"{title}, p99", last, "ms", None, "lower"),
    ]


def summary(title: str, figures: list[Row]) -> list[Row]:
    """What all kinds together have to reach; answers that look at nothing are a limit, and no kind."""
    slow = [row for row in figures if row.what.endswith(", p99") and ": limit" not in row.what]
    slowest = max(slow, key=lambda row: row.value)
    kind = slowest.what.removeprefix(f"{title}: ").removesuffix(", p99")
    below = sum(row.value < TARGET_MS for row in slow)
    return [
        Row(
            f"{title}: kinds of page below {TARGET_MS:g} ms (p99), of {len(slow)}",
            below,
            "",
            len(slow),
            "higher",
        ),
        Row(f"{title}: the slowest kind ({kind}), p99", slowest.value, "ms", TARGET_MS, "lower"),
    ]


def _asks(store: Store, size: Size) -> list[Ask]:
    cameras = [camera_name(number) for number in range(0, size.pictured, max(1, size.pictured // 8))]
    with store.engine.connect() as connection:
        newest = select(envelopes.c.id).where(envelopes.c.kind == "crop", envelopes.c.camera.in_(cameras))
        crops = list(connection.scalars(newest.order_by(envelopes.c.captured_us.desc()).limit(24)))
    whole, last = whole_rollout(size), size.rollouts
    return [
        Ask("limit: an answer that looks at nothing", ("healthz",)),
        Ask("fleet", ("fleet", "fleet?page=3", "fleet?sort=name", "fleet?sort=lens&order=reverse")),
        Ask("fleet, searched", ("fleet?q=north", "fleet?state=trouble", "fleet?kind=silent_camera", "fleet?q=0123")),
        Ask("fleet's live part", ("fleet/part",)),
        Ask("camera, day", tuple(f"cameras/{one}" for one in cameras)),
        Ask("camera, week", tuple(f"cameras/{one}?span=week" for one in cameras)),
        Ask("camera, year", (f"cameras/{camera_name(0)}?span=year",)),
        Ask("rollouts", ("rollouts", "rollouts?state=done", f"rollouts?before={last // 2}")),
        Ask("rollout", (f"rollouts/{last}", f"rollouts/{max(1, last - 3)}")),
        Ask("rollout of every device", (f"rollouts/{whole}",)),
        Ask("runs", ("runs", "runs?state=failed", f"runs?camera={camera_name(1)}")),
        Ask("run", tuple(f"runs/{one.removeprefix('/')}" for one in _runs(size))),
        Ask("clip art", ("clipart", *(f"clipart?camera={one}" for one in cameras[:3]))),
        Ask("crop", tuple(f"clipart/{one}" for one in crops[:6])),
        Ask("a crop's picture", tuple(f"pictures/crop/{one}.jpg?w=240" for one in crops)),
        Ask("labelling", ("label",)),
        Ask("audit", ("audit",)),
        Ask("people", ("people",)),
        Ask("account", ("account",)),
        Ask("API: fleet", ("api/v1/fleet", "api/v1/alerts")),
        Ask("API: cameras", ("api/v1/cameras", "api/v1/cameras?limit=500", "api/v1/cameras?state=offline")),
        Ask("API: camera", tuple(f"api/v1/cameras/{one}" for one in cameras)),
        Ask("API: history", tuple(f"api/v1/cameras/{one}/history" for one in cameras)),
        Ask("API: crops", tuple(f"api/v1/crops?camera={one}&limit=500" for one in cameras)),
        Ask("API: crop", tuple(f"api/v1/crops/{one}" for one in crops)),
        Ask("API: runs", ("api/v1/runs", "api/v1/runs?limit=200", f"api/v1/runs/{camera_name(0)}/1")),
        Ask("API: rollouts", ("api/v1/rollouts", "api/v1/rollouts?limit=500")),
        Ask("API: rollout of every device", (f"api/v1/rollouts/{whole}", f"api/v1/rollouts/{whole}/members")),
        Ask("API: audit", ("api/v1/audit",)),
    ]


def _runs(size: Size) -> Iterator[str]:
    """The newest trainings: these have folders."""
    cameras = max(1, size.generations // 12)
    for place in range(size.generations - 6, size.generations):
        yield f"{camera_name(place % cameras)}/{place // cameras + 1}"


def _ask_all(
    http: urllib3.PoolManager, url: str, headers: dict[str, str], asks: list[Ask], rounds: int, concurrency: int
) -> dict[str, list[float]]:
    """Milliseconds from asking to the last byte, by kind."""
    times: dict[str, list[float]] = {ask.name: [] for ask in asks}

    def one(ask: Ask, number: int) -> float:
        return _ask_ms(http, url, headers, ask, number)

    for ask in asks:
        for number in range(max(_WARM, len(ask.paths))):
            one(ask, number)
    # All kinds in turn: what is measured is what people meet, not a page whose data lie in every cache.
    wanted = [(ask, number) for number in range(rounds) for ask in asks]
    with ThreadPoolExecutor(concurrency) as pool:
        for (ask, _), took_ms in zip(wanted, pool.map(lambda pair: one(*pair), wanted), strict=True):
            times[ask.name].append(took_ms)
    return times


def _ask_ms(http: urllib3.PoolManager, url: str, headers: dict[str, str], ask: Ask, number: int) -> float:
    path = ask.paths[number % len(ask.paths)]
    began_s = time.perf_counter()
    answer = http.request("GET", url + path, headers=headers, redirect=False)
    took_ms = 1e3 * (time.perf_counter() - began_s)
    if answer.status != 200:
        raise RuntimeError(f"{path} gave {answer.status}: {answer.data[:300]!r}")
    return took_ms


def _processor_ms(
    http: urllib3.PoolManager, url: str, headers: dict[str, str], ask: Ask, server: psutil.Process, times: int
) -> float:
    """What one answer costs the server: that hardly depends on what else the machine does."""
    before = server.cpu_times()
    for number in range(times):
        _ask_ms(http, url, headers, ask, number)
    after = server.cpu_times()
    return 1e3 * float(after.user + after.system - before.user - before.system) / times


@contextmanager
def _server(config: StoreConfig, home: Path) -> Iterator[tuple[str, psutil.Process]]:
    """The dashboard in a process of its own; gives its address, and it."""
    words = [sys.executable, "-m", "benchmarks.fleet_pages", "--serve"]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    # Not among the words: there may be a password in it.
    process.stdin.write(json.dumps([config.database_url, config.blob_url, str(home)]) + "\n")
    process.stdin.flush()
    try:
        url = process.stdout.readline().strip()
        if not url:
            raise RuntimeError("the dashboard did not start")
        yield url, psutil.Process(process.pid)
    finally:
        # It ends when nobody is there any more.
        process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_START_S)
        process.kill()
        process.wait()
        process.stdout.close()


def _serve() -> None:
    """Serves what the first line of our standard input names, until its other end is closed."""
    database, blobs, home = json.loads(sys.stdin.readline())
    # One address asks for everything here: the bound on that is not what is measured.
    settings = WebSettings(port=0, rate_per_s=1e6, burst=1_000_000)
    with Store(StoreConfig(database, blobs)) as store:
        site = Site.of(store, home=Path(home), settings=settings)
        with WebServer(make_app(site), settings) as server:
            sys.stdout.write(f"{server.url}\n")
            sys.stdout.flush()
            sys.stdin.read()


if __name__ == "__main__":
    main()
