"""A contact sheet of a device's crops, for whoever is to approve it: what it sends, before any of it trains.

These are images of somebody whom nobody has vouched for yet: they are decoded by a process that can do nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from tqdm import tqdm

from walt_edge.contract.errors import UsageError
from walt_edge.contract.files import write_whole
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import decode_rle
from walt_edge.contract.messages import CropHeader, Envelope
from walt_edge.contract.topics import DeviceTopics, Kind
from walt_train.decoding import ConfinedDecoder, DecodingError
from walt_train.loop.store.store import Store
from walt_train.loop.store.tables import envelopes

_TILE_PX = 160
_LINE_PX = 16
_COLUMNS = 8
_INK = (235, 235, 235)
_OUTLINE = (80, 220, 80)

Image = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Sheet:
    """What a contact sheet shows.

    Attributes:
        shown: Crops on it.
        held: Crops of the device, or camera, that wait.
        unreadable: Of those that were to be shown.
    """

    shown: int
    held: int
    unreadable: int


def write_sheet(
    store: Store, names: DeviceTopics, path: Path, camera: str | None = None, most: int = 96, quiet: bool = True
) -> Sheet:
    """Writes a PNG of crops that wait for a person, spread evenly over when they came.

    Args:
        store: Where they are.
        names: The device.
        path: Of the picture.
        camera: Of the device; None for all.
        most: Crops on it.
        quiet: No progress bar.

    Raises:
        UsageError: None waits.
        NoDecoderError: Images cannot be decoded safely on this machine.
        OSError: It cannot be written.
    """
    row = envelopes.c
    query = select(row.id).where(row.device == names.device, row.site == names.site, row.held.is_not(None))
    query = query.where(row.kind == Kind.CROP.value).order_by(row.camera, row.received_us, row.id)
    if camera is not None:
        query = query.where(row.camera == camera)
    with store.engine.connect() as connection:
        ids = list(connection.scalars(query))
    if not ids:
        raise UsageError(
            f"no crop of {names.site}/{names.device} waits: walt-loop devices lists those that have some"
        )
    chosen = [ids[at] for at in np.unique(np.linspace(0, len(ids) - 1, most).round().astype(int))]
    tiles, unreadable = [], 0
    with ConfinedDecoder() as decoder:
        for sha256 in tqdm(chosen, desc="decoding", unit=" crops", disable=quiet):
            envelope = store.get(sha256).envelope
            try:
                picture: Image | None = decoder.decode(envelope.image, envelope.image_wh)
            except DecodingError:
                picture, unreadable = None, unreadable + 1
            tiles.append(_tile(envelope, picture))
    encoded = cv2.imencode(".png", _grid(tiles))[1].tobytes()
    write_whole(path, encoded)
    return Sheet(len(chosen), len(ids), unreadable)


def _tile(envelope: Envelope, picture: Image | None) -> Image:
    tile = np.full((_TILE_PX + 2 * _LINE_PX, _TILE_PX, 3), 30, dtype=np.uint8)
    header = envelope.header
    assert isinstance(header, CropHeader)
    if picture is None:
        _write(tile, "cannot be decoded", _TILE_PX // 2)
    else:
        outline = decode_rle(header.mask).astype(np.uint8)
        shown = picture.copy()
        edges = cv2.findContours(outline, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
        cv2.drawContours(shown, edges, -1, _OUTLINE, 1)
        scale = _TILE_PX / max(shown.shape[:2])
        size = (max(1, round(shown.shape[1] * scale)), max(1, round(shown.shape[0] * scale)))
        shown = np.asarray(cv2.resize(shown, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        tile[: size[1], : size[0]] = shown
    _write(tile, f"{_known(header.label)} {header.unoccluded_confidence:.2f}", _TILE_PX + 12)
    _write(tile, header.origin.camera[:24], _TILE_PX + 12 + _LINE_PX)
    return tile


def _known(label: Label) -> str:
    return label.name.lower()


def _write(tile: Image, words: str, at: int) -> None:
    cv2.putText(tile, words, (3, at), cv2.FONT_HERSHEY_SIMPLEX, 0.38, _INK, 1, cv2.LINE_AA)


def _grid(tiles: Sequence[Image]) -> Image:
    columns = min(_COLUMNS, len(tiles))
    empty = np.zeros_like(tiles[0])
    padded = [*tiles, *[empty] * (-len(tiles) % columns)]
    rows = [np.hstack(padded[at : at + columns]) for at in range(0, len(padded), columns)]
    return np.asarray(np.vstack(rows), dtype=np.uint8)
