"""`manifest.json` of a generation: what it is made of, in which versions, and every command that was run for it."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import msgspec

from walt_edge.contract.files import write_whole
from walt_train.loop.serve.jobs import Generation

_PACKAGES = ("walt-amodal", "torch", "numpy", "opencv-python-headless", "onnx", "onnxruntime", "mmengine")
_MOST_COMMANDS = 200


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """A program that was run; times are home's, microseconds UTC.

    Attributes:
        title: What for.
        attempt: Of its step.
        words: Its command line.
        log: Its output, below the generation's folder.
        began_us: When it was started, or found again.
        ended_us: When it ended; None: it had not, as far as its worker saw.
        status: Its exit status; None likewise.
    """

    title: str
    attempt: int
    words: tuple[str, ...]
    log: str
    began_us: int
    ended_us: int | None = None
    status: int | None = None


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a generation is made of.

    Attributes:
        camera: The camera's name.
        number: Of the generation.
        why: What began it.
        recipe: Of the training.
        seed: Of the training.
        training_steps: Optimiser steps; None = what the recipe says.
        clipart_sha256: Of its frozen `clipart.json`; "" before that is there.
        versions: Of what is installed here, by package; `python` and `machine` too.
        commands: What was run, the oldest first; the newest hundreds.
    """

    camera: str
    number: int
    why: str
    recipe: str
    seed: int
    training_steps: int | None
    clipart_sha256: str
    versions: dict[str, str]
    commands: tuple[Command, ...]
    version: int = 1


def read_manifest(path: Path) -> Manifest | None:
    """Reads a manifest; None where there is none that this program can read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Manifest)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def note(path: Path, generation: Generation, command: Command) -> None:
    """Writes a command, over what was written when it began; raises OSError."""
    before = read_manifest(path)
    begun = before.commands if before is not None else ()
    kept = [one for one in begun if _key(one) != _key(command)]
    manifest = Manifest(
        camera=generation.camera,
        number=generation.number,
        why=generation.why,
        recipe=generation.recipe,
        seed=generation.seed,
        training_steps=generation.training_steps,
        clipart_sha256=generation.clipart_sha256,
        versions=_versions(_PACKAGES),
        commands=(*kept, command)[-_MOST_COMMANDS:],
    )
    write_whole(path, msgspec.json.format(msgspec.json.encode(manifest), indent=1))


def _key(command: Command) -> tuple[str, int, int]:
    return command.title, command.attempt, command.began_us


def _versions(packages: Sequence[str]) -> dict[str, str]:
    found = {"python": platform.python_version(), "machine": f"{platform.system()} {platform.machine()}"}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
