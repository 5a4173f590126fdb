"""The images, as far as they can be held without a container engine: what they are made of, and as whom they run."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest

from tests.material import ROOT
from tests.web import Web, failing
from walt_edge.rtsp_server import RtspServer
from walt_edge.settings.sources import known_keys, read_value

FOLDER = ROOT / "deploy" / "docker"
FILES = ("Dockerfile", "Dockerfile.jetson")
HIDDEN_NAMES = re.compile(r"TOKEN|PASSWORD|SECRET", re.IGNORECASE)


@dataclass(frozen=True)
class Instruction:
    """One instruction of a stage."""

    stage: int
    name: str
    words: str


def instructions(name: str) -> list[Instruction]:
    """What a Dockerfile says, lines joined, comments left out."""
    text = "\n".join(line for line in (FOLDER / name).read_text().splitlines() if not line.lstrip().startswith("#"))
    found: list[Instruction] = []
    stage = -1
    for line in text.replace("\\\n", " ").splitlines():
        word, _, rest = line.strip().partition(" ")
        if not word:
            continue
        stage += word == "FROM"
        found.append(Instruction(stage, word, " ".join(rest.split())))
    return found


def last_stage(name: str) -> list[Instruction]:
    every = instructions(name)
    return [one for one in every if one.stage == every[-1].stage]


def one(name: str, instruction: str) -> str:
    (found,) = (one.words for one in last_stage(name) if one.name == instruction)
    return found


def is_in_context(path: str) -> bool:
    """Whether .dockerignore leaves a path; the last pattern that fits it or a folder above it decides."""
    kept = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!")
        if not line or line.startswith("#"):
            continue
        above = [path, *(str(parent) for parent in Path(path).parents if str(parent) != ".")]
        if any(fnmatch.fnmatch(one, pattern) or fnmatch.fnmatch(f"/{one}", pattern) for one in above):
            kept = line.startswith("!")
    return kept


@pytest.mark.parametrize("name", FILES)
def test_it_is_made_of_what_is_here(name: str) -> None:
    sources = [
        word
        for one in instructions(name)
        if one.name == "COPY" and "--from" not in one.words
        for word in shlex.split(one.words)[:-1]
    ]
    assert {"pyproject.toml", "constraints.txt", "walt_edge"} <= set(sources)
    for source in sources:
        assert (ROOT / source).exists(), source
        assert is_in_context(source), source
    packages = re.search(r"^packages = (\[.*\])", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert packages is not None
    assert {package.split("/")[0] for package in json.loads(packages[1])} <= set(sources)


def test_nothing_else_goes_into_the_context() -> None:
    for path in (".git/config", "tests/broker.py", "docs/formats.md", "benchmarks/edge.py", ".venv/bin/python"):
        assert not is_in_context(path), path
    for path in ("deploy/docker/edge.yaml", "deploy/docker/spool.key", "walt/device.json"):
        assert not is_in_context(path), path
    assert not is_in_context("walt_edge/__pycache__/cli.pyc")
    assert is_in_context("walt_edge/data/walt-general.walt")


@pytest.mark.parametrize("name", FILES)
def test_versions_are_pinned(name: str) -> None:
    for one in instructions(name):
        if one.name == "FROM":
            image = one.words.split()[0]
            assert image == "${L4T_BASE}" or re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", image), image
        if one.name == "RUN" and "pip install" in one.words:
            for command in re.findall(r"pip install [^&]*", one.words):
                assert "-c constraints.txt" in command or "--no-index" in command, command


@pytest.mark.parametrize("name", FILES)
def test_the_last_stage_runs_as_nobody_and_builds_nothing(name: str) -> None:
    stage = last_stage(name)
    assert one(name, "USER") == "10001:10001"
    after = stage[[one.name for one in stage].index("USER") :]
    assert not [one for one in after if one.name in ("RUN", "COPY", "ADD")]
    for step in (step for step in stage if step.name == "RUN"):
        assert not re.search(r"pip install|apt-get|curl|wget|gcc", step.words)
    assert not [one for one in instructions(name) if one.name == "ADD"]
    assert "pip uninstall" in " ".join(one.words for one in instructions(name) if one.name == "RUN")


@pytest.mark.parametrize("name", FILES)
def test_its_environment_is_known_and_holds_no_secret(name: str) -> None:
    keys = set(known_keys())
    for step in (step for step in instructions(name) if step.name in ("ENV", "ARG")):
        assert not HIDDEN_NAMES.search(step.words), step
        for variable in re.findall(r"WALT_EDGE_(\w+)=", step.words):
            assert variable.lower().replace("__", ".") in keys, variable


@pytest.mark.parametrize("name", FILES)
def test_it_starts_the_agent_and_takes_signals_itself(name: str) -> None:
    assert json.loads(one(name, "ENTRYPOINT")) == ["walt-edge"]
    assert json.loads(one(name, "CMD")) == ["run", "--config", "/etc/walt/edge.yaml"]
    assert one(name, "STOPSIGNAL") == "SIGTERM"


@pytest.mark.parametrize("name", FILES)
def test_it_is_healthy_while_the_agent_lives(name: str, tmp_path: Path) -> None:
    check = one(name, "HEALTHCHECK")
    assert "/livez" in check
    _, option, code = json.loads(check[check.index("CMD ") + 4 :])
    (tmp_path / "livez").write_text("alive")
    with Web(tmp_path) as web:
        here = code.replace("8090", str(urlsplit(web.url).port))
        assert here != code
        assert subprocess.run([sys.executable, option, here], check=False).returncode == 0
        web.answers["livez"] = failing
        assert subprocess.run([sys.executable, option, here], check=False).returncode == 1
    assert subprocess.run([sys.executable, option, here], check=False, capture_output=True).returncode == 1


def image_environment(name: str) -> dict[str, str]:
    """The variables of an image, but where programs are found."""
    pairs = (word.partition("=") for one in last_stage(name) if one.name == "ENV" for word in one.words.split())
    return {key: value for key, _, value in pairs if key != "PATH"}


IMAGE = image_environment("Dockerfile")
RUN = ["-m", "tests.run_edge", "run"]
# May read what root may, since Python itself may lie in root's home here; writes as nobody does.
AS_NOBODY = ["setpriv", "--reuid=10001", "--regid=10001", "--clear-groups", "--no-new-privs"]
AS_NOBODY += ["--bounding-set=-all,+dac_read_search", "--inh-caps=-all,+dac_read_search"]
AS_NOBODY += ["--ambient-caps=-all,+dac_read_search"]


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root to become nobody")
def test_nobody_can_run_it_and_it_writes_to_its_folder_alone(tmp_path: Path) -> None:
    """As in the image: another user, no home, one folder; everything else here belongs to root."""
    street = tmp_path / "street"
    street.mkdir()
    for n in range(20):
        cv2.imwrite(str(street / f"{n:02d}.png"), np.full((120, 160, 3), 100, np.uint8))
    with TemporaryDirectory() as place, RtspServer(street, loop=True) as server:
        Path(place).chmod(0o755)
        home, key = Path(place) / "home", Path(place) / "spool.key"
        home.mkdir()
        key.write_bytes(bytes(32))
        for path in (home, key):
            os.chown(path, 10001, 10001)
            path.chmod(0o700 if path.is_dir() else 0o400)
        environment = {name: str(home) if value == "/var/lib/walt" else value for name, value in IMAGE.items()}
        environment |= {"WALT_EDGE_SPOOL__KEY": str(key), "WALT_EDGE_WEB__PORT": "0", "PATH": os.environ["PATH"]}
        ended = subprocess.run(
            [*AS_NOBODY, sys.executable, *RUN, "--rtsp", server.url, "--frames", "5", "--drain-s", "0"],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=environment,
            check=False,
            timeout=120,
        )
        assert ended.returncode == 0, ended.stderr
        assert "watched 5 of" in ended.stderr
        assert "ermission denied" not in ended.stderr
        assert {"device.json", "spool.sqlite3"} <= {path.name for path in home.iterdir()}


def test_compose_confines_it() -> None:
    service = read_value((FOLDER / "compose.yaml").read_text())["services"]["walt-edge"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["ulimits"] == {"core": 0}
    assert (FOLDER / service["build"]["context"]).resolve() == ROOT
    assert (ROOT / service["build"]["dockerfile"]).is_file()
    keys = {name.removeprefix("WALT_EDGE_").lower().replace("__", ".") for name in service["environment"]}
    assert keys <= set(known_keys())
