"""A whole home on this machine, for measuring and for killing: everything that it is made of is real.

Home's own authorities and their Mosquitto (mutual TLS, the access list as it is written for everybody), `walt-loop
ingest` processes, SQLite with a folder or a PostgreSQL of its own, and `walt-loop simulate` as the fleet.
"""

from __future__ import annotations

import getpass
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
import psutil
from sqlalchemy import func, select

from tests.postgres import Postgres
from walt_train.loop.children import Station, Stations, program
from walt_train.loop.demo.broker import HOST, free_port
from walt_train.loop.identity.authority import Authority
from walt_train.loop.identity.mosquitto import CONFIG, Address, BrokerFiles, Revocations
from walt_train.loop.identity.upkeep import Household
from walt_train.loop.simulate.outcome import Outcome
from walt_train.loop.store.config import StoreConfig
from walt_train.loop.store.store import Store
from walt_train.loop.store.tables import envelopes

_START_S = 60.0
_ENROL_S = 400.0
_MIB = 1 << 20


Ready = Callable[[Station], bool]


def says(words: str) -> Ready:
    """Whether a process has written that."""
    return lambda station: words in station.said()


def listens(port: int) -> Ready:
    """Whether somebody takes connections on a loopback port."""

    def listening(_: Station) -> bool:
        with suppress(OSError), socket.create_connection((HOST, port), timeout=1):
            return True
        return False

    return listening


class Part:
    """A process of home's that may be killed and started again.

    Attributes:
        name: What it is.
        ready: Whether it works.
    """

    def __init__(self, name: str, words: Sequence[str], stations: Stations, ready: Ready) -> None:
        self.name = name
        self.ready = ready
        self._words = list(words)
        self._stations = stations
        self._lives = 0
        self._before_s = 0.0
        self._station: Station | None = None

    @property
    def station(self) -> Station:
        """The running process."""
        assert self._station is not None
        return self._station

    def start(self) -> None:
        """Starts it; `wait_ready` waits until it works."""
        self._lives += 1
        self._station = self._stations.start(f"{self.name}-{self._lives}", self._words)

    def wait_ready(self) -> None:
        """Waits until it works."""
        station = self.station
        station.wait_for(lambda: self.ready(station), _START_S, "starting")

    def kill(self) -> None:
        """SIGKILL: as a loss of power."""
        self._before_s = self.cpu_s
        os.kill(self.station.pid, signal.SIGKILL)
        self.station.wait(_START_S)

    @property
    def cpu_s(self) -> float:
        """Processor time of all its lives; of a killed one, what it had shortly before."""
        with suppress(psutil.NoSuchProcess):
            return self._before_s + float(sum(psutil.Process(self.station.pid).cpu_times()[:2]))
        return self._before_s

    @property
    def pss_mb(self) -> float:
        """Its memory, MiB; what it shares counts in part."""
        return float(psutil.Process(self.station.pid).memory_full_info().pss) / _MIB


class Database:
    """A PostgreSQL as a part of home."""

    name = "database"

    def __init__(self, cluster: Postgres) -> None:
        self._cluster = cluster

    def kill(self) -> None:
        """SIGKILL to all its processes."""
        self._cluster.kill()

    def start(self) -> None:
        """Starts it and waits until it answers."""
        self._cluster.restart()

    def wait_ready(self) -> None:
        """It answers as soon as it has started."""

    @property
    def cpu_s(self) -> float:
        """Processor time since it was last started, ended backends among it."""
        postmaster = self._postmaster
        ended = postmaster.cpu_times()
        alive = sum(sum(child.cpu_times()[:2]) for child in postmaster.children(recursive=True))
        return float(sum(ended[:2]) + ended.children_user + ended.children_system + alive)

    @property
    def pss_mb(self) -> float:
        """Memory of all its processes, MiB."""
        everybody = [self._postmaster, *self._postmaster.children(recursive=True)]
        return float(sum(one.memory_full_info().pss for one in everybody)) / _MIB

    @property
    def _postmaster(self) -> psutil.Process:
        data = self._cluster.folder / "data" / "postmaster.pid"
        return psutil.Process(int(data.read_text().splitlines()[0]))


class Meter:
    """What parts of home take of the machine, within its block.

    Attributes:
        span_s: How long the block was.
    """

    def __init__(self, parts: Sequence[Part | Database]) -> None:
        self._parts = parts
        self._cpu_s: dict[str, float] = {}
        self._mb: dict[str, float] = {}
        self.span_s = 0.0

    def cpu_s(self, part: Part | Database) -> float:
        """Processor time."""
        return self._cpu_s[part.name]

    def ms(self, part: Part | Database, count: int) -> float:
        """Processor time for one of so many things, milliseconds."""
        return 1e3 * self.cpu_s(part) / count

    def mb(self, part: Part | Database) -> float:
        """Memory at the end of the block, MiB."""
        return self._mb[part.name]

    def __enter__(self) -> Self:
        self._began_s = time.monotonic()
        self._cpu_s = {part.name: -part.cpu_s for part in self._parts}
        return self

    def __exit__(self, *error: object) -> None:
        self.span_s = time.monotonic() - self._began_s
        for part in self._parts:
            self._cpu_s[part.name] += part.cpu_s
            self._mb[part.name] = part.pss_mb


