from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from tests.fakes.scenes import Scene, Thing, walk
from tests.walt_train.mining.archives import FPS, SECONDS, WH, record
from tests.walt_train.mining.colours import colour_teacher
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import PatchMask, decode_rle
from walt_edge.contract.messages import CropHeader, PlateHeader
from walt_edge.packaged import general_model
from walt_edge.privacy import Anonymiser
from walt_train.mining.crowds import Thinned, mine_crowd
from walt_train.mining.recordings import Mined
from walt_train.mining.sources import Source, find_sources
from walt_train.mining.work import Task, mine_source, read_report

COAT, DRESS, VAN = (40, 40, 220), (40, 200, 60), (220, 60, 40)
THINGS = {COAT: Label.PERSON, DRESS: Label.PERSON, VAN: Label.VEHICLE}


def scene() -> Scene:
    """Two people meet behind a van; a post stands before all."""
    things = [
        Thing(walk((-25, 170), (34, 0), 1.0), "stander", 80, COAT),
        Thing(walk((345, 172), (-36, 0), 1.0), "stander", 84, DRESS),
        Thing(walk((-70, 215), (50, 0), 0.5), "car", 44, VAN),
    ]
    return Scene(wh=WH, things=things, poles=[(230, 60, 238, 200)], seed=11)


AREAS = {
    thing.colour: 1.6**2 * max(int(thing.mask(time_s, (WH[1], WH[0])).sum()) for time_s in (3.0, 4.0, 5.0))
    for thing in scene().things
}
"""Of each colour where nothing hides it, pixels of the network's input."""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    folder = record(tmp_path_factory.mktemp("crowd") / "2026-05-01_06-00-00", scene())
    return find_sources([folder], fps=FPS)[0]


def mine(source: Source, *, keep_doubtful: bool = False) -> Mined:
    return mine_crowd(
        source,
        camera="street",
        anonymiser=Anonymiser(),
        detector=colour_teacher(THINGS, AREAS),
        progress=lambda: None,
        keep_doubtful=keep_doubtful,
    )


def crops(mined: Mined) -> list[CropHeader]:
    headers = [one.envelope.header for one in mined.sealed]
    return [header for header in headers if isinstance(header, CropHeader)]


def shown(header: CropHeader) -> tuple[int, float, float]:
    """Which thing a crop shows, how much of that is hidden in truth, and the IoU of its outline with what is seen."""
    time_s = header.captured.media_time_s
    own = PatchMask(*header.crop_xy, decode_rle(header.mask)).full(WH[1], WH[0])
    best = max(range(len(THINGS)), key=lambda index: int((own & scene().visible(index, time_s)).sum()))
    visible = scene().visible(best, time_s)
    whole = scene().things[best].mask(time_s, (WH[1], WH[0]))
    iou = (own & visible).sum() / max(1, (own | visible).sum())
    return best, 1 - visible.sum() / max(1, whole.sum()), float(iou)


def test_who_is_seen_whole_among_others_gives_clips_and_who_is_not_gives_none(source: Source) -> None:
    found = [shown(header) for header in crops(mine(source))]
    assert {thing for thing, _, _ in found} == {0, 1, 2}
    assert max(hidden for _, hidden, _ in found) <= 0.02
    assert min(iou for _, _, iou in found) >= 0.8


def test_doubtful_views_are_handed_on_where_one_wants_to_learn_from_them(source: Source) -> None:
    sure, all_of_them = crops(mine(source)), crops(mine(source, keep_doubtful=True))
    assert len(all_of_them) > len(sure)
    assert {(h.captured, h.mask.counts) for h in sure} < {(h.captured, h.mask.counts) for h in all_of_them}
    assert all(0 <= part <= 1 for header in all_of_them for part in header.confidence_parts.values())


def test_views_of_one_object_share_a_track(source: Source) -> None:
    tracks = defaultdict(set)
    for header in crops(mine(source, keep_doubtful=True)):
        tracks[header.track_id].add(shown(header)[0])
    assert all(len(things) == 1 for things in tracks.values())
    assert len(tracks) <= 6


def test_a_plate_comes_with_them_and_the_same_film_gives_the_same_clips(source: Source) -> None:
    one, again = mine(source), mine(source)
    assert any(isinstance(sealed.envelope.header, PlateHeader) for sealed in one.sealed)
    assert [header.mask for header in crops(one)] == [header.mask for header in crops(again)]
    assert [h.confidence_parts for h in crops(one)] == [h.confidence_parts for h in crops(again)]
    assert one.frames == sum(1 for _ in Thinned(source).frames()) == pytest.approx(SECONDS / 0.5, abs=2)


def test_frames_are_taken_at_their_distance_in_time(source: Source) -> None:
    times = [frame.captured.media_time_s for frame in Thinned(source, 1.0).frames()]
    assert times[0] == 0.0
    assert np.diff(times).min() >= 1.0 - 1e-6
    assert np.diff(times).max() <= 1.0 + 1 / FPS + 1e-6


def test_the_general_weights_mine_a_recording_by_name(source: Source, tmp_path: Path) -> None:
    task = Task(source=source, camera="street", out=tmp_path, teacher=str(general_model()))
    report = read_report(mine_source(task))
    assert report.teacher == str(general_model())
    assert report.frames == sum(1 for _ in Thinned(source).frames())
