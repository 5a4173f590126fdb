"""What a fleet of a given size needs at home: arithmetic over measured costs and named assumptions.

Costs come from a file that `python -m benchmarks.ingest` wrote, on this project's machine or on the reader's own;
everything else is an assumption or a price that the reader puts in.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from walt_edge.contract.errors import UsageError

_DAY_S = 86_400
_MONTH_D = 365.25 / 12
_KB_PER_GB = 1e6
_MB_PER_GB = 1024

ROWS = {
    "crop_kb": "crop",
    "broker_ms": "PostgreSQL: broker, processor for a crop",
    "worker_ms": "PostgreSQL: workers, processor for a crop",
    "database_ms": "PostgreSQL: database, processor for a crop",
    "broker_device_ms": "fleet: broker, processor for a device and second beside crops",
    "broker_mb": "fleet: broker, memory",
    "worker_mb": "fleet: a worker, memory",
    "database_mb": "fleet: database, memory",
    "fleet_devices": "fleet: devices connected",
    "row_kb": "PostgreSQL: database on disk for a crop",
}
"""Where each cost stands in the benchmark's file."""


class Costs(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured.

    Attributes:
        crop_kb: Size of an envelope, thousands of bytes.
        broker_ms: Processor of the broker for a crop and its answer, milliseconds.
        worker_ms: The same of the ingest's workers.
        database_ms: The same of PostgreSQL.
        broker_device_ms: The same for a connected device and second: telemetry, keep-alive.
        broker_mb: Memory of the broker with `fleet_devices` connected.
        worker_mb: Memory of a worker.
        database_mb: Memory of PostgreSQL.
        fleet_devices: How many were connected.
        row_kb: Space in the database for a crop, indexes among it, thousands of bytes.
    """

    crop_kb: float
    broker_ms: float
    worker_ms: float
    database_ms: float
    broker_device_ms: float
    broker_mb: float
    worker_mb: float
    database_mb: float
    fleet_devices: float
    row_kb: float

    @classmethod
    def read(cls, path: Path) -> Costs:
        """Reads them from the benchmark's file; raises UsageError if they are not in it."""
        try:
            rows: list[dict[str, Any]] = msgspec.json.decode(path.read_bytes())["rows"]
            by_name = {row["what"]: float(row["value"]) for row in rows}
            return cls(**{field: by_name[what] for field, what in ROWS.items()})
        except (OSError, msgspec.DecodeError, KeyError, TypeError, ValueError) as error:
            raise UsageError(
                f"{path} holds no measured costs ({error}): python -m benchmarks.ingest --out {path}"
            ) from error


class Assumptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the reader knows better; each field says what it is."""

    crops_per_day: Annotated[float, Meta(description="crops of a camera in a day, on average")] = 2000.0
    peak: Annotated[float, Meta(description="the busiest hour's rate over the average")] = 3.0
    busy: Annotated[float, Meta(description="share of a core that may be used at the peak")] = 0.6
    retention_days: Annotated[float, Meta(description="how long crops are kept")] = 90.0
    outage_h: Annotated[float, Meta(description="after an outage of everything this long ...")] = 1.0
    catch_up_h: Annotated[float, Meta(description="... home has caught up within so many hours")] = 6.0
    cached: Annotated[float, Meta(description="share of the database that is to fit into memory")] = 0.1
    spare: Annotated[float, Meta(description="further machines of each kind, so that one may fail")] = 1.0


class Prices(msgspec.Struct, frozen=True, kw_only=True):
    """What things cost a month, in one currency. Examples, no offers: put in your own."""

    core: Annotated[float, Meta(description="a core, day and night")] = 20.0
    memory_gb: Annotated[float, Meta(description="a gigabyte of memory, day and night")] = 3.0
    object_gb: Annotated[float, Meta(description="a gigabyte in object storage")] = 0.02
    disk_gb: Annotated[float, Meta(description="a gigabyte of the database's disk")] = 0.1
    traffic_gb: Annotated[float, Meta(description="a gigabyte that comes in")] = 0.0


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is needed.

    Attributes:
        cameras: For how many.
        average_per_s: Crops a second, on average.
        peak_per_s: The same at the busiest, or while catching up, whatever is more.
        network_mbit_s: Coming in at that rate, million bits a second, and as much from the broker to the workers.
        brokers: Mosquitto processes; each has one thread, and devices are shared out among them.
        workers: `walt-loop ingest` processes.
        database_cores: Of PostgreSQL.
        memory_gb: Of all these, with the share of the database that is to be cached.
        blobs_gb: In object storage, once the retention is full.
        database_gb: On the database's disk, once the retention is full.
        compute_month: Price of all cores and all memory.
        storage_month: Price of object storage and disk.
        traffic_month: Price of what comes in.
    """

    cameras: int
    average_per_s: float
    peak_per_s: float
    network_mbit_s: float
    brokers: int
    workers: int
    database_cores: int
    memory_gb: float
    blobs_gb: float
    database_gb: float
    compute_month: float
    storage_month: float
    traffic_month: float

    @property
    def month(self) -> float:
        """Price of everything for a month."""
        return self.compute_month + self.storage_month + self.traffic_month

    @property
    def camera_month(self) -> float:
        """The same for one camera."""
        return self.month / self.cameras

    def lines(self) -> list[tuple[str, str]]:
        """What, how much."""
        return [
            ("cameras", f"{self.cameras:,}"),
            ("crops, on average", f"{self.average_per_s:,.0f} a second"),
            ("crops, at the peak or catching up", f"{self.peak_per_s:,.0f} a second"),
            ("network into the brokers, at that rate", f"{self.network_mbit_s:,.0f} Mbit/s"),
            ("brokers (one core each)", f"{self.brokers:,}"),
            ("ingest workers (one core each)", f"{self.workers:,}"),
            ("PostgreSQL, cores", f"{self.database_cores:,}"),
            ("memory of all these", f"{self.memory_gb:,.1f} GB"),
            ("object storage, once the retention is full", f"{self.blobs_gb / 1000:,.1f} TB"),
            ("database on disk, once the retention is full", f"{self.database_gb:,.0f} GB"),
            ("compute", f"{self.compute_month:,.0f} a month"),
            ("storage", f"{self.storage_month:,.0f} a month"),
            ("traffic", f"{self.traffic_month:,.0f} a month"),
            ("all of it, for one camera", f"{self.camera_month:,.3f} a month"),
        ]


def plan(cameras: int, costs: Costs, given: Assumptions | None = None, prices: Prices | None = None) -> Plan:
    """What so many cameras need.

    Args:
        cameras: At least 1; each on a device of its own, which is the dearer case for the broker.
        costs: What was measured.
        given: What is assumed.
        prices: What things cost.

    Raises:
        UsageError: An assumption is no share, or nothing is left of a thing that must be positive.
    """
    given, prices = given or Assumptions(), prices or Prices()
    if cameras < 1 or not 0 < given.busy <= 1 or given.peak < 1 or given.catch_up_h <= 0:
        raise UsageError("cameras and peak must be at least 1, busy in 0..1, and catching up takes time")
    average = cameras * given.crops_per_day / _DAY_S
    # What an outage has left comes on top of what is new; an outage is not assumed to end at the busiest hour.
    catching_up = average * (1 + given.outage_h / given.catch_up_h)
    peak = max(average * given.peak, catching_up)
    broker_cores = (peak * costs.broker_ms + cameras * costs.broker_device_ms) / 1e3 / given.busy
    spare = round(given.spare)
    brokers = math.ceil(broker_cores) + spare
    workers = math.ceil(peak * costs.worker_ms / 1e3 / given.busy) + spare
    database_cores = math.ceil(peak * costs.database_ms / 1e3 / given.busy)
    kept = cameras * given.crops_per_day * given.retention_days
    blobs_gb, database_gb = kept * costs.crop_kb / _KB_PER_GB, kept * costs.row_kb / _KB_PER_GB
    brokers_mb = max(brokers, cameras / costs.fleet_devices) * costs.broker_mb
    processes_gb = (brokers_mb + workers * costs.worker_mb + (1 + spare) * costs.database_mb) / _MB_PER_GB
    memory_gb = processes_gb + (1 + spare) * given.cached * database_gb
    cores = brokers + workers + database_cores * (1 + spare)
    traffic_gb = cameras * given.crops_per_day * _MONTH_D * costs.crop_kb / _KB_PER_GB
    return Plan(
        cameras=cameras,
        average_per_s=average,
        peak_per_s=peak,
        network_mbit_s=peak * costs.crop_kb * 8 / 1e3,
        brokers=brokers,
        workers=workers,
        database_cores=database_cores,
        memory_gb=memory_gb,
        blobs_gb=blobs_gb,
        database_gb=database_gb,
        compute_month=cores * prices.core + memory_gb * prices.memory_gb,
        storage_month=blobs_gb * prices.object_gb + database_gb * (1 + spare) * prices.disk_gb,
        traffic_month=traffic_gb * prices.traffic_gb,
    )
