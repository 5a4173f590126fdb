"""`learned.json` beside a checkpoint: which crops its weights learned from, and which chose its threshold.

The checkpoint's manifest names this file's sha256, and a bundle's names the checkpoint's: so a bundle is bound to
every crop. With these crops, the recipe and the seed, every composite that was trained on can be made again.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

import msgspec

from walt_edge.contract.errors import WaltError
from walt_edge.contract.files import write_whole

FILE_NAME = "learned.json"


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A data set that took part.

    Attributes:
        role: Whether weights learned from it, or it only chose the threshold and the golden pictures.
        data_sha256: Names its content with the settings and the seed.
        camera: Of clip art: the camera's name.
        clipart_sha256: Of its `clipart.json`; "" for annotated pictures, which are named by `data_sha256` alone.
        crops: Ids of its crops, sorted.
        plates: Ids of its plates, sorted.
        unnamed: Crops of which nobody knows an id.
    """

    role: Literal["train", "validation"]
    data_sha256: str
    camera: str = ""
    clipart_sha256: str = ""
    crops: tuple[str, ...] = ()
    plates: tuple[str, ...] = ()
    unnamed: int = 0


class Learned(msgspec.Struct, frozen=True, kw_only=True):
    """What a training's weights come from.

    Attributes:
        data_sha256: Of the training's data, as the checkpoint's manifest has it.
        seed: Of the training.
        parts: In the order in which they take turns.
        started: `data_sha256` of the trainings whose weights it began with, the last first.
    """

    data_sha256: str
    seed: int
    parts: tuple[Part, ...]
    started: tuple[str, ...] = ()
    version: int = 1

    def crops(self, role: str) -> frozenset[str]:
        """Ids of the crops in a role."""
        return frozenset(crop for part in self.parts if part.role == role for crop in part.crops)


def write_learned(folder: Path, learned: Learned) -> str:
    """Writes the file whole or not at all; returns its sha256."""
    data = msgspec.json.format(msgspec.json.encode(learned), indent=1)
    write_whole(folder / FILE_NAME, data)
    return hashlib.sha256(data).hexdigest()


def read_learned(path: Path) -> tuple[Learned, str]:
    """Reads the file; returns what it says and its sha256.

    Raises:
        WaltError: It is missing or malformed.
    """
    try:
        data = path.read_bytes()
        return msgspec.json.decode(data, type=Learned), hashlib.sha256(data).hexdigest()
    except OSError as error:
        raise WaltError(f"cannot read {path}: {error.strerror}; walt-train writes it beside checkpoint.pt") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise WaltError(f"{path} is malformed ({error}): train again") from error
