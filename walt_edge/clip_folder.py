"""Sealed crops and plates as the images of a clip-art folder."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from walt_edge.contract.clipart import Clip, Plate
from walt_edge.contract.errors import WaltError
from walt_edge.contract.messages import CropHeader, PlateHeader
from walt_edge.privacy.anonymiser import SealedEnvelope


def write_images(folder: Path, sealed: Iterable[SealedEnvelope]) -> tuple[list[Clip], list[Plate]]:
    """Writes every image, named by its hash; returns the records that name them."""
    clips, plates = [], []
    for one in sealed:
        header = one.envelope.header
        if isinstance(header, CropHeader):
            clips.append(Clip(header=header, image=_write_image(folder, "crops", one), crop=one.id))
        elif isinstance(header, PlateHeader):
            source: Literal["median", "frame"] = "frame" if header.samples == 1 else "median"
            image = _write_image(folder, "plates", one)
            plates.append(Plate(id=one.id, header=header, image=image, source=source))
    return clips, plates


def _write_image(folder: Path, kind: str, sealed: SealedEnvelope) -> str:
    image = sealed.envelope.image
    suffix = ".jpg" if sealed.envelope.media_type == "image/jpeg" else ".png"
    name = f"{kind}/{hashlib.sha256(image).hexdigest()}{suffix}"
    path = folder / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image)
    except OSError as error:
        raise WaltError(f"cannot write {path}: {error.strerror}; free space or choose another --out") from error
    return name
