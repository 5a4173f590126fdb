"""What each step of a generation leaves in the tables of lineage.

Each function gives what is to be done in the transaction that ends the step. It is done once, or not at all: a kill
before it has the step done again, and what is done again gives the same rows.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from sqlalchemy import Connection

from walt_edge.contract.clipart import ClipArt
from walt_edge.contract.errors import WaltError
from walt_edge.contract.files import write_whole
from walt_edge.contract.topics import DeviceTopics
from walt_train.engine.learned import FILE_NAME as LEARNED
from walt_train.engine.learned import Learned, read_learned
from walt_train.loop.lineage.record import (
    Artifact,
    buried,
    hold,
    note,
    note_members,
    note_wishes,
    release_id,
    run_id,
)

CAME = "came.json"
Record = Callable[[Connection], None]


class ForgottenError(WaltError):
    """Crops were forgotten while they were being frozen: they are frozen again without them."""


class LineageError(WaltError):
    """What was made is not of what it is said to be made of."""


class Came(msgspec.Struct, frozen=True):
    """`came.json` in a frozen clip art: every crop and plate that mining was given, in the order in which it was.

    With these, and nothing else, the same clip art can be mined again.
    """

    crops: tuple[str, ...]
    plates: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Maker:
    """A generation that makes something.

    Attributes:
        camera: Its camera.
        number: Its number.
        folder: Its folder.
        home: What places are told below.
    """

    camera: str
    number: int
    folder: Path
    home: Path

    @property
    def title(self) -> str:
        """How people are told of it."""
        return f"{self.camera} generation {self.number}"

    def artifact(self, sha256: str, kind: str, name: str, path: Path | None = None) -> Artifact:
        """Something that it made now."""
        place = "" if path is None else str(path.relative_to(self.home))
        return Artifact(sha256, kind, name, self.camera, place, time.time_ns() // 1000)

    @property
    def run(self) -> str:
        """Its id."""
        return run_id(self.camera, self.number)


def write_came(folder: Path, clipart: ClipArt) -> None:
    """Writes which envelopes a clip art was mined of."""
    came = Came(tuple(clip.crop for clip in clipart.clips), tuple(plate.id for plate in clipart.plates))
    write_whole(folder / CAME, msgspec.json.format(msgspec.json.encode(came), indent=1))


def roles_in(folder: Path, clipart: ClipArt) -> dict[str, str]:
    """What each envelope is there for: `clip`, `plate`, or `left` out by mining."""
    try:
        came = msgspec.json.decode((folder / CAME).read_bytes(), type=Came)
    except FileNotFoundError:
        came = Came((), ())
    except (OSError, msgspec.DecodeError) as error:
        raise LineageError(f"{folder / CAME} cannot be read ({error}): remove {folder}, it is made again") from error
    chosen = {clip.crop: "clip" for clip in clipart.clips} | {plate.id: "plate" for plate in clipart.plates}
    roles = dict.fromkeys((*came.crops, *came.plates), "left") | chosen
    roles.pop("", None)
    return roles


def froze(maker: Maker, sha256: str, folder: Path, roles: Mapping[str, str]) -> Record:
    """Clip art was frozen.

    Raises (in the transaction):
        ForgottenError: Something of it was forgotten meanwhile.
    """

    def record(connection: Connection) -> None:
        hold(connection)
        gone = buried(connection, list(roles))
        if gone:
            raise ForgottenError(f"{len(gone)} crops were deleted or rejected while they were being frozen")
        note(connection, maker.artifact(sha256, "clipart", f"clip art of {maker.title}", folder))
        note_members(connection, sha256, roles)
        note(connection, maker.artifact(maker.run, "run", maker.title, maker.folder), [sha256])

    return record


def trained(maker: Maker, clipart: str, checkpoint: str, path: Path) -> Record:
    """A checkpoint was trained on a clip art.

    Raises:
        LineageError: It learned from something else.
    """
    learned_path = path.with_name(LEARNED)
    learned = read_learned(learned_path) if learned_path.is_file() else None
    if learned is not None:
        _check(learned[0], clipart, path)

    def record(connection: Connection) -> None:
        source = clipart
        if learned is not None:
            said, source = learned
            made = maker.artifact(source, "manifest", f"data of {maker.title}", learned_path)
            note(connection, made, [clipart])
            note_members(connection, clipart, _roles(said))
        name = f"weights of {maker.title}"
        note(connection, maker.artifact(checkpoint, "checkpoint", name, path), [source, maker.run])

    return record


def exported(maker: Maker, checkpoint: str, bundle: str, name: str, path: Path) -> Record:
    """A bundle was made of a checkpoint."""
    return lambda connection: note(connection, maker.artifact(bundle, "bundle", name, path), [checkpoint])


def judged(maker: Maker, bundle: str, truth: str, path: Path) -> Record:
    """A bundle was judged.

    Args:
        maker: Who made it.
        bundle: Its sha256.
        truth: Names the pictures that judged it, none of which trains; "" if there are none.
        path: Of the verdict.
    """
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()

    def record(connection: Connection) -> None:
        if truth:
            note(connection, maker.artifact(truth, "truth", f"judges {maker.camera}"))
        made = maker.artifact(sha256, "verdict", f"on {maker.title}", path)
        note(connection, made, [bundle, *([truth] if truth else [])])

    return record


def published(maker: Maker, bundle: str, number: int, target: str, devices: Sequence[DeviceTopics]) -> Record:
    """A bundle was released, and devices were told."""

    def record(connection: Connection) -> None:
        made = maker.artifact(release_id(number), "release", target)
        note(connection, made, [bundle])
        note_wishes(connection, number, devices, made.created_us)

    return record


def _roles(learned: Learned) -> dict[str, str]:
    judging = dict.fromkeys(learned.crops("validation"), "validate")
    return judging | dict.fromkeys(learned.crops("train"), "train")


def _check(learned: Learned, clipart: str, path: Path) -> None:
    found = {part.clipart_sha256 for part in learned.parts if part.clipart_sha256}
    if found - {clipart}:
        other = min(found - {clipart})
        raise LineageError(f"{path} learned from clip art {other[:12]}, expected {clipart[:12]}: train it again")
