"""Which clips of an epoch are taken: those that pass the gates, a few of each physical object."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from walt_edge.contract.messages import CropHeader
from walt_train.mining import gates, identity
from walt_train.mining.confidence import ConfidenceError, calibrate, coefficients_of, evidence
from walt_train.mining.pieces import ClipPiece
from walt_train.mining.posts import CUT, Posts
from walt_train.mining.recordings import Trail

VIEWS_MAX = 6


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """A clip that is taken.

    Attributes:
        piece: Its pixels.
        header: With the parts that mining found.
        object: The physical object, from 1.
        confidence: Calibrated; None where the package has no coefficients.
    """

    piece: ClipPiece
    header: CropHeader
    object: int
    confidence: float | None

    @property
    def sureness(self) -> float:
        """By which the views of an object are ranked."""
        return self.header.unoccluded_confidence if self.confidence is None else self.confidence


def choose(
    pieces: Sequence[ClipPiece], trails: Mapping[identity.Track, Trail], posts: Posts, rejected: Counter[str]
) -> list[Chosen]:
    """The clips to take, in the order of time.

    Args:
        pieces: All of one epoch.
        trails: Of the tracks, where they are known.
        posts: What stands before objects there.
        rejected: Counts the others by reason.
    """
    objects, found = _looked_at(pieces, trails)
    judged = []
    for piece, number, parts in zip(pieces, objects, found, strict=True):
        parts[CUT] = posts.part(piece)
        against = gates.failed(parts)
        if against is None:
            judged.append(_taken(piece, number, parts))
        else:
            rejected[against] += 1
    counted: Counter[int] = Counter()
    chosen = []
    for one in sorted(judged, key=lambda one: -one.sureness):
        counted[one.object] += 1
        if counted[one.object] <= VIEWS_MAX:
            chosen.append(one)
        else:
            rejected["enough views of the object"] += 1
    return sorted(chosen, key=lambda one: (one.header.captured.utc_us, one.header.track_id))


def _looked_at(
    pieces: Sequence[ClipPiece], trails: Mapping[identity.Track, Trail]
) -> tuple[list[int], list[dict[str, float]]]:
    """The physical object that each clip shows, and what the gates say."""
    headers, filled = [piece.header for piece in pieces], [piece.filled for piece in pieces]
    looks = [
        identity.describe(piece.header, piece.bgr, piece.mask, ~gone)
        for piece, gone in zip(pieces, filled, strict=True)
    ]
    objects = identity.physical_objects(headers, looks, trails)
    seen = [gates.Seen(p.header, p.bgr, p.mask, number) for p, number in zip(pieces, objects, strict=True)]
    return objects, gates.gate_parts(seen, filled)


def _taken(piece: ClipPiece, number: int, parts: Mapping[str, float]) -> Chosen:
    own = piece.header.confidence_parts
    # The device may have known more of what stands there than is known here.
    joined = own | {name: round(part, 4) for name, part in parts.items()} | {CUT: min(own.get(CUT, 1.0), parts[CUT])}
    header = msgspec.structs.replace(piece.header, confidence_parts=joined)
    try:
        return Chosen(piece, header, number, calibrate(evidence(header), coefficients_of(header.origin.model)))
    except ConfidenceError:  # while none is fitted
        return Chosen(piece, header, number, None)
