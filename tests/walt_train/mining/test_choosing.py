from __future__ import annotations

from collections import Counter
from pathlib import Path

import msgspec
import numpy as np
import pytest

from tests.walt_train.mining.archives import WH
from walt_edge.contract.clipart import StaticThing, read_clipart
from walt_edge.contract.masks import encode_rle
from walt_train.mining import choosing
from walt_train.mining.choosing import choose
from walt_train.mining.pieces import ClipPiece
from walt_train.mining.posts import CUT, Posts
from walt_train.mining.records import ArchiveRecord


@pytest.fixture
def views(mined: tuple[Path, ArchiveRecord, list[Path]]) -> list[ClipPiece]:
    """The clips of one object, as its source gave them."""
    source = sorted((mined[0] / "sources").iterdir())[0]
    clips = read_clipart(source).clips
    track = Counter(clip.header.track_id for clip in clips).most_common(1)[0][0]
    return [ClipPiece.read(source, clip, WH) for clip in clips if clip.header.track_id == track]


def with_doubt(piece: ClipPiece, raw: float, part: float) -> ClipPiece:
    """A view whose device was so sure of it, and of whose neighbourhood it thought so."""
    parts = piece.header.confidence_parts | {"neighbour": part}
    header = msgspec.structs.replace(piece.header, unoccluded_confidence=raw, confidence_parts=parts)
    return ClipPiece(piece.folder, msgspec.structs.replace(piece.clip, header=header), piece.bgr, piece.mask)


def test_the_surest_views_are_those_of_the_calibrated_confidence(
    views: list[ClipPiece], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choosing, "VIEWS_MAX", 1)
    clear, doubtful = with_doubt(views[0], 0.6, 1.0), with_doubt(views[1], 0.95, 0.6)
    rejected: Counter[str] = Counter()
    [taken] = choose([doubtful, clear], {}, Posts(()), rejected)
    assert taken.piece is clear
    assert taken.confidence is not None
    assert rejected == {"enough views of the object": 1}


def test_who_is_cut_by_what_many_boots_told_of_is_not_taken(views: list[ClipPiece]) -> None:
    x0, y0, _, y1 = (int(edge) for edge in views[0].header.box_xyxy)
    wall = np.zeros(WH[::-1], bool)
    wall[max(0, y0 - 10) : y1 + 4, max(0, x0 - 12) : x0] = True
    thing = StaticThing(mask=encode_rle(wall), ground_y=float(y1 + 4))
    rejected: Counter[str] = Counter()
    assert choose(views[:1], {}, Posts.of([thing], WH), rejected) == []
    assert rejected == {CUT: 1}
    [free] = choose(views[:1], {}, Posts(()), rejected)
    own = views[0].header.confidence_parts[CUT]
    assert free.header.confidence_parts[CUT] == own, "what the device knew is kept"
