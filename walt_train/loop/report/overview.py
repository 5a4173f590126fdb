"""The report in two pictures, 1200 pixels wide, for a README or a slide: what was seen, what was learned."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from walt_train.loop.report.beforeafter import whole_frame
from walt_train.loop.report.evidence import Clip, Evidence, Picture
from walt_train.loop.report.pictures import covered, outlined, scaled, silhouettes, tracks

WIDTH = 1200
_GAP = 12
_MAIN = 784
_SIDE = WIDTH - 3 * _GAP - _MAIN
_PAPER = (24, 20, 18)
_INK = (236, 232, 228)
_TILE_H = 150
_ROWS = 2
_COMPOSITE_ROWS = 3  # of the sheet, of which the first is shown
_TEXT_SCALE = 4  # letters are drawn large and shrunk, which smooths them


def overview(evidence: Evidence) -> Picture | None:
    """Silhouettes, plate, tracks and crops on one sheet; None where there is no plate or no sampled frame."""
    main, paths = silhouettes(evidence, _MAIN), tracks(evidence, _SIDE)
    if main is None or paths is None or evidence.plate is None:
        return None
    side_h = (main.shape[0] - _GAP) // 2
    tiles = _strip(best_first(evidence.clips))
    strip_h = sum(row[0].shape[0] + _GAP for row in tiles)
    sheet = np.full((main.shape[0] + 2 * _GAP + strip_h, WIDTH, 3), _PAPER, dtype=np.uint8)
    _paste(sheet, _GAP, _GAP, _captioned(main, "what it saw, anonymised"))
    side_x = 2 * _GAP + _MAIN
    _paste(sheet, side_x, _GAP, _captioned(covered(evidence.plate, _SIDE, side_h), "the plate it learned"))
    _paste(sheet, side_x, 2 * _GAP + side_h, _captioned(covered(paths, _SIDE, side_h), "where it all went"))
    y = 2 * _GAP + main.shape[0]
    for row in tiles:
        x = _GAP
        for picture in row:
            _paste(sheet, x, y, picture)
            x += picture.shape[1] + _GAP
        y += row[0].shape[0] + _GAP
    return sheet


def loop_sheet(later: Evidence, composites: Picture) -> Picture | None:
    """Composites, and a frame before and after the model that they taught; None where no model ran."""
    half = (WIDTH - 3 * _GAP) // 2
    pair = whole_frame(later, half)
    if pair is None:
        return None
    wide = WIDTH - 2 * _GAP
    row = composites[: composites.shape[0] // _COMPOSITE_ROWS]
    top = scaled(row, wide / row.shape[1])
    height = pair[0].shape[0]
    sheet = np.full((top.shape[0] + height + 3 * _GAP, WIDTH, 3), _PAPER, dtype=np.uint8)
    _paste(sheet, _GAP, _GAP, _captioned(top, "composites of what it saw whole, and their layers"))
    y = 2 * _GAP + top.shape[0]
    _paste(sheet, _GAP, y, _captioned(pair[0], "generation 0: what moves"))
    _paste(sheet, 2 * _GAP + half, y, _captioned(pair[1], "generation 1: whole objects, striped where hidden"))
    return sheet


def best_first(clips: Sequence[Clip]) -> list[Clip]:
    """The surest crop of every track, surest first; then the tracks' other crops."""
    surest = sorted(clips, key=lambda clip: -clip.header.unoccluded_confidence)
    first: dict[tuple[str, int], Clip] = {}
    for clip in surest:
        first.setdefault((clip.header.captured.boot_id, clip.header.track_id), clip)
    chosen = list(first.values())
    rest = [clip for clip in surest if all(clip is not one for one in chosen)]
    return chosen + rest


def _strip(clips: Sequence[Clip]) -> list[list[Picture]]:
    """Rows of crops, people and vehicles in turn; each full row is scaled so that it ends at the margin."""
    rows: list[list[Picture]] = []
    row: list[Clip] = []
    for clip in _in_turn(clips):
        row.append(clip)
        height = _row_height(row)
        if height <= _TILE_H:
            rows.append([_tile(one, height) for one in row])
            row = []
        if len(rows) == _ROWS:
            return rows
    if row and not rows:
        rows.append([_tile(one, _TILE_H) for one in row])
    return rows


def _row_height(row: Sequence[Clip]) -> int:
    """The height at which the row fills the width."""
    room = WIDTH - (len(row) + 1) * _GAP
    return int(room / sum(clip.bgr.shape[1] / clip.bgr.shape[0] for clip in row))


def _tile(clip: Clip, height: int) -> Picture:
    return outlined(clip.bgr, clip.mask, clip.header.label.title, height, WIDTH)


def _in_turn(clips: Sequence[Clip]) -> list[Clip]:
    by_label: dict[int, list[Clip]] = {}
    for clip in clips:
        by_label.setdefault(int(clip.header.label), []).append(clip)
    queues = list(by_label.values())
    return [queue[i] for i in range(max(map(len, queues), default=0)) for queue in queues if i < len(queue)]


def _paste(sheet: Picture, x: int, y: int, picture: Picture) -> None:
    height, width = picture.shape[:2]
    room = sheet[y : y + height, x : x + width]
    room[:] = picture[: room.shape[0], : room.shape[1]]


def _captioned(picture: Picture, text: str) -> Picture:
    """Writes a caption on a dark tab in the lower left corner."""
    big = 0.5 * _TEXT_SCALE
    (width, height), base = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, big, 5)
    tab = np.full((height + base + 44, width + 72, 3), _PAPER, dtype=np.uint8)
    cv2.putText(tab, text, (36, height + 24), cv2.FONT_HERSHEY_SIMPLEX, big, _INK, 5, cv2.LINE_AA)
    small = scaled(tab, 1 / _TEXT_SCALE)
    out = picture.copy()
    if small.shape[0] <= out.shape[0] and small.shape[1] <= out.shape[1]:
        out[-small.shape[0] :, : small.shape[1]] = small
    return out
