from __future__ import annotations

import json
import math
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.capacity import BEGIN, END, FIGURES, GUIDE, tables, written
from walt_edge.contract.errors import UsageError
from walt_train.loop.cli import SCRIPT
from walt_train.loop.simulate.plan import ROWS, Assumptions, Costs, Prices, plan

COSTS = Costs(
    crop_kb=60,
    broker_ms=0.2,
    worker_ms=1.0,
    database_ms=0.5,
    broker_device_ms=0.05,
    broker_mb=64,
    worker_mb=64,
    database_mb=128,
    fleet_devices=2000,
    row_kb=1.0,
)


def write_figures(path: Path) -> Path:
    rows = [{"what": what, "value": getattr(COSTS, name), "unit": "u"} for name, what in ROWS.items()]
    path.write_text(json.dumps({"rows": rows, "machine": {"cpu": "Testor", "cores": 2}}))
    return path


def test_ten_thousand_cameras_by_hand() -> None:
    given_ = Assumptions(crops_per_day=864, peak=2, busy=0.5, retention_days=10, spare=1, outage_h=1, catch_up_h=10)
    prices = Prices(core=10, memory_gb=2, object_gb=0.01, disk_gb=0.1, traffic_gb=0.001)
    wanted = plan(10_000, COSTS, given_, prices)
    assert wanted.average_per_s == pytest.approx(100)
    assert wanted.peak_per_s == pytest.approx(200)  # more than the 110 a second of catching up
    assert wanted.network_mbit_s == pytest.approx(200 * 60 * 8 / 1000)
    assert wanted.brokers == math.ceil((200 * 0.2 + 10_000 * 0.05) / 1000 / 0.5) + 1  # 1.08 cores
    assert wanted.workers == math.ceil(200 * 1.0 / 1000 / 0.5) + 1
    assert wanted.database_cores == 1
    assert wanted.blobs_gb == pytest.approx(10_000 * 864 * 10 * 60 / 1e6)
    assert wanted.database_gb == pytest.approx(10_000 * 864 * 10 / 1e6)
    # five times as many devices as measured: 5 x 64 MiB of brokers, two workers, two databases and a tenth of each
    assert wanted.memory_gb == pytest.approx((5 * 64 + 2 * 64 + 2 * 128) / 1024 + 2 * 0.1 * 86.4)
    assert wanted.compute_month == pytest.approx(10 * (3 + 2 + 2) + 2 * wanted.memory_gb)
    assert wanted.storage_month == pytest.approx(0.01 * 5184 + 0.1 * 86.4 * 2)
    assert wanted.camera_month == pytest.approx(wanted.month / 10_000)


def test_a_long_outage_asks_for_more_than_the_peak() -> None:
    calm = plan(1000, COSTS, Assumptions(outage_h=1, catch_up_h=6))
    rushed = plan(1000, COSTS, Assumptions(outage_h=24, catch_up_h=6))
    assert calm.peak_per_s == pytest.approx(3 * calm.average_per_s)
    assert rushed.peak_per_s == pytest.approx(5 * rushed.average_per_s)
    assert rushed.workers >= calm.workers


@given(st.integers(1, 100_000), st.floats(1, 20_000), st.floats(1, 10))
def test_nothing_is_busier_than_was_allowed(cameras: int, crops: float, peak: float) -> None:
    given_ = Assumptions(crops_per_day=crops, peak=peak, spare=0)
    wanted = plan(cameras, COSTS, given_)
    assert wanted.peak_per_s * COSTS.worker_ms / 1e3 <= wanted.workers * given_.busy + 1e-9
    assert wanted.peak_per_s * COSTS.database_ms / 1e3 <= wanted.database_cores * given_.busy + 1e-9
    assert plan(2 * cameras, COSTS, given_).month >= wanted.month


@pytest.mark.parametrize(
    ("cameras", "changed"),
    [(0, {}), (10, {"busy": 0}), (10, {"busy": 1.5}), (10, {"peak": 0.5}), (10, {"catch_up_h": 0})],
)
def test_what_cannot_be_is_refused(cameras: int, changed: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        plan(cameras, COSTS, msgspec.structs.replace(Assumptions(), **changed))


def test_the_command_takes_the_readers_own_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = str(write_figures(tmp_path / "figures.json"))
    assert SCRIPT.main(["simulate", "--plan", "500", "--figures", figures]) == 0
    before = capsys.readouterr().out
    assert "cameras                                       500" in before
    assert SCRIPT.main(["simulate", "--plan", "500", "--figures", figures, "--price-core", "9999"]) == 0
    assert capsys.readouterr().out != before


@pytest.mark.parametrize("content", ["", "[]", '{"rows": []}', '{"rows": [{"what": "crop", "value": "much"}]}'])
def test_a_file_without_costs_says_how_to_get_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    (tmp_path / "bad.json").write_text(content)
    assert SCRIPT.main(["simulate", "--plan", "5", "--figures", str(tmp_path / "bad.json")]) == 2
    assert "python -m benchmarks.ingest --out" in capsys.readouterr().err
    assert SCRIPT.main(["simulate", "--plan", "5"]) == 2


def test_the_guide_says_what_was_measured() -> None:
    guide = GUIDE.read_text()
    assert written(guide, tables(FIGURES)) == guide, "run python -m benchmarks.capacity"


def test_the_guides_figures_follow_the_file(tmp_path: Path) -> None:
    text = written(f"a{BEGIN}old{END}z", tables(write_figures(tmp_path / "figures.json")))
    assert "old" not in text
    assert "cpu Testor, cores 2" in text
    assert "| cameras | 100 | 1,000 | 10,000 |" in text
