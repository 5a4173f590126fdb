"""`walt-loop fleet` as a person types it."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.walt_train.loop.fleet.fleet import MINUTE, SECOND, Court, Device
from walt_edge.contract.messages import Reported
from walt_edge.contract.telemetry import Disk
from walt_train.loop.cli import SCRIPT
from walt_train.loop.fleet.fleet import Fleet
from walt_train.loop.fleet.keeping import Keeper
from walt_train.loop.store.store import Store


def filled(folder: Path, *, is_well: bool, judged: bool = True) -> None:
    """A store whose fleet was judged a moment ago."""
    now_us = time.time_ns() // 1000
    court = Court(fleet := Fleet(), listening_us=now_us - 60 * MINUTE)
    free = 8 << 30 if is_well else 5 << 20
    for name in ("walt-1", "walt-2"):
        device = Device(fleet, name=name, began_us=now_us - 60 * MINUTE)
        device.status("online", now_us - 20 * MINUTE)
        device.reports(Reported(release=4, sha256="", state="active"), now_us)
        for minute in range(10, -1, -1):
            is_bad = name == "walt-2"
            device.watches(now_us - minute * MINUTE - SECOND, disk=Disk(free_bytes=free if is_bad else 8 << 30))
            court.sits(now_us - minute * MINUTE)
    with Store(folder) as store:
        keeper = Keeper(store.engine, "home")
        assert keeper.acquire(now_us)
        for part in fleet.batch.parts():
            keeper.write(part, now_us)
        if judged:
            keeper.note(court.sits(now_us), {}, now_us, now_us - 60 * MINUTE)


def test_the_table_shows_what_is_wrong_first_and_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filled(tmp_path, is_well=False)
    assert SCRIPT.main(["fleet", "--store", str(tmp_path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "2 devices, 2 online; 2 cameras; 1 alerts"
    assert lines[2] == "URGENT  yard/walt-2: the device's disk is nearly full (5 MB free)"
    assert "free space on the device" in lines[3]
    assert lines[5].split()[:3] == ["DEVICE", "CAMERA", "STATE"]
    assert [line.split()[0] for line in lines[6:]] == ["yard/walt-2", "yard/walt-1"]


def test_all_is_well_ends_with_status_zero(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    filled(tmp_path, is_well=True)
    assert SCRIPT.main(["fleet", "--store", str(tmp_path)]) == 0
    assert "all is well" in capsys.readouterr().out
    assert SCRIPT.main(["fleet", "--store", str(tmp_path), "--json"]) == 0
    tree = json.loads(capsys.readouterr().out)
    assert tree["alerts"] == []
    assert {one["device"] for one in tree["devices"]} == {"walt-1", "walt-2"}
    assert tree["cameras"][0]["told"]["frames_received"] > 0


def test_who_shows_what_nobody_listens_to_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    filled(tmp_path, is_well=True, judged=False)
    assert SCRIPT.main(["fleet", "--store", str(tmp_path)]) == 0
    assert "Nobody has listened yet" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["watch"], "Give --broker"),
        (["watch", "--broker", "nonsense:x"], "is not HOST:PORT"),
        (["watch", "--broker", "localhost:1", "--cert", "c.pem"], "need --ca"),
        (["watch", "--broker", "localhost:1", "--rules", "/nowhere.yaml"], "cannot read"),
    ],
)
def test_what_is_missing_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert SCRIPT.main(["fleet", *words, "--store", str(tmp_path)]) == 2
    assert said in capsys.readouterr().err


def test_no_store_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert SCRIPT.main(["fleet", "--store", str(tmp_path / "none")]) == 2
    assert "no store in" in capsys.readouterr().err
