"""`overview.jpg`: what was mined, in one picture. Made of what was written, which the anonymiser has passed."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.clipart import Clip, ClipArt, read_clipart
from walt_edge.contract.errors import WaltError
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import decode_rle
from walt_edge.overview import cell, fit_width, grid, text_line

Picture = NDArray[np.uint8]

FILE_NAME = "overview.jpg"
_WIDTH = 1536
_CELLS_MAX = 16 * 14
_COLOURS = {Label.PERSON: (60, 170, 30), Label.VEHICLE: (200, 120, 20)}
_STATIC = (30, 30, 220)


def write_sheet(folder: Path) -> Path:
    """Draws a clip-art folder into its `overview.jpg`; returns the path."""
    path = folder / FILE_NAME
    if not cv2.imwrite(str(path), draw_sheet(folder, read_clipart(folder))):
        raise WaltError(f"cannot write {path}: free space or choose another --out")
    return path


def draw_sheet(folder: Path, clipart: ClipArt) -> Picture:
    """The sheet, (H, 1536, 3): where things stood, a real background, and one clip of each object."""
    objects: dict[object, Clip] = {}
    for place, clip in enumerate(clipart.clips):
        objects.setdefault(clip.object if clip.object is not None else -place - 1, clip)
    frames = [plate for plate in clipart.plates if plate.source == "frame"]
    medians = [plate for plate in clipart.plates if plate.source == "median"]
    panels = [_map(folder, clipart, folder / medians[-1].image)] if medians else []
    if frames:
        panels.append(_read(folder / frames[len(frames) // 2].image))
    width = _WIDTH // max(1, len(panels))
    rows = [np.hstack([fit_width(panel, width) for panel in panels])] if panels else []
    why = ", ".join(f"{reason} {count}" for reason, count in clipart.rejected_by_reason.items())
    text = f"{len(clipart.clips)} clips of {len(objects)} objects, {len(medians)} plates, {len(frames)} real frames, "
    rows += [text_line(text + f"{len(clipart.static)} static things. Not chosen: {why or 'none'}")]
    rows.append(grid([_cell(folder, clip) for clip in list(objects.values())[:_CELLS_MAX]]))
    return np.vstack([np.pad(row, ((0, 0), (0, _WIDTH - row.shape[1]), (0, 0))) for row in rows])


def _map(folder: Path, clipart: ClipArt, plate: Path) -> Picture:
    """The plate with every clip's foot and outline, and the static things with their ground rows."""
    canvas = _read(plate)
    for thing in clipart.static:
        mask = decode_rle(thing.mask)
        canvas[mask] = (0.4 * canvas[mask] + 0.6 * np.array(_STATIC)).astype(np.uint8)
        columns = np.flatnonzero(mask.any(axis=0))
        y = min(canvas.shape[0] - 1, round(thing.ground_y))
        cv2.line(canvas, (int(columns[0]) - 6, y), (int(columns[-1]) + 6, y), _STATIC, 2)
    for clip in clipart.clips:
        header = clip.header
        contours, _ = cv2.findContours(
            decode_rle(header.mask).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
        )
        cv2.drawContours(canvas, contours, -1, _COLOURS[header.label], 1, offset=header.crop_xy)
    return canvas


def _cell(folder: Path, clip: Clip) -> Picture:
    """A clip with its class, object and confidence below."""
    confidence = clip.header.unoccluded_confidence if clip.confidence is None else clip.confidence
    text = f"{clip.header.label.title[0]}{'' if clip.object is None else clip.object} {confidence:.2f}"
    return cell(_read(folder / clip.image), decode_rle(clip.header.mask), text)


def _read(path: Path) -> Picture:
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise WaltError(f"{path} is no readable image: mine again")
    return np.asarray(picture, np.uint8)
