"""Home's units: well-formed, tightly confined, and their programs work inside of what they leave."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from tests.confined import UNAVAILABLE, allowed_calls, values
from tests.deploy.composed import parse
from tests.deploy.deployed import set_up
from tests.deploy.test_systemd import FOLDER, NEWER, analyze, needs_systemd
from tests.material import ROOT
from tests.waiting import wait_for

SERVICES = ("identity", "ingest@", "serve", "web", "backup")
# As systemd 252 counts; the most is that of serve and web, whose decoder limits itself.
EXPOSURE_MAX = 1.3
DEBIAN = Path("/lib/systemd/system/mosquitto.service")
LOOP = "/opt/walt/bin/walt-loop"


def path_of(name: str) -> Path:
    return FOLDER / f"walt-loop-{name}.service"


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """All units together, with programs that exist here; Debian's Mosquitto under its drop-in."""
    for path in FOLDER.glob("walt-loop-*"):
        text = path.read_text().replace(LOOP, "/bin/true")
        (tmp_path / path.name).write_text(
            "\n".join(line for line in text.splitlines() if "Documentation=" not in line)
        )
    for path in FOLDER.glob("walt-mosquitto-*"):
        (tmp_path / path.name).write_text(path.read_text().replace("/bin/systemctl", "/bin/true"))
    if DEBIAN.is_file():
        (tmp_path / DEBIAN.name).write_text(DEBIAN.read_text())
        shutil.copytree(FOLDER / "mosquitto.service.d", tmp_path / "mosquitto.service.d")
    return tmp_path


@needs_systemd
def test_systemd_finds_nothing_wrong(units: Path) -> None:
    template = units / "walt-loop-ingest@.service"
    template.rename(units / "walt-loop-ingest@1.service")
    names = sorted(str(path) for path in units.iterdir() if path.is_file())
    checked = analyze("verify", *names)
    own = [line for line in checked.stderr.splitlines() if re.search(r"walt-|mosquitto|walt\.conf", line)]
    complaints = [line for line in own if not NEWER.search(line)]
    assert complaints == []
    assert checked.returncode == 0, checked.stderr


@needs_systemd
@pytest.mark.parametrize("name", [*SERVICES, "mosquitto"])
def test_it_is_exposed_little(units: Path, name: str) -> None:
    unit = units / (DEBIAN.name if name == "mosquitto" else path_of(name).name)
    if not unit.is_file():
        pytest.skip("mosquitto is not here: apt-get install mosquitto")
    if "@" in unit.name:
        unit = unit.rename(units / unit.name.replace("@", "@1"))
    environment = os.environ | {"SYSTEMD_UNIT_PATH": f"{units}:"}
    words = [
        "systemd-analyze",
        "--no-pager",
        "security",
        "--offline=true",
        f"--threshold={round(10 * EXPOSURE_MAX)}",
        str(unit),
    ]
    judged = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60, env=environment)
    exposure = re.search(r"Overall exposure level for \S+: ([0-9.]+)", judged.stdout)
    assert exposure is not None, judged.stderr
    assert float(exposure[1]) <= EXPOSURE_MAX
    assert judged.returncode == 0, judged.stdout[-400:]


@pytest.mark.parametrize("name", SERVICES)
def test_commands_are_understood_by_the_program(name: str) -> None:
    (line,) = values(path_of(name), "ExecStart")
    settings = dict(
        row.split("=", 1) for row in (FOLDER / "home.env.example").read_text().splitlines() if row and row[0] != "#"
    )
    line = re.sub(r"\$(WALT_\w+)", lambda one: settings[one[1]], line).replace("%i", "1").replace("%H", "home")
    if name == "backup":
        line = line.replace("$$", "$").replace("%%", "%").replace(f"exec {LOOP}", f"echo {LOOP}")
        line = subprocess.run(line, shell=True, capture_output=True, text=True, check=True).stdout
    words = shlex.split(line)
    assert words[0] == LOOP
    parse(["walt-loop", *words[1:]])


