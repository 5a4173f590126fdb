"""What it costs to know which of many cameras is worth a generation: a part of `benchmarks.fleet_retraining`."""

from __future__ import annotations

import time
from pathlib import Path

from sqlalchemy import insert

from benchmarks.report import Report
from walt_train.loop.serve.generation import Order, StepName
from walt_train.loop.serve.jobs import Jobs, now_us
from walt_train.loop.serve.triggers.lookout import Lookout
from walt_train.loop.serve.triggers.reading import harvest_of
from walt_train.loop.serve.triggers.rules import Rules
from walt_train.loop.store.store import Store
from walt_train.loop.store.tables import envelopes


def looking(report: Report, folder: Path, cameras: int, crops: int) -> None:
    """What it costs to know which of many cameras is worth a generation, in time of a processor."""
    with Store(folder) as store:
        _store_crops(store, cameras, crops)
        jobs = Jobs(store.engine, owner="benchmark")
        lookout = Lookout(store.engine, Rules(), now_us)
        name = f"{cameras} cameras, {crops} crops"
        began_s = time.process_time()
        assert len(lookout.best()) == cameras
        first_s = time.process_time() - began_s
        report.add(f"triggers of {name}: the first look at all", first_s, "processor s", target=30.0, better="lower")
        began_s = time.process_time()
        for _ in range(10):
            lookout.best()
        between_s = (time.process_time() - began_s) / 10
        report.add(
            "  a turn of the worker between looks", 1000 * between_s, "processor ms", target=100.0, better="lower"
        )
        for camera in lookout.best()[: cameras // 10]:
            harvest = _order(store, camera)
            made = jobs.create(harvest)
            assert made is not None
            jobs.refuse(made, StepName.PUBLISH, "as if it had trained")
        _store_more(store, cameras // 20)
        lookout.forget("nobody")
        began_s = time.process_time()
        lookout.best()
        again_s = time.process_time() - began_s
        report.add("  a look at all when a twentieth has news", again_s, "processor s", target=5.0, better="lower")


def _order(store: Store, camera: str) -> Order:
    """An order for what a camera has now."""
    found = harvest_of(store.engine, camera)
    return Order(
        camera=camera,
        recipe="demo",
        seed=0,
        training_steps=None,
        crops=found.crops,
        tracks=found.tracks,
        cells=found.cells,
    )


def _store_more(store: Store, cameras: int) -> None:
    """One more crop of some cameras."""
    with store.engine.begin() as connection:
        connection.execute(insert(envelopes), [_row(camera, 10**9) for camera in range(cameras)])


def _store_crops(store: Store, cameras: int, crops: int) -> None:
    each = crops // cameras
    for camera in range(cameras):
        with store.engine.begin() as connection:
            connection.execute(insert(envelopes), [_row(camera, number) for number in range(each)])


def _row(camera: int, number: int) -> dict[str, object]:
    x, y = 37.0 * (number % 50), 90.0 + 11.0 * (number % 70)
    return {
        "id": f"{camera:08x}{number:056x}",
        "kind": "crop",
        "site": "yard",
        "device": f"walt-{camera:016x}",
        "camera": f"camera-{camera:05}",
        "captured_us": 1_700_000_000_000_000 + number,
        "clock": "synchronised",
        "boot_id": "boot",
        "monotonic_ns": number,
        "media_time_s": 0.0,
        "received_us": 1_700_000_000_000_000 + number,
        "bytes": 20_000,
        "holdout": number % 10 == 0,
        "label": 1 + number % 2,
        "track_id": number // 3,
        "confidence": 0.9,
        "x0": x,
        "y0": y,
        "x1": x + 40.0,
        "y1": y + 80.0 + number % 30,
        "plate": "",
        "held": None,
    }
