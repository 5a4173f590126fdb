from __future__ import annotations

import datetime as dt
from collections import defaultdict
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

from tests.material import shared_data
from walt_edge.contract.clipart import Clip, read_clipart
from walt_edge.contract.masks import Mask, PatchMask, decode_rle
from walt_train.mining.archive import mine_archive
from walt_train.mining.sources import find_sources

WH = (1280, 720)
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Clip]:
    out = tmp_path_factory.mktemp("parking")
    sources = find_sources([shared_data("cameras/parking")])
    assert [source.stills for source in sources] == [True]
    mine_archive(sources, out, camera="parking")
    return read_clipart(out).clips


def taken(stills: Path) -> dict[int, list[Mask]]:
    """The taken spaces of every annotated still, by its time."""
    spaces: dict[int, list[Mask]] = {}
    for path in sorted(stills.glob("day*/spaces/*.xml")):
        moment = dt.datetime.strptime(path.stem, "%Y-%m-%d_%H_%M_%S").replace(tzinfo=dt.UTC)
        outlines = spaces.setdefault(round(moment.timestamp() * 1e6), [])
        for space in ElementTree.parse(path).getroot().iter("space"):
            if space.get("occupied") == "1":
                points = [[int(point.attrib["x"]), int(point.attrib["y"])] for point in space.iter("point")]
                canvas = cv2.fillPoly(np.zeros(WH[::-1], np.uint8), [np.array(points, np.int32)], 1)
                outlines.append(np.asarray(canvas) > 0)
    return spaces


def outline(clip: Clip) -> Mask:
    return PatchMask(*clip.header.crop_xy, decode_rle(clip.header.mask)).full(WH[1], WH[0])


def stands_on(clip: Clip, space: Mask) -> bool:
    own = outline(clip)
    return bool(np.count_nonzero(own & space) > 0.35 * min(np.count_nonzero(own), np.count_nonzero(space)))


def test_what_is_mined_from_stills_is_parked_vehicles(clips: list[Clip]) -> None:
    spaces = taken(shared_data("cameras/parking"))
    judged = [clip for clip in clips if clip.header.captured.utc_us in spaces]
    right = [clip for clip in judged if any(stands_on(clip, s) for s in spaces[clip.header.captured.utc_us])]
    found = sum(
        any(stands_on(clip, space) for clip in judged if clip.header.captured.utc_us == time_us)
        for time_us, outlines in spaces.items()
        for space in outlines
    )
    # One vehicle drives on a lane; the rest of the clips stand on spaces that people marked as taken.
    assert len(right) >= 0.9 * len(judged)
    assert found >= 22  # of 99: most of the others touch a neighbour, a bush or the border, or are far away


def test_a_vehicle_that_stands_through_the_stills_of_a_day_is_one_object(clips: list[Clip]) -> None:
    by_object: dict[int | None, list[Clip]] = defaultdict(list)
    for clip in clips:
        by_object[clip.object].append(clip)
    days = {
        number: {clip.header.captured.utc_us // 86_400_000_000 for clip in own} for number, own in by_object.items()
    }
    stayed = [number for number, own in by_object.items() if len(own) >= 3 and len(days[number]) == 1]
    assert len(stayed) >= 2
    for number in stayed:
        own = [outline(clip) for clip in by_object[number]]
        assert min((own[0] & one).sum() / (own[0] | one).sum() for one in own) > 0.8
    assert len(by_object) < 0.6 * len(clips)