class Home:
    """Broker, workers and store; leaving the context ends all.

    Args:
        folder: Where all lies.
        workers: How many `walt-loop ingest`.
        postgres: Whether the rows lie in PostgreSQL; else in SQLite. Blobs lie in a folder.

    Attributes:
        config: Where the store is.
        broker: Mosquitto.
        workers: The ingest's processes.
        database: PostgreSQL, if there is one.
    """

    def __init__(self, folder: Path, workers: int = 1, postgres: bool = False) -> None:
        self.folder = folder
        self._stack = ExitStack()
        (folder / "logs").mkdir(parents=True)
        authority = Authority.make(folder / "identity")
        self._address = Address(
            hosts=(HOST,),
            listen=HOST,
            port=free_port(),
            workers_port=free_port(),
            user=getpass.getuser(),
            folder=str(folder / "mosquitto"),
        )
        self._address.write(authority.folder)
        Household(folder, authority, self._address, BrokerFiles(authority, self._address)).write(Revocations())
        self.database: Database | None = None
        with ExitStack() as stack:
            self.config = self._place(stack) if postgres else StoreConfig.local(folder / "store")
            stations = stack.enter_context(Stations(folder / "logs"))
            mosquitto = [program("mosquitto"), "-c", str(folder / "mosquitto" / CONFIG)]
            self.broker = Part("broker", mosquitto, stations, listens(self._address.port))
            names = [f"worker-{number}" for number in range(1, workers + 1)]
            self.workers = [Part(name, self._worker(name), stations, says("connected to")) for name in names]
            self._stations = stations
            self._stack = stack.pop_all()

    def start(self) -> None:
        """Starts the broker, then the workers; returns when all work."""
        self.broker.start()
        self.broker.wait_ready()
        for worker in self.workers:
            worker.start()
            worker.wait_ready()

    @property
    def parts(self) -> list[Part | Database]:
        """All that can be killed."""
        return [*self.workers, self.broker, *([self.database] if self.database else [])]

    def fleet(self, name: str, *words: str) -> Fleet:
        """A running `walt-loop simulate`, ended with home; enrolled in the store if there is somebody to store."""
        out = self.folder / f"{name}.json"
        door = f"{HOST}:{self._address.port}"
        start = [program("walt-loop"), "simulate", "--broker", door, "--home", str(self.folder)]
        where = self._where if self.workers else []
        station = self._stations.start(name, [*start, "--out", str(out), *where, *words])
        return Fleet(station, out)

    @contextmanager
    def sink(self) -> Iterator[Part]:
        """A bare subscriber in the ingest's place, which answers and stores nothing."""
        words = [program("python"), "-m", "benchmarks.ingest_sink", HOST, str(self._address.workers_port)]
        part = Part("sink", [*words, str(self.folder / "workers")], self._stations, says("connected"))
        part.start()
        part.wait_ready()
        try:
            yield part
        finally:
            part.station.end()

    def database_bytes(self) -> int:
        """Space that PostgreSQL takes for the rows, indexes among it."""
        with Store(self.config) as store, store.engine.connect() as connection:
            return int(connection.scalar(select(func.pg_total_relation_size(envelopes.name))) or 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _place(self, stack: ExitStack) -> StoreConfig:
        """A PostgreSQL of our own; its password lies in a file, since command lines can be read by all."""
        cluster = stack.enter_context(Postgres.start(self.folder))
        self.database = Database(cluster)
        name = cluster.database().rpartition("/")[2]
        secret = self.folder / "pgpass"
        secret.touch(mode=0o600)
        secret.write_text(f"{HOST}:{cluster.port}:*:walt:{cluster.password}\n")
        url = f"postgresql://walt@{HOST}:{cluster.port}/{name}?passfile={secret}"
        return StoreConfig(url, str(self.folder / "blobs"))

    @property
    def _where(self) -> list[str]:
        return ["--database", self.config.database_url, "--blobs", self.config.blob_url]

    def _worker(self, name: str) -> list[str]:
        words = [program("walt-loop"), "ingest", "--workers", str(self.folder / "workers"), *self._where]
        return [*words, "--client-id", name]


class Fleet:
    """A running fleet and, when it has ended, what it has to tell."""

    def __init__(self, station: Station, out: Path) -> None:
        self.station = station
        self._out = out

    def wait_enrolled(self) -> None:
        """Waits until all its devices have certificates."""
        self.station.wait_for(lambda: "connecting:" in self.station.said(), _ENROL_S, "enrolling")

    def wait_online(self) -> None:
        """Waits until all its devices are connected."""
        self.station.wait_for(lambda: "seeing:" in self.station.said(), _ENROL_S, "connecting")

    def wait(self, timeout_s: float) -> Outcome:
        """Waits for its end; raises StationError if it has failed."""
        self.station.wait(timeout_s)
        if not self._out.exists():
            raise self.station.failure()
        return msgspec.json.decode(self._out.read_bytes(), type=Outcome)

    def stop(self, timeout_s: float) -> Outcome:
        """Has it see nothing more and bring home what waits."""
        self.station.ask_to_stop()
        return self.wait(timeout_s)


def losses(outcome: Outcome) -> tuple[int, int]:
    """Crops lost and doubled, as the store tells; it must have been looked at."""
    assert outcome.lost is not None
    assert outcome.doubled is not None
    return outcome.lost, outcome.doubled + outcome.stored_twice
