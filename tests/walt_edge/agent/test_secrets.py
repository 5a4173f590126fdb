"""A real agent with passwords, well and failing: they are nowhere that anybody reads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError

import cv2
import numpy as np
import pytest

from tests.broker import HOST, Broker, free_port
from tests.fakes.home import ScriptedHome
from tests.material import ROOT
from tests.updates import Station
from tests.waiting import wait_for
from tests.web import Web
from walt_edge.cli import SCRIPT
from walt_edge.rtsp_server import RtspServer

CAMERA = "correct-horse%2Fbattery"
UPDATES = "staple-of-updates"
TOKEN = "token-of-the-page-0123"
SECRETS = (CAMERA, "correct-horse/battery", "correct-horse", UPDATES, TOKEN)


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("street")
    noise = np.random.default_rng(1).integers(60, 190, (120, 160, 3), dtype=np.uint8)
    for n in range(40):
        cv2.imwrite(str(folder / f"{n:04d}.png"), np.roll(noise, 2 * n, axis=1) if n > 30 else noise)
    return folder


def assert_no_secret(text: str | bytes, where: object) -> None:
    read = text.decode(errors="replace") if isinstance(text, bytes) else text
    found = [secret for secret in SECRETS if secret in read]
    assert not found, f"{found} in {where}: {read[:2000]}"


def with_password(url: str) -> str:
    return url.replace("://", f"://walt:{CAMERA}@")


@contextmanager
def agent(*words: object, **environment: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.run_edge", "run", *map(str, words)]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, **environment},
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def processes(pid: int) -> Iterable[Path]:
    """A process and those that it started, as /proc shows them."""
    yield Path(f"/proc/{pid}")
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from processes(int(child))


def fetched(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return f"{answer.headers}{answer.read().decode()}"
    except HTTPError as error:
        return f"{error.headers}{error.read().decode()}"


@pytest.mark.parametrize("form", ["text", "json"])
def test_an_agent_that_works(tmp_path: Path, street: Path, form: str) -> None:
    home, port = tmp_path / "home", free_port()
    with Broker.start(tmp_path) as broker, ScriptedHome(broker) as listener, RtspServer(street, loop=True) as server:
        words: tuple[object, ...] = ("--rtsp", with_password(server.url), "--broker", broker.address, "--home", home)
        words += (
            "--journal",
            tmp_path / "journal",
            "--telemetry-s",
            0.2,
            "--log-level",
            "DEBUG",
            "--log-format",
            form,
        )
        words += ("--set", f"web.token={TOKEN}", "--set", f"web.port={port}", "--frames", 20)
        with agent(*words) as process:
            wait_for(lambda: listener.on("telemetry"), 60, "for telemetry")
            for folder in processes(process.pid):
                assert_no_secret((folder / "cmdline").read_bytes(), folder)
            for page in ("livez", "readyz", "metrics", "", "api/figures"):
                assert_no_secret(fetched(f"http://{HOST}:{port}/{page}"), page)
            out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        for message in listener.messages:
            assert_no_secret(bytes(message.payload), message.topic)
        assert listener.on("info")
    assert_no_secret(out, "stdout")
    assert_no_secret(err, "stderr")
    assert "watching rtsp://walt:***@" in err
    if form == "json":
        assert all(json.loads(line)["level"] for line in err.splitlines())
    written = [path for folder in (home, tmp_path / "journal") for path in folder.rglob("*") if path.is_file()]
    assert {"device.json", "spool.sqlite3", "journal.jsonl"} <= {path.name for path in written}
    for path in written:
        assert_no_secret(path.read_bytes(), path)


def started(*words: object) -> tuple[int | None, str]:
    """Exit status and all output of an agent that ends by itself."""
    with agent(*words) as process:
        out, err = process.communicate(timeout=120)
    return process.returncode, out + err


def test_agents_that_fail_at_work(tmp_path: Path) -> None:
    camera, broker = with_password(f"rtsp://{HOST}:{free_port()}/x"), f"{HOST}:{free_port()}"
    served = tmp_path / "served"
    served.mkdir()
    with Web(served) as web:
        root = Station(tmp_path, web).folder / "root.json"
    updates = ("--updates", f"http://walt:{UPDATES}@{HOST}:1", "--trust", root)
    code, told = started("--rtsp", camera, "--broker", broker, "--home", tmp_path / "a", *updates)
    assert code == 1
    assert_no_secret(told, "output")
    assert "rtsp://walt:***@" in told
    # Several cameras are tried for ever: killed, it has said why.
    both = ("--rtsp", f"north={camera}", "--rtsp", f"south={camera}", "--log-format", "json")
    with agent(*both, "--broker", broker, "--home", tmp_path / "b", "--log-level", "DEBUG") as process:
        assert process.stderr is not None
        lines = [process.stderr.readline()]
        while "no connection to the broker" not in lines[-1]:
            lines.append(process.stderr.readline())
            assert lines[-1], lines
        for folder in processes(process.pid):
            assert_no_secret(Path(folder / "cmdline").read_bytes(), folder)
        process.terminate()
        out, err = process.communicate(timeout=120)
    assert_no_secret(out + err + "".join(lines), "output")


def asked(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str]:
    """Exit status and output of `walt-edge run`, here in this process: it ends before it does anything."""
    try:
        code = SCRIPT.main(["run", *map(str, words)])
    except SystemExit as exit_:
        code = int(exit_.code or 0)
    said = capsys.readouterr()
    return code, said.out + said.err


@pytest.mark.parametrize(
    ("words", "environment", "told"),
    [
        (("--transport", with_password("rtsp://h"), "--rtsp", "x"), {}, "--transport: cameras.0.transport"),
        (("--broker", with_password("mqtt://h")), {}, "is not HOST:PORT"),
        (("--no-such", with_password("rtsp://h")), {}, "unrecognized arguments"),
        (("--set", f"web.token=[{TOKEN}]"), {}, "web.token: found something else"),
        (("--set", f"web={TOKEN}"), {}, "no such key"),
        ((), {"WALT_EDGE_WEB__TOKEN": "short"}, "WALT_EDGE_WEB__TOKEN: web.token: shorter than 16 characters"),
        ((), {"WALT_EDGE_CAMERAS": with_password("rtsp://h")}, "WALT_EDGE_CAMERAS: cameras: expected JSON"),
    ],
)
def test_words_that_are_not_understood(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    environment: dict[str, str],
    told: str,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    code, said = asked(capsys, *words)
    assert code == 2
    assert told in said
    assert_no_secret(said, "output")


@pytest.mark.parametrize(
    "text",
    [
        f"cameras: [{{url: 'rtsp://walt:{CAMERA}@h/x', fps: -1}}]",
        f"cameras: rtsp://walt:{CAMERA}@h/x",
        f"cameras:\n- url: rtsp://walt:{CAMERA}@h/x: y",
        f"web: {{token: '{TOKEN}', tokn: '{TOKEN}'}}",
        f"web: {{token: {{a: '{TOKEN}'}}}}",
        f"web: {{token: '{TOKEN}', token_file: /x}}",
        f"updates: {{url: ['https://walt:{UPDATES}@h']}}",
    ],
)
def test_a_broken_file(capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str) -> None:
    file = tmp_path / "edge.yaml"
    file.write_text(text)
    code, said = asked(capsys, "--config", file)
    assert code == 2
    assert said.startswith(f"walt-edge: {file}:")
    assert_no_secret(said, "output")
