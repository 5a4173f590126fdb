"""Static things that hide what passes behind them: told, or learned from clips alone; and what they say of a clip.

Eyes that watch count every sighting (`walt_edge.vision.static_occluders`). Of what came over the wire only the chosen
views are left. Those are the few that passed before the device knew of a post: once a boot or so, and so, over many
boots, cut at the same place again and again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import msgspec
import numpy as np

from walt_edge.contract.clipart import StaticThing
from walt_edge.contract.masks import Mask, PatchMask, decode_rle, encode_rle
from walt_edge.vision.settings import WatchSettings
from walt_edge.vision.sightings import Reason
from walt_edge.vision.static_occluders import Footprint, StaticOccluders
from walt_edge.watching.dossiers import occluder_parts
from walt_train.mining.epochs import Pose
from walt_train.mining.pieces import ClipPiece

CUT = Reason.STATIC_OCCLUDER.value
_SETTINGS = WatchSettings()
_SAME_SHARE = 0.5
_TOUCH_PX = 2
_PART_SHARE = 0.1


def learned(clips: Sequence[ClipPiece], frame_wh: tuple[int, int]) -> list[StaticThing]:
    """What the outlines of clips tell, each track once; all of one pose of the camera.

    Few views do not fill the gap between a walker's legs, and where the gaps of a few cross it looks like a thing. So
    a thing has to part several tracks: one that is cut falls into two there, a walker does not.
    """
    walks: dict[tuple[str, int], list[Footprint]] = {}
    for piece in sorted(clips, key=lambda piece: piece.header.captured.monotonic_ns):
        captured = piece.header.captured
        walks.setdefault((captured.boot_id, piece.header.track_id), []).append(_step(piece, frame_wh))
    occluders = StaticOccluders(frame_wh, _SETTINGS)
    for walk in walks.values():
        occluders.learn(walk)
    occluders.absorb(StaticOccluders(frame_wh, _SETTINGS).counts())  # looks once more, after the last walk
    return [thing for thing in occluders.things() if _is_passed_behind(decode_rle(thing.mask), walks.values())]


def _step(piece: ClipPiece, frame_wh: tuple[int, int]) -> Footprint:
    """A clip as the map wants it: with room around, for what an edge cuts is open to one side only."""
    x, y = piece.header.crop_xy
    height, width = piece.mask.shape
    box = (max(0, x - width), max(0, y - height), min(frame_wh[0], x + 2 * width), min(frame_wh[1], y + 2 * height))
    own, filled = (PatchMask(x, y, mask).window(box) for mask in (piece.mask, piece.filled & ~piece.mask))
    return Footprint(piece.header.captured.media_time_s, PatchMask(box[0], box[1], own), filled, usable=True)


def _is_passed_behind(thing: Mask, walks: Iterable[Sequence[Footprint]]) -> bool:
    """Whether several tracks fall into two where the thing is."""
    disc = np.ones((2 * _TOUCH_PX + 1,) * 2, np.uint8)
    near = cv2.dilate(thing.astype(np.uint8), disc) > 0
    return sum(any(_falls_apart(step.own, near) for step in walk) for walk in walks) >= _SETTINGS.occluder_tracks


def _falls_apart(own: PatchMask, near: Mask) -> bool:
    x0, y0, x1, y1 = own.box_xyxy
    _, labels, stats, _ = cv2.connectedComponentsWithStats(own.mask.astype(np.uint8), connectivity=8)
    touching = np.setdiff1d(labels[near[y0:y1, x0:x1]], 0)
    return int((stats[touching, cv2.CC_STAT_AREA] >= _PART_SHARE * own.area).sum()) > 1


def moved(thing: StaticThing, pose: Pose) -> StaticThing:
    """The thing in the reference's pose."""
    if pose.same:
        return thing
    mask = pose.warp_mask(decode_rle(thing.mask))
    width, height = pose.frame_wh
    if thing.ground_y >= height:
        return msgspec.structs.replace(thing, mask=encode_rle(mask))
    foot = pose.to_reference(np.array([[width / 2, thing.ground_y]]))[0, 1]
    return StaticThing(mask=encode_rle(mask), ground_y=float(np.clip(foot, 0, height)))


def together(things: Sequence[StaticThing]) -> list[StaticThing]:
    """The same thing once: of those that lie on each other the first, and none that is empty."""
    kept: list[tuple[StaticThing, Mask]] = []
    for thing in things:
        mask = decode_rle(thing.mask)
        if mask.any() and not any(_is_same(mask, other) for _, other in kept):
            kept.append((thing, mask))
    return [thing for thing, _ in kept]


def _is_same(one: Mask, other: Mask) -> bool:
    common = np.count_nonzero(one & other)
    return common >= _SAME_SHARE * min(np.count_nonzero(one), np.count_nonzero(other))


@dataclass(frozen=True, slots=True, eq=False)
class Posts:
    """The static things of one pose, as clips are held against them.

    Attributes:
        maps: Of each thing its ground row, and a map of it alone.
    """

    maps: tuple[tuple[float, StaticOccluders], ...]

    @classmethod
    def of(cls, things: Sequence[StaticThing], frame_wh: tuple[int, int]) -> Posts:
        """Those of an epoch."""
        maps = []
        for thing in things:
            alone = StaticOccluders(frame_wh, _SETTINGS)
            alone.mask = decode_rle(thing.mask)
            maps.append((thing.ground_y, alone))
        return cls(tuple(maps))

    def part(self, piece: ClipPiece) -> float:
        """What they say of a clip, 0..1: little where its outline runs along one that it stands behind."""
        tight = PatchMask.from_full(piece.mask)
        x, y = piece.header.crop_xy
        outline = PatchMask(x + tight.x, y + tight.y, tight.mask)
        foot = outline.box_xyxy[3]
        found = [
            occluder_parts(outline, alone, _SETTINGS)[Reason.STATIC_OCCLUDER]
            for ground_y, alone in self.maps
            if foot <= ground_y
        ]
        return min(found, default=1.0)
