"""A strip of pictures: somebody whom a bus passes, as the tracker sees it on amodal and on visible boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.identities import NOBODY
from benchmarks.passing import heavy_street, watch
from benchmarks.tracking import FPS, Film, Sight, told
from walt_edge.tracking.pictures import draw_tracks
from walt_edge.tracking.tracker import AmodalTracker, TrackedObject

Image = NDArray[np.uint8]
Told = tuple[TrackedObject, ...]

_PANELS = 4
_CUT_WH = (248, 160)
_LEVELS = 16
"""Of each colour beneath what is drawn: a picture in a repository is small."""
_INK, _PAPER = (40, 40, 40), 255
_LEAST_HIDDEN, _MOST_HIDDEN = 6, 30


@dataclass(frozen=True, slots=True)
class _Story:
    """An identity that is found, hidden for some frames, and found again.

    Attributes:
        owner: The identity.
        last, back: Frames in which it is found before and after.
    """

    owner: int
    last: int
    back: int


def draw_strip(path: Path, films: Mapping[tuple[str, int], Film], frames: int) -> None:
    """Draws the longest hiding that amodal boxes survive and visible ones do not; nothing where there is none."""
    best: tuple[int, tuple[str, int], _Story] | None = None
    # Of the busy preset no picture is to be understood.
    for street, film in ((street, film) for street, film in films.items() if street[0] == "street"):
        for story in _told_apart(film["model"]):
            length = story.back - story.last
            if best is None or length > best[0]:
                best = length, street, story
    if best is None:
        return
    _, street, story = best
    strip = _strip(street, films[street]["model"], story, frames)
    cv2.imwrite(str(path), strip, [cv2.IMWRITE_PNG_COMPRESSION, 9])


def _told_apart(sights: Sequence[Sight]) -> list[_Story]:
    """Hidings after which the tracker of amodal boxes is right and that of visible boxes wrong."""
    film = _follow(sights, "amodal")
    amodal, visible = _names(sights, film, "amodal"), _names(sights, _follow(sights, "visible"), "visible")
    last: dict[int, int] = {}
    out = []
    for frame, names in enumerate(amodal):
        for owner in names.keys() & visible[frame].keys():
            before = last.get(owner)
            last[owner] = frame
            if before is None or not _LEAST_HIDDEN <= frame - before <= _MOST_HIDDEN:
                continue
            kept = names[owner] == amodal[before][owner]
            carried = any(one.id == names[owner] and one.hidden_by for one in film[(before + frame) // 2])
            if kept and carried and visible[frame][owner] != visible[before][owner]:
                out.append(_Story(owner, before, frame))
    return out


def _cast(sights: Sequence[Sight], film: Sequence[Told], kind: str, story: _Story) -> set[int]:
    """The tracks that the story is about: those that its identity was given, and those that hide it."""
    names = _names(sights, film, kind)[story.last : story.back + 2]
    own = {found[story.owner] for found in names if story.owner in found}
    hiding = {one.hidden_by for tracks in film[story.last : story.back] for one in tracks if one.id in own}
    return own | {one for one in hiding if one is not None}


def _names(sights: Sequence[Sight], film: Sequence[Told], kind: str) -> list[dict[int, int]]:
    """The track of each identity, by frame."""
    out = []
    for sight, tracks in zip(sights, film, strict=True):
        rows = np.arange(len(sight.owners)) if kind == "amodal" else sight.visible_rows
        owners = {int(sight.owners[rows[row]]): number for row, number in told(tracks).items()}
        owners.pop(NOBODY, None)
        out.append(owners)
    return out


def _follow(sights: Sequence[Sight], kind: str) -> list[Told]:
    tracker = AmodalTracker()
    return [tracker.update(s.amodal if kind == "amodal" else s.visible, s.time_s) for s in sights]


def _strip(street: tuple[str, int], sights: Sequence[Sight], story: _Story, frames: int) -> Image:
    # One frame more, so that it is seen going on.
    shown = np.linspace(story.last, min(story.back + 1, len(sights) - 1), _PANELS).round().astype(int).tolist()
    preset, seed = street
    pictures = {
        index: moment.bgr
        for index, moment in enumerate(watch(heavy_street(seed, preset, frames, FPS)))
        if index in shown
    }
    box = sights[story.last].amodal.boxes_xyxy[sights[story.last].owners == story.owner][0]
    rows = []
    for kind in ("amodal", "visible"):
        tracks = _follow(sights, kind)
        ids = _cast(sights, tracks, kind, story)
        row = [
            _cut(draw_tracks(_calm(pictures[index]), [one for one in tracks[index] if one.id in ids]), box)
            for index in shown
        ]
        rows.append(np.hstack([_captioned(kind, None), *(_framed(one) for one in row)]))
    times = [_captioned("", None, 22), *(_captioned("", f"{sights[index].time_s:.1f} s", 22) for index in shown)]
    return np.vstack([*rows, np.hstack(times)])


def _calm(picture: Image) -> Image:
    """Without the sensor's noise, in few colours."""
    smooth = cv2.bilateralFilter(picture, 5, 40, 5)
    step = 255 / (_LEVELS - 1)
    return np.asarray(np.round(np.round(smooth / step) * step), np.uint8)


def _cut(picture: Image, box: NDArray[np.float32]) -> Image:
    width, height = _CUT_WH
    x = int(np.clip((box[0] + box[2]) / 2 - width / 2, 0, picture.shape[1] - width))
    y = int(np.clip((box[1] + box[3]) / 2 - height / 2, 0, picture.shape[0] - height))
    return picture[y : y + height, x : x + width]


def _framed(picture: Image) -> Image:
    return np.asarray(cv2.copyMakeBorder(picture, 2, 2, 2, 2, cv2.BORDER_CONSTANT, value=(_PAPER,) * 3), np.uint8)


def _captioned(side: str, below: str | None, height: int = _CUT_WH[1] + 4) -> Image:
    """White paper: as wide as the caption at the side, or as a panel where there is one below."""
    width = 76 if below is None else _CUT_WH[0] + 4
    paper = np.full((height, width, 3), _PAPER, np.uint8)
    lines = [side, "boxes"] if side else [below or ""]
    for number, line in enumerate(lines):
        at = (6, height // 2 + 18 * number) if side else (width // 2 - 20, 15)
        cv2.putText(paper, line, at, cv2.FONT_HERSHEY_SIMPLEX, 0.45, _INK, 1, cv2.LINE_AA)
    return paper
