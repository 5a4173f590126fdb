"""The systemd unit: well-formed, tightly confined, and the agent works inside of what it leaves."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.broker import Broker
from tests.confined import UNAVAILABLE, allowed_calls, values
from tests.fakes.home import ScriptedHome
from tests.material import ROOT
from walt_edge.packaged import GENERAL_MODEL
from walt_edge.rtsp_server import RtspServer

FOLDER = ROOT / "deploy" / "systemd"
UNIT = FOLDER / "walt-edge.service"
# Of systemd 254; older ones say so and go on.
NEWER = re.compile(r"Unknown key '?(name )?'?(RestartSteps|RestartMaxDelaySec)'?.*")
EXPOSURE_MAX = 2.0

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here: apt-get install systemd"
)


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with a program that exists here."""
    path = tmp_path / UNIT.name
    text = UNIT.read_text().replace("/opt/walt/bin/walt-edge", "/bin/true")
    path.write_text("\n".join(line for line in text.splitlines() if not line.startswith("Documentation=")))
    return path


def analyze(*words: object) -> subprocess.CompletedProcess[str]:
    command = ["systemd-analyze", "--no-pager", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@needs_systemd
def test_systemd_finds_nothing_wrong(unit: Path) -> None:
    checked = analyze("verify", unit)
    complaints = [line for line in checked.stderr.splitlines() if unit.name in line and not NEWER.search(line)]
    assert checked.returncode == 0, checked.stderr
    assert complaints == []


@needs_systemd
def test_the_gpu_drop_in_is_well_formed(unit: Path) -> None:
    folder = unit.with_name(f"{unit.name}.d")
    shutil.copytree(FOLDER / folder.name, folder)
    checked = analyze("verify", unit)
    assert checked.returncode == 0, checked.stderr
    assert not [line for line in checked.stderr.splitlines() if "gpu.conf" in line]


@needs_systemd
def test_it_is_exposed_little(unit: Path) -> None:
    judged = analyze("security", "--offline=true", f"--threshold={round(10 * EXPOSURE_MAX)}", unit)
    assert judged.returncode == 0, judged.stdout[-400:]
    exposure = re.search(r"Overall exposure level for \S+: ([0-9.]+)", judged.stdout)
    assert exposure is not None
    assert float(exposure[1]) < EXPOSURE_MAX


def test_it_is_restarted_watched_and_leaves_no_core() -> None:
    wanted = {
        "Type": "notify",
        "Restart": "always",
        "StartLimitIntervalSec": "0",
        "LimitCORE": "0",
        "OOMPolicy": "continue",
        "User": "walt",
        "StateDirectory": "walt",
        "NoNewPrivileges": "yes",
    }
    assert {key: values(UNIT, key) for key in wanted} == {key: [value] for key, value in wanted.items()}
    assert int(values(UNIT, "WatchdogSec")[0]) > 0


def test_keys_come_as_credentials_and_lie_in_no_variable() -> None:
    names = [value.partition(":")[0] for value in values(UNIT, "LoadCredential")]
    assert names == ["spool.key", "broker.key", "web.token"]
    optional = [value.partition(":")[0] for value in values(UNIT, "SetCredential")]
    assert optional == ["broker.key", "web.token"]  # without the spool's key nothing may start
    assert not re.search(r"TOKEN|PASSWORD|rtsp", " ".join(values(UNIT, "Environment")))


@needs_systemd
def test_the_clock_may_be_asked_and_not_set() -> None:
    calls = allowed_calls(UNIT)
    assert {"adjtimex", "clock_adjtime"} <= calls
    assert (
        not {"settimeofday", "clock_settime", "mount", "reboot", "ptrace", "setuid", "chown", "init_module"} & calls
    )
    assert values(UNIT, "CapabilityBoundingSet") == [""]
    assert values(UNIT, "ProtectClock") == []  # it would forbid asking


def test_user_and_folders() -> None:
    assert (FOLDER / "walt-edge.sysusers.conf").read_text().splitlines()[-1].startswith("u walt ")
    lines = (FOLDER / "walt-edge.tmpfiles.conf").read_text().splitlines()
    assert [line.split()[1:3] for line in lines if not line.startswith("#")] == [
        ["/etc/walt", "0750"],
        ["/etc/walt/edge.yaml", "0640"],
        ["/etc/walt/credentials", "0700"],
    ]


@pytest.fixture
def street(tmp_path: Path) -> Path:
    folder = tmp_path / "street"
    folder.mkdir()
    noise = np.random.default_rng(1).integers(60, 190, (120, 160, 3), dtype=np.uint8)
    background = cv2.GaussianBlur(noise, (0, 0), 2)
    for n in range(60):
        picture = background.copy()
        picture[60:90, 2 * n : 2 * n + 40] = (40, 40, 200)
        cv2.imwrite(str(folder / f"{n:04d}.png"), picture)
    return folder


def confined(*words: object) -> subprocess.CompletedProcess[str]:
    """`walt-edge` under the unit's own filter."""
    command = [sys.executable, "-m", "tests.confined", UNIT, sys.executable, "-m", "tests.run_edge", *words]
    ended = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, cwd=ROOT, timeout=120, check=False
    )
    if ended.returncode == UNAVAILABLE:
        pytest.skip(ended.stderr.strip())
    assert ended.returncode == 0, ended.stderr
    return ended


@needs_systemd
def test_the_agent_works_in_its_confinement(tmp_path: Path, street: Path) -> None:
    with Broker.start(tmp_path) as broker, ScriptedHome(broker) as home, RtspServer(street, loop=True) as server:
        words = ("--rtsp", server.url, "--broker", broker.address, "--home", tmp_path / "home")
        ended = confined("run", *words, "--frames", 20, "--telemetry-s", 0, "--set", "web.port=0")
        assert home.on("telemetry")
    assert "watched 20 of" in ended.stderr


@needs_systemd
def test_a_model_runs_in_its_confinement(tmp_path: Path, street: Path) -> None:
    if not GENERAL_MODEL.is_file():
        pytest.skip("no model came with this checkout")
    out = tmp_path / "instances.json"
    ended = confined("detect", "--input", street / "0000.png", "--out", out)
    assert out.stat().st_size > 0
    assert "not permitted" not in ended.stderr
