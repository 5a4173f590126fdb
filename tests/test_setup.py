"""deploy/dev/setup.sh, with stand-ins on PATH for the commands that would change the machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.material import ROOT


class Machine:
    """A checkout and a PATH whose apt-get, dpkg-query, id, sudo and python3.11 are scripts that log."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "log"
        self.log.touch()
        (folder / "bin").mkdir()
        (folder / "deploy/dev").mkdir(parents=True)
        shutil.copy(ROOT / "deploy/dev/setup.sh", folder / "deploy/dev/setup.sh")
        for name in ("pyproject.toml", "constraints.txt"):
            (folder / name).write_text(name)
        self.command("dpkg-query", "exit 1")
        self.command("apt-get", "")
        self.command("id", "echo 1000")
        self.command("sudo", "exit 1")
        self.command("python3.11", 'if [ "$2" = venv ]; then mkdir -p .venv/bin; cp "$0" .venv/bin/python; fi')

    def command(self, name: str, body: str) -> None:
        path = self.folder / "bin" / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >>{self.log}\n{body}\n')
        path.chmod(0o755)

    def setup(self, **environment: str) -> subprocess.CompletedProcess[str]:
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        return subprocess.run(
            ["bash", str(self.folder / "deploy/dev/setup.sh"), "cpu,loop"],
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": path, "HOME": str(self.folder), **environment},
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_without_root_one_line_names_the_command(machine: Machine) -> None:
    done = machine.setup()
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert "sudo apt-get install --no-install-recommends python3-venv mosquitto" in line
    assert "apt-get" not in machine.log.read_text()


def test_walt_apt_0_only_lists(machine: Machine) -> None:
    done = machine.setup(WALT_APT="0")
    assert done.returncode == 0, done.stderr
    assert "mosquitto" in done.stderr
    assert "apt-get" not in machine.log.read_text()


def test_the_second_run_does_nothing(machine: Machine) -> None:
    machine.command("dpkg-query", "echo 'install ok installed'")
    assert machine.setup().returncode == 0
    log = machine.log.read_text()
    assert "-m pip install" in log
    assert "-c constraints.txt -e .[cpu,loop]" in log
    machine.log.write_text("")
    again = machine.setup()
    assert again.returncode == 0
    assert again.stderr == ""
    assert "pip" not in machine.log.read_text()


def test_without_a_python_the_line_says_which(machine: Machine) -> None:
    machine.command("dpkg-query", "echo 'install ok installed'")
    done = machine.setup(PYTHON="no-such-python")
    assert done.returncode == 1
    assert "at least 3.11" in done.stderr