@pytest.mark.parametrize("name", SERVICES)
def test_each_sees_no_more_than_it_needs(name: str) -> None:
    unit = path_of(name)
    assert values(unit, "User") == ["walt-home"]
    assert values(unit, "NoNewPrivileges") == ["yes"]
    assert values(unit, "ProtectSystem") == ["strict"]
    hidden = values(unit, "InaccessiblePaths")
    assert (hidden == []) == (name == "identity"), "the authorities are of identity alone"
    if name != "backup":
        assert values(unit, "Restart") == ["always"]
        assert values(unit, "StartLimitIntervalSec") == ["0"]
    assert not re.search(r"PASSWORD|SECRET|TOKEN", " ".join(values(unit, "Environment")))
    assert [one.partition(":")[0] for one in values(unit, "LoadCredential")] == ["pgpass", "s3"]


def test_the_broker_sees_its_own_folder_alone() -> None:
    unit = FOLDER / "mosquitto.service.d" / "walt.conf"
    assert values(unit, "User") == ["walt-home"]
    assert values(unit, "TemporaryFileSystem") == ["/var/lib:ro"]
    shown = [*values(unit, "BindReadOnlyPaths"), *values(unit, "BindPaths")]
    assert shown == ["/var/lib/walt-home/mosquitto", "/var/lib/walt-home/mosquitto/data"]
    watched = {Path(path) for path in values(FOLDER / "walt-mosquitto-reload.path", "PathChanged")}
    assert {path.name for path in watched} == {"acl", "devices.crl", "broker.pem"}
    assert {path.parent for path in watched} == {Path(shown[0])}


def test_user_and_folders() -> None:
    assert (FOLDER / "walt-loop.sysusers.conf").read_text().splitlines()[-1].startswith("u walt-home ")
    lines = (FOLDER / "walt-loop.tmpfiles.conf").read_text().splitlines()
    made = {line.split()[1]: line.split()[2:4] for line in lines if not line.startswith("#")}
    assert made["/var/lib/walt-home/identity"] == ["0700", "walt-home"]
    assert made["/etc/walt-home/credentials"] == ["0700", "root"]
    for name in SERVICES:
        for line in values(path_of(name), "ReadWritePaths"):
            assert set(line.split()) <= set(made), name


@needs_systemd
@pytest.mark.parametrize("name", SERVICES)
def test_what_a_thief_would_want_is_denied(name: str) -> None:
    denied = {"mount", "reboot", "ptrace", "setuid", "chown", "init_module", "settimeofday", "bpf"}
    assert not denied & allowed_calls(path_of(name))


def confined(unit: Path, *words: object) -> list[str]:
    main = "from walt_train.loop.cli import main; main()"
    return [sys.executable, "-m", "tests.confined", str(unit), sys.executable, "-c", main, *map(str, words)]


@pytest.mark.slow
@needs_systemd
def test_identity_works_in_its_confinement(tmp_path: Path) -> None:
    house = set_up(tmp_path / "home", "--store", tmp_path / "store")
    words = confined(path_of("identity"), "identity", "--home", house.folder, "--store", tmp_path / "store")
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log, cwd=ROOT)
    try:
        wait_for(lambda: process.poll() is not None or b"https://" in (tmp_path / "log").read_bytes())
        if process.poll() == UNAVAILABLE:
            pytest.skip((tmp_path / "log").read_text().strip())
        url = f"https://127.0.0.1:{house.address.enroll_port}/identity/v1/ca"
        with requests.Session() as session:
            session.trust_env = False
            given = session.get(url, timeout=20, verify=str(house.authority.folder / "home-ca.pem"))
        assert given.content == house.authority.home_pem
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, (tmp_path / "log").read_text()
    finally:
        process.kill()
        process.wait()
