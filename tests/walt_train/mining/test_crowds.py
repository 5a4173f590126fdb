from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.fakes.scenes import Scene, Thing, walk
from tests.walt_train.mining.archives import FPS, SECONDS, WH, record
from tests.walt_train.mining.colours import ColourNetwork, colour_teacher
from walt_edge.contract.bundle import Bundle
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import Mask, PatchMask, decode_rle
from walt_edge.contract.messages import CropHeader, PlateHeader
from walt_edge.packaged import general_model
from walt_edge.privacy.anonymiser import AnonymisedImage, Anonymiser
from walt_edge.vision.motion import Motion
from walt_edge.vision.plate import Image
from walt_edge.vision.sightings import Sighting
from walt_edge.vision.silhouettes import Silhouette
from walt_train.mining import crowds
from walt_train.mining.confidence import INSTANCES, coefficients_of
from walt_train.mining.crowds import Thinned, mine_crowd
from walt_train.mining.instances import InstanceTeacher, Seen
from walt_train.mining.lots import Look
from walt_train.mining.recordings import Mined
from walt_train.mining.sources import Source, find_sources
from walt_train.mining.witness import Witness
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


def mine(source: Source, *, detector: InstanceTeacher | None = None, keep_doubtful: bool = False) -> Mined:
    return mine_crowd(
        source,
        camera="street",
        anonymiser=Anonymiser(),
        detector=detector or colour_teacher(THINGS, AREAS),
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


class Noting(Anonymiser):
    """Remembers what it was told is in a frame."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[Sighting] = []

    def __call__(
        self, bgr: Image, sightings: Sequence[Sighting], moving: Mask, also: Sequence[PatchMask] | None = None
    ) -> AnonymisedImage:
        self.told += sightings
        return super().__call__(bgr, sightings, moving, also)


def test_what_is_not_surely_a_vehicle_keeps_no_head(source: Source) -> None:
    def vehicles(score: float) -> tuple[list[Sighting], Mined]:
        anonymiser = Noting()
        network = ColourNetwork(dict.fromkeys(THINGS, Label.VEHICLE), AREAS, score)
        teacher = InstanceTeacher(Bundle.read(general_model()), network)
        mined = mine_crowd(source, camera="street", anonymiser=anonymiser, detector=teacher, progress=lambda: None)
        return [told for told in anonymiser.told if told.label is Label.VEHICLE], mined

    unsure, mined = vehicles(0.3)
    assert not unsure
    assert not crops(mined)
    assert vehicles(0.95)[0]


def test_who_walks_before_a_vehicle_unseen_is_no_part_of_it() -> None:
    walker, car = PatchMask(120, 60, np.ones((90, 30), bool)), PatchMask(60, 80, np.ones((70, 160), bool))
    still, dark = np.zeros((240, 320), bool), np.zeros((240, 320), np.uint8)
    motion = Motion(dark, still, still, still, still, dark, (1.0, 1.0, 1.0))
    seen = Look(motion, [Silhouette(walker, 60.0, 0.0)], flooded=False, empty_bgr=np.zeros((240, 320, 3), np.uint8))
    second = Seen(Label.VEHICLE, 0.9, (60.0, 80.0, 220.0, 150.0), car, car, 0.0)
    found = [Seen(Label.VEHICLE, 0.9, (60.0, 80.0, 220.0, 150.0), car, car, 0.0, second)]
    assert [told.silhouette for told in crowds._unexplained(seen, found)] == [walker]
    itself = Look(motion, [Silhouette(car, 60.0, 0.0)], flooded=False, empty_bgr=np.zeros((240, 320, 3), np.uint8))
    assert crowds._unexplained(itself, found) == []


class _Doubter(Witness):
    """Doubts of everybody."""

    def __init__(self) -> None:
        """It needs no network."""

    def __call__(self, shown: Image) -> list[float]:
        return [0.3] * len(shown)


def test_doubtful_views_are_handed_on_where_one_wants_to_learn_from_them(source: Source) -> None:
    network = InstanceTeacher(Bundle.read(general_model()), ColourNetwork(THINGS, AREAS, score=0.4), _Doubter())
    assert crops(mine(source, detector=network)) == []
    doubtful = crops(mine(source, detector=network, keep_doubtful=True))
    assert {header.label for header in doubtful} == {Label.PERSON}
    assert max(header.unoccluded_confidence for header in doubtful) < coefficients_of(INSTANCES).threshold
    assert all(0 <= part <= 1 for header in doubtful for part in header.confidence_parts.values())


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
