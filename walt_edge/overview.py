"""One picture of what was mined: plate, a frame with its outlines, the chosen clips, and why others were not chosen.

Made of anonymised pixels only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.errors import WaltError
from walt_edge.contract.masks import Mask, decode_rle
from walt_edge.contract.messages import CropHeader, PlateHeader
from walt_edge.privacy.anonymiser import AnonymisedImage, SealedEnvelope
from walt_edge.vision.sightings import Sighting

_Picture = NDArray[np.uint8]
_WIDTH = 1536
_CELL_WH = (96, 128)
_CELLS_MAX = 16 * 12
_GROUND = (226, 226, 226)
_WHOLE, _NOT, _INK = (60, 170, 30), (40, 40, 220), (40, 40, 40)


class Overview:
    """Collects the most telling frame while mining, and draws the sheet at the end."""

    def __init__(self) -> None:
        self._best = -1.0
        self._image: AnonymisedImage | None = None
        self._sightings: tuple[Sighting, ...] = ()

    def offer(self, image: AnonymisedImage, sightings: Sequence[Sighting]) -> None:
        """Keeps the frame with most whole objects; others count a little."""
        value = sum(1.0 if not s.reasons and s.track_id >= 0 else 0.2 for s in sightings)
        if value > self._best:
            self._best, self._image, self._sightings = value, image, tuple(sightings)

    def draw(self, sealed: Sequence[SealedEnvelope], rejected: Mapping[str, int]) -> _Picture:
        """The sheet, (H, 1536, 3)."""
        plates = [one for one in sealed if isinstance(one.envelope.header, PlateHeader)]
        crops = [one for one in sealed if isinstance(one.envelope.header, CropHeader)]
        panels = [decode_image(plates[-1])] if plates else []
        if self._image is not None:
            panels.append(draw_sightings(self._image, self._sightings))
        width = _WIDTH // max(1, len(panels))
        top = [fit_width(panel, width) for panel in panels]
        rows = [np.hstack([_pad_height(one, max(len(p) for p in top)) for one in top])] if top else []
        why = ", ".join(f"{reason}: {count}" for reason, count in rejected.items()) or "none"
        rows.append(text_line(f"{len(crops)} clips chosen; objects not chosen, by reason: {why}"))
        rows.append(grid([cut_out(crop) for crop in crops[:_CELLS_MAX]]))
        return np.vstack([_pad_width(row, _WIDTH) for row in rows])

    def write(self, path: Path, sealed: Sequence[SealedEnvelope], rejected: Mapping[str, int]) -> None:
        """Draws and writes the sheet."""
        if not cv2.imwrite(str(path), self.draw(sealed, rejected)):
            raise WaltError(f"cannot write {path}: check that the folder exists and has space")


def decode_image(sealed: SealedEnvelope) -> _Picture:
    """The picture in an envelope."""
    return np.asarray(cv2.imdecode(np.frombuffer(sealed.envelope.image, np.uint8), cv2.IMREAD_COLOR), np.uint8)


def draw_sightings(image: AnonymisedImage, sightings: Sequence[Sighting]) -> _Picture:
    """The frame with outlines: green what is whole, red what is not, with track, class and reasons."""
    canvas = image.bgr.copy()
    for sighting in sightings:
        x0, y0, _, _ = sighting.silhouette.box_xyxy
        mask = sighting.silhouette.mask.astype(np.uint8)
        contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        whole = not sighting.reasons and sighting.track_id >= 0
        cv2.drawContours(canvas, contours, -1, _WHOLE if whole else _NOT, 1, offset=(x0, y0))
        kind = sighting.label.title if sighting.label else "?"
        name = f"{sighting.track_id} {kind}" if sighting.track_id >= 0 else "piece"
        text = " ".join([name, *(reason.value for reason in sighting.reasons[:1])])
        cv2.putText(canvas, text, (x0, max(8, y0 - 2)), cv2.FONT_HERSHEY_SIMPLEX, 0.32, (0, 0, 0), 2, cv2.LINE_AA)
        cv2.putText(
            canvas, text, (x0, max(8, y0 - 2)), cv2.FONT_HERSHEY_SIMPLEX, 0.32, (255, 255, 255), 1, cv2.LINE_AA
        )
    return canvas


def cut_out(sealed: SealedEnvelope) -> _Picture:
    """A clip on neutral ground, with its class, track and confidence below."""
    header = sealed.envelope.header
    assert isinstance(header, CropHeader)
    text = f"{header.label.title[0]}{header.track_id} {header.unoccluded_confidence:.2f}"
    return cell(decode_image(sealed), decode_rle(header.mask), text)


def cell(picture: _Picture, mask: Mask, text: str) -> _Picture:
    """A picture's masked part on neutral ground above a text, as `grid` takes it."""
    picture = np.where(mask[..., None], picture, np.asarray(_GROUND, np.uint8))
    width, height = _CELL_WH
    scale = min((width - 4) / picture.shape[1], (height - 16) / picture.shape[0])
    size = (max(1, int(picture.shape[1] * scale)), max(1, int(picture.shape[0] * scale)))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    out = np.full((height, width, 3), _GROUND, np.uint8)
    left = (width - size[0]) // 2
    out[2 : 2 + size[1], left : left + size[0]] = small
    cv2.putText(out, text, (4, height - 4), cv2.FONT_HERSHEY_SIMPLEX, 0.34, _INK, 1, cv2.LINE_AA)
    return out


def grid(cells: Sequence[_Picture]) -> _Picture:
    """Cells in rows as wide as the sheet; one empty row for none."""
    columns = _WIDTH // _CELL_WH[0]
    blank = np.full((_CELL_WH[1], _CELL_WH[0], 3), _GROUND, np.uint8)
    cells = [*cells] + [blank] * (-len(cells) % columns or (columns if not cells else 0))
    return np.vstack([np.hstack(cells[start : start + columns]) for start in range(0, len(cells), columns)])


def text_line(text: str) -> _Picture:
    """A line of text as wide as the sheet, (24, W, 3) uint8 BGR."""
    line = np.full((24, _WIDTH, 3), 255, np.uint8)
    cv2.putText(line, text[:220], (6, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.42, _INK, 1, cv2.LINE_AA)
    return line


def fit_width(picture: _Picture, width: int) -> _Picture:
    """A picture in that width, in its own proportions."""
    height = max(1, round(picture.shape[0] * width / picture.shape[1]))
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _pad_height(picture: _Picture, height: int) -> _Picture:
    return np.pad(picture, ((0, height - picture.shape[0]), (0, 0), (0, 0)))


def _pad_width(picture: _Picture, width: int) -> _Picture:
    return np.pad(picture, ((0, 0), (0, width - picture.shape[1]), (0, 0)))
