"""Static things that hide what passes behind them: told, or learned from clips alone; and what they say of a clip.

Eyes that watch count every sighting (`walt_edge.vision.static_occluders`). Of what came over the wire only the chosen
views are left. Those are the few that passed before the device knew of a post: once a boot or so, and so, over many
boots, cut at the same place again and again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import msgspec
import numpy as np

from walt_edge.contract.clipart import StaticThing
from walt_edge.contract.masks import Mask, PatchMask, decode_rle, encode_rle
from walt_edge.dossiers import occluder_parts
from walt_edge.vision.settings import WatchSettings
from walt_edge.vision.sightings import Reason
from walt_edge.vision.static_occluders import Footprint, StaticOccluders
from walt_train.mining.epochs import Pose
from walt_train.mining.pieces import ClipPiece

CUT = Reason.STATIC_OCCLUDER.value
_SETTINGS = WatchSettings()
_SAME_SHARE = 0.5
_EDGES_IOU = 0.5


def learned(clips: Sequence[ClipPiece], frame_wh: tuple[int, int]) -> list[StaticThing]:
    """What the outlines of clips tell, each track once; all of one pose of the camera.

    A gap between legs lies elsewhere in each walker: few views do not fill it, and where a few of them cross it looks
    like a thing. So a thing needs several tracks whose gaps have its own edges.
    """
    walks: dict[tuple[str, int], list[Footprint]] = {}
    for piece in sorted(clips, key=lambda piece: piece.header.captured.monotonic_ns):
        header = piece.header
        own = PatchMask(*header.crop_xy, piece.mask)
        step = Footprint(header.captured.media_time_s, own, piece.filled, usable=True)
        walks.setdefault((header.captured.boot_id, header.track_id), []).append(step)
    occluders = StaticOccluders(frame_wh, _SETTINGS)
    for walk in walks.values():
        occluders.learn(walk)
    occluders.absorb(StaticOccluders(frame_wh, _SETTINGS).counts())  # looks once more, after the last walk
    gaps = [[_gap(step) for step in walk] for walk in walks.values()]
    return [thing for thing in occluders.things() if _is_cut_out(thing, gaps)]


def _gap(step: Footprint) -> PatchMask:
    """What one outline leaves open between its parts."""
    height, width = step.own.mask.shape
    alone = StaticOccluders((width, height), _SETTINGS)
    alone.learn([Footprint(step.time_s, PatchMask(0, 0, step.own.mask), step.changed, usable=True)])
    return PatchMask(step.own.x, step.own.y, alone.counts().misses > 0)


def _is_cut_out(thing: StaticThing, gaps: Sequence[Sequence[PatchMask]]) -> bool:
    mask = decode_rle(thing.mask)
    return sum(any(_has_its_edges(gap, mask) for gap in walk) for walk in gaps) >= _SETTINGS.occluder_tracks


def _has_its_edges(gap: PatchMask, thing: Mask) -> bool:
    """Whether the gap is the thing, as far as the outline reaches over it."""
    x0, y0, x1, y1 = gap.box_xyxy
    rows = np.flatnonzero(gap.mask.any(axis=1))
    if not rows.size:
        return False
    here = thing[y0:y1, x0:x1]
    span = slice(int(rows[0]), int(rows[-1]) + 1)
    _, labels = cv2.connectedComponents(gap.mask.astype(np.uint8), connectivity=8)
    own = np.isin(labels, np.setdiff1d(labels[here & gap.mask], 0)) & gap.mask
    common = np.count_nonzero(own & here)
    return bool(common) and common >= _EDGES_IOU * np.count_nonzero((own | here)[span])


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
