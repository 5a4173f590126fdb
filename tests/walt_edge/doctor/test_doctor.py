"""What the doctor says of machine, folder and cameras, each broken in its own way; and the command as it is run."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.broker import HOST, Broker, free_port
from tests.envelopes import sealed
from tests.fakes.home import ScriptedHome
from tests.material import ROOT
from tests.waiting import wait_for
from walt_edge.config import Home
from walt_edge.contract.errors import WaltError
from walt_edge.contract.messages import Clock
from walt_edge.doctor import Check, Finding, State, examine, folder, machine, ok, watching
from walt_edge.rtsp_server import RtspServer
from walt_edge.settings.tree import AgentConfig
from walt_edge.spool.spool import Spool

PASSWORD = "correct-horse"


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(watching, "_WATCH_S", 0.5)
    monkeypatch.setattr(machine, "_FSYNC_S", 0.02)


def config(home: Path, **sections: Any) -> AgentConfig:
    return AgentConfig.model_validate({"home": home, **sections})


def one(check: Check, config: AgentConfig, name: str = "") -> Finding:
    found = [finding for finding in check(config) if not name or finding.name == name]
    assert len(found) == 1, found
    return found[0]


# -- machine ----------------------------------------------------------------------------------------------------


def test_this_machine(tmp_path: Path) -> None:
    found = list(examine(config(tmp_path), machine.CHECKS))
    assert {finding.name for finding in found} >= {"python", "packages", "runtime", "processor", "memory", "disk"}
    assert all(bool(finding.remedy) == (finding.state is not State.OK) for finding in found)
    assert "could not be looked at" not in str(found)


def test_a_package_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "requires", lambda name: ["no-such-package>=1", "numpy", "torch; extra == 'train'"])
    found = one(machine.check_packages, config(tmp_path))
    assert (found.state, found.text) == (State.FAIL, "missing: no-such-package")


def test_a_runtime_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = config(tmp_path, inference={"device": "tensorrt"})
    found = one(machine.check_runtime, wanted)
    assert (found.state, "inference.device is tensorrt" in found.text) == (State.FAIL, True)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert one(machine.check_runtime, config(tmp_path)).state is State.WARN
    assert one(machine.check_runtime, config(tmp_path, inference={"model": "general"})).state is State.FAIL


@pytest.mark.parametrize(("free_mb", "state"), [(100, State.FAIL), (500, State.WARN), (900, State.OK)])
def test_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_mb: float, state: State) -> None:
    monkeypatch.setattr(machine, "_cgroup_free_mb", lambda: free_mb)
    assert one(machine.check_memory, config(tmp_path)).state is state


def test_an_old_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_cpu_flags", lambda: {"sse2"})
    assert one(machine.check_processor, config(tmp_path)).state is State.WARN
    monkeypatch.setattr(machine, "_cpu_flags", lambda: {"avx2"})
    assert "no VNNI" in one(machine.check_processor, config(tmp_path)).text


def test_a_disk_that_is_too_small(tmp_path: Path) -> None:
    assert one(machine.check_disk, config(tmp_path), "disk").state is State.OK
    found = one(machine.check_disk, config(tmp_path, spool={"quota_mb": 10**9}), "disk")
    assert (found.state, "spool.quota_mb" in found.remedy) == (State.WARN, True)


def test_a_slow_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_FSYNC_RATE_MIN", 1e9)
    assert one(machine.check_disk, config(tmp_path), "disk speed").state is State.WARN
    assert one(machine.check_disk, config(Path("/proc/absent")), "disk speed").state is State.FAIL


@pytest.mark.parametrize(("clock", "state"), [(Clock.SYNCHRONISED, State.OK), (Clock.UNSYNCHRONISED, State.WARN)])
def test_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock, state: State) -> None:
    monkeypatch.setattr(machine, "clock_state", lambda: clock)
    assert one(machine.check_clock, config(tmp_path)).state is state


def test_core_dumps_of_the_running_agent(tmp_path: Path) -> None:
    hold = "ulimit -S -c {}; exec {} -c 'from pathlib import Path; from walt_edge.config import Home; import sys\n"
    hold += "with Home(Path(sys.argv[1])): print(1, flush=True); sys.stdin.read()' {}"
    if not os.access("/proc/locks", os.R_OK):
        pytest.skip("/proc/locks cannot be read here")
    for limit, state in (("0", State.OK), ("1", State.WARN)):
        command = ["sh", "-c", hold.format(limit, sys.executable, tmp_path)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as holder:
            assert holder.stdout is not None
            if not holder.stdout.readline():
                pytest.skip(f"the limit of core files cannot be set to {limit} here")
            found = one(machine.check_core_dumps, config(tmp_path))
            assert str(holder.pid) in found.text
            assert found.state is state


# -- folder -----------------------------------------------------------------------------------------------------


def test_before_the_first_start(tmp_path: Path) -> None:
    found = list(examine(config(tmp_path / "new"), folder.CHECKS))
    assert {finding.state for finding in found} == {State.OK}
    assert not (tmp_path / "new").exists()


def test_a_folder_in_use_and_one_that_cannot_be(tmp_path: Path) -> None:
    with Home(tmp_path):
        assert f"used by the running agent ({os.getpid()})" in one(folder.check_folder, config(tmp_path)).text
        assert folder.agent_pid(tmp_path) == os.getpid()
    assert "no agent runs here" in one(folder.check_folder, config(tmp_path)).text
    (tmp_path / "file").write_text("")
    assert one(folder.check_folder, config(tmp_path / "file" / "x")).state is State.FAIL


def test_a_damaged_identity(tmp_path: Path) -> None:
    (tmp_path / "device.json").write_text("{}")
    found = one(folder.check_identity, config(tmp_path))
    assert (found.state, str(tmp_path / "device.json") in found.remedy) == (State.FAIL, True)


def test_a_spool_beside_its_agent(tmp_path: Path) -> None:
    with Spool(tmp_path) as spool:
        spool.accept(sealed(1))
        spool.accept(sealed(2))
        spool.acked([sealed(1).id])
        found = one(folder.check_spool, config(tmp_path))
    assert (found.state, found.text.startswith("2 accepted = 1 at home + 1 waiting")) == (State.OK, True)


def test_a_spool_that_dropped_and_one_that_is_damaged(tmp_path: Path) -> None:
    with Spool(tmp_path, quota_bytes=1) as spool:
        spool.accept(sealed(1))
        spool.accept(sealed(2))
    found = one(folder.check_spool, config(tmp_path))
    assert (found.state, "raise spool.quota_mb" in found.remedy) == (State.WARN, True)
    path = tmp_path / "spool.sqlite3"
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA ignore_check_constraints = ON")
        db.execute("UPDATE counts SET accepted = accepted + 5")
        db.commit()
    assert one(folder.check_spool, config(tmp_path)).state is State.FAIL
    path.write_bytes(b"no database" * 100)
    found = one(folder.check_spool, config(tmp_path))
    assert (found.state, "cannot be read" in found.text) == (State.FAIL, True)


@pytest.mark.parametrize(
    ("prepare", "state", "text"),
    [
        (lambda path: None, State.FAIL, "is missing"),
        (lambda path: (path.write_bytes(bytes(32)), path.chmod(0o600)), State.OK, "spool.key"),
        (lambda path: (path.write_bytes(bytes(32)), path.chmod(0o644)), State.FAIL, "open to others"),
        (lambda path: (path.write_bytes(b"short"), path.chmod(0o600)), State.FAIL, "holds 5 bytes"),
    ],
)
def test_the_spools_key(tmp_path: Path, prepare: Callable[[Path], object], state: State, text: str) -> None:
    path = tmp_path / "spool.key"
    prepare(path)
    found = one(folder.check_spool_key, config(tmp_path / "home", spool={"key": path}))
    assert (found.state, text in found.text) == (state, True)
    if state is State.OK:
        assert one(folder.check_spool_key, config(tmp_path, spool={"key": path})).state is State.FAIL  # beside it


def test_credentials_of_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert one(folder.check_credentials, config(tmp_path)).state is State.WARN
    (tmp_path / "spool.key").write_bytes(bytes(32))
    assert one(folder.check_credentials, config(tmp_path)).text == "spool.key"
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/absent")
    assert one(folder.check_credentials, config(tmp_path)).state is State.FAIL


def test_secrets_that_others_can_read(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("x" * 16)
    token.chmod(0o644)
    found = one(folder.check_secrets, config(tmp_path, web={"token_file": token}))
    assert (found.state, found.remedy) == (State.FAIL, f"chmod 600 {token}")
    file = tmp_path / "edge.yaml"
    file.write_text("")
    file.chmod(0o644)
    guarded = config(tmp_path, cameras=[{"url": f"rtsp://walt:{PASSWORD}@h/x"}])
    assert folder.config_file(file, guarded).state is State.FAIL
    assert folder.config_file(file, config(tmp_path)).state is State.OK


# -- cameras ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return film(tmp_path_factory.mktemp("street"), (320, 240), 0)


def film(folder: Path, size_wh: tuple[int, int], pan_px: int) -> Path:
    width, height = size_wh
    wide = np.random.default_rng(1).integers(0, 255, (height, width + 60 * pan_px, 3), dtype=np.uint8)
    wide = np.asarray(cv2.GaussianBlur(wide, (0, 0), 3), np.uint8) * 2
    for n in range(30):
        cv2.imwrite(str(folder / f"{n:03d}.png"), wide[:, n * pan_px : n * pan_px + width])
    return folder


def test_a_camera_that_stands_still(tmp_path: Path, street: Path) -> None:
    with RtspServer(street, loop=True, fps=10) as server:
        found = one(watching.check_cameras, config(tmp_path, cameras=[{"url": server.url, "name": "north"}]))
    assert found.state is State.OK, found
    assert found.name == "camera north"
    assert found.text.startswith("320x240 h264 at ")
    assert found.text.endswith("stands still")


@pytest.mark.parametrize(
    ("size_wh", "pan_px", "text"), [((320, 240), 8, "moves by"), ((160, 120), 0, "160x120")], ids=["pans", "small"]
)
def test_a_camera_that_will_not_do(tmp_path: Path, size_wh: tuple[int, int], pan_px: int, text: str) -> None:
    source = film(tmp_path, size_wh, pan_px)
    found = one(watching.check_cameras, config(tmp_path, cameras=[{"url": source}]))
    assert (found.state, text in found.text) == (State.WARN, True), found


def test_cameras_that_do_not_answer(tmp_path: Path) -> None:
    url = f"rtsp://walt:{PASSWORD}@{HOST}:{free_port()}/x"
    found = one(watching.check_cameras, config(tmp_path, cameras=[{"url": url}]))
    assert found.state is State.FAIL
    assert PASSWORD not in str(found)
    assert "check them" in found.remedy
    with Home(tmp_path):
        assert one(watching.check_cameras, config(tmp_path, cameras=[{"url": url}])).state is State.WARN
    assert one(watching.check_cameras, config(tmp_path)).state is State.FAIL


def test_the_face_detector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WALT_HOME", str(tmp_path))
    assert one(watching.check_faces, config(tmp_path)).state is State.WARN
    assert one(watching.check_faces, config(tmp_path, privacy={"faces": "off"})).state is State.OK
    assert one(watching.check_faces, config(tmp_path, privacy={"faces": tmp_path})).state is State.FAIL
    (tmp_path / "centerface.onnx").write_bytes(b"damaged")
    found = one(watching.check_faces, config(tmp_path, privacy={"faces": tmp_path}))
    assert (found.state, found.remedy) == (State.FAIL, "walt-edge models pull centerface")


def test_models_and_teachers(tmp_path: Path) -> None:
    assert one(watching.check_model, config(tmp_path)).state is State.OK
    broken = config(
        tmp_path, inference={"model": tmp_path / "absent.walt"}, privacy={"detector": tmp_path / "x.onnx"}
    )
    assert [finding.state for finding in watching.check_model(broken)] == [State.FAIL, State.FAIL]


# -- the command ------------------------------------------------------------------------------------------------


def test_a_check_that_fails_is_a_finding() -> None:
    def check_one(config: AgentConfig) -> Iterator[Finding]:
        raise RuntimeError("broken")

    def check_two(config: AgentConfig) -> Iterator[Finding]:
        yield ok("two", "fine")
        raise WaltError("no such thing; make one")

    found = list(examine(AgentConfig(), (check_one, check_two)))
    assert [finding.state for finding in found] == [State.FAIL, State.OK, State.FAIL]
    assert found[2].remedy == "make one"


def doctor(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.run_edge", "doctor", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120, check=False)


def test_all_is_well(tmp_path: Path, street: Path) -> None:
    with Broker.start(tmp_path) as broker:
        words = ("--input", street, "--broker", broker.address, "--home", tmp_path / "home", "--set", "web.port=0")
        ended = doctor(*words)
    assert ended.returncode == 0, ended.stdout
    lines = ended.stdout.splitlines()
    assert lines[-1].endswith(" 0 in the way")
    assert all(" -> " in line for line in lines if line.startswith(("warn", "fail")))
    assert not (tmp_path / "home").exists()


def test_beside_a_running_agent(tmp_path: Path, street: Path) -> None:
    home, port = tmp_path / "home", free_port()
    with Broker.start(tmp_path) as broker, ScriptedHome(broker) as listener, RtspServer(street, loop=True) as server:
        words = ("--rtsp", server.url, "--broker", broker.address, "--home", home, "--set", f"web.port={port}")
        command = [sys.executable, "-m", "tests.run_edge", "run", *map(str, words), "--telemetry-s", "0.2"]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=ROOT) as agent:
            try:
                wait_for(lambda: listener.on("telemetry"), 60, "for telemetry")
                ended = doctor(*words)
                told = {line.split()[1]: line for line in ended.stdout.splitlines()}
                assert f"used by the running agent ({agent.pid})" in told["folder"]
                assert f"http://127.0.0.1:{port}/livez answers" in ended.stdout
                assert ended.returncode == 0, ended.stdout
                heard = len(listener.on("telemetry"))
                wait_for(lambda: len(listener.on("telemetry")) > heard, 30, "for more of it")
                # The agent's own connection was left alone: no last will, no second greeting.
                assert len(listener.on("status")) == 1
            finally:
                agent.terminate()


def test_what_is_in_the_way_ends_with_1_and_shows_no_password(tmp_path: Path) -> None:
    file = tmp_path / "edge.yaml"
    file.write_text(f"home: {tmp_path}\ncameras:\n- url: rtsp://walt:{PASSWORD}@{HOST}:{free_port()}/x\n")
    ended = doctor("--config", file, "--broker", f"{HOST}:{free_port()}", "--json")
    assert ended.returncode == 1
    assert PASSWORD not in ended.stdout + ended.stderr
    told = json.loads(ended.stdout)
    assert not told["ok"]
    failed = {finding["name"] for finding in told["findings"] if finding["state"] == "fail"}
    assert failed >= {"configuration", "camera", "broker"}
    assert all(finding["remedy"] for finding in told["findings"] if finding["state"] != "ok")
