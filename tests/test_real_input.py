"""Real cameras, every station real: camera -> RTSP -> agent -> broker -> ingest -> store, and what arrived."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.broker import Broker
from tests.material import shared_data
from tests.station import Station, ingest, script
from tests.waiting import wait_for
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import Mask, PatchMask, Rle, decode_rle
from walt_edge.contract.messages import CropHeader, Envelope
from walt_edge.contract.topics import Kind
from walt_edge.privacy.anonymiser import FILL_BGR
from walt_edge.rtsp_server import RtspServer
from walt_edge.spool.spool import FILE_NAME, Spool
from walt_train.loop.store.store import Store


@dataclass(frozen=True)
class Scene:
    """A slice of a real camera, and what must at least come of it."""

    path: str
    fps: float
    frames: int
    label: Label
    least: int


SCENES = {
    "plaza": Scene("cameras/plaza/vtest.avi", 10.0, 230, Label.PERSON, 8),
    "arterial": Scene("cameras/arterial/frames", 25.0, 440, Label.VEHICLE, 5),
}


@dataclass(frozen=True)
class Arrived:
    """What one camera's run left behind."""

    scene: Scene
    folder: Path
    crops: dict[str, Envelope]
    stored: set[str]
    journal: list[dict[str, Any]]

    def headers(self) -> list[CropHeader]:
        return [crop.header for crop in self.crops.values() if isinstance(crop.header, CropHeader)]


def agent_words(source: str, broker: Broker, folder: Path, *more: object) -> list[str]:
    options = {"--rtsp": source, "--broker": broker.address, "--home": folder / "home", "--ack-timeout-s": 2}
    words = [str(word) for pair in options.items() for word in pair]
    return [*script("walt_edge.cli"), "run", *words, *map(str, more)]


@pytest.mark.parametrize("name", SCENES)
def test_what_arrives_from_a_real_camera(name: str, tmp_path: Path) -> None:
    # One test a camera, so that parallel runs watch each film once.
    arrived = watch(SCENES[name], tmp_path)
    check_home_stored_what_the_agent_sealed(arrived)
    check_classes(arrived)
    check_no_crop_touches_another_silhouette(arrived)
    check_heads_are_filled(arrived)
    check_crops_lie_where_their_headers_say(arrived)


def watch(scene: Scene, folder: Path) -> Arrived:
    """Runs all stations on a scene until the agent has ended."""
    source = shared_data(scene.path)
    with (
        Broker.start(folder) as broker,
        RtspServer(source, fps=scene.fps, loop=True) as camera,
        ingest(broker.address, folder) as home,
    ):
        journal = ("--journal", folder / "journal", "--journal-every", 1)
        agent = Station(
            agent_words(camera.url, broker, folder, "--frames", scene.frames, "--drain-s", 20, *journal),
            folder / "agent.log",
        )
        try:
            wait_for(lambda: agent.process.poll() is not None, 120, "for the agent")
        finally:
            agent.kill()
        assert agent.process.returncode == 0, (folder / "agent.log").read_text()
        assert home.stop() == 0
    with Store(folder / "store") as store:
        crops = {one.id: one.envelope for one in store.envelopes(Kind.CROP)}
        stored = set(store.ids())
    lines = (folder / "journal" / "journal.jsonl").read_text().splitlines()
    return Arrived(scene, folder, crops, stored, [json.loads(line) for line in lines])


def check_home_stored_what_the_agent_sealed(arrived: Arrived) -> None:
    sealed = [one["id"] for line in arrived.journal for one in line["sealed"]]
    assert len(set(sealed)) == len(sealed)
    assert set(sealed) == arrived.stored
    with Spool(arrived.folder / "home") as spool:
        counts = spool.counts()
    assert counts.accepted == counts.acked == len(sealed)


def check_classes(arrived: Arrived) -> None:
    labels = [header.label for header in arrived.headers()]
    right = labels.count(arrived.scene.label)
    assert right >= arrived.scene.least
    assert right >= 0.9 * len(labels)
    assert len({header.track_id for header in arrived.headers()}) >= arrived.scene.least / 2


def check_no_crop_touches_another_silhouette(arrived: Arrived) -> None:
    by_time = {line["media_time_s"]: line for line in arrived.journal if line["frame"] is not None}
    judged = 0
    for header in arrived.headers():
        frame_wh = header.origin.frame_wh
        own = placed(header)
        touch = cv2.dilate(own.full(frame_wh[1], frame_wh[0]).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        sightings = by_time[header.captured.media_time_s]["sightings"]
        silhouettes = {one["track_id"]: decoded(one["mask"]) for one in sightings}
        mine = silhouettes.pop(header.track_id)
        assert own.iou(PatchMask.from_full(mine)) > 0.9
        assert not any((touch & other).any() for other in silhouettes.values()), header.track_id
        judged += len(silhouettes)
    assert judged > 0


def check_heads_are_filled(arrived: Arrived) -> None:
    people = [crop for crop in arrived.crops.values() if is_person(crop)]
    if arrived.scene.label is Label.PERSON:
        assert people
    for crop in people:
        header = crop.header
        assert isinstance(header, CropHeader)
        mask = decode_rle(header.mask)
        rows = np.flatnonzero(mask.any(axis=1))
        head = mask.copy()
        head[rows[0] + round(0.12 * rows.size) :] = False  # an eighth of a standing person's height
        pixels = picture(crop)[head].astype(int)
        assert np.abs(pixels - FILL_BGR).max(axis=1).mean() < 6  # JPEG moves a solid colour by a few levels
        assert np.percentile(np.abs(pixels - FILL_BGR), 95) < 25


def check_crops_lie_where_their_headers_say(arrived: Arrived) -> None:
    for crop in arrived.crops.values():
        header = crop.header
        assert isinstance(header, CropHeader)
        assert picture(crop).shape[:2] == header.mask.size
        x0, y0, x1, y1 = placed(header).box_xyxy
        assert header.box_xyxy == pytest.approx((x0, y0, x1, y1), abs=1.0)
        width, height = header.origin.frame_wh
        assert x0 > 0
        assert y0 > 0
        assert x1 < width
        assert y1 < height


@pytest.fixture
def stations(tmp_path: Path) -> Iterator[tuple[Broker, Station]]:
    with Broker.start(tmp_path) as broker, ingest(broker.address, tmp_path) as home:
        yield broker, home


def test_kills_of_the_whole_agent_on_real_input(tmp_path: Path, stations: tuple[Broker, Station]) -> None:
    """The agent begins the film anew after each kill; what its spool had accepted before arrives all the same."""
    broker, home = stations
    source = str(shared_data(SCENES["plaza"].path))
    chance = random.Random(2)
    journal = tmp_path / "journal" / "journal.jsonl"
    words = agent_words(source, broker, tmp_path, "--frames", 300, "--journal", journal.parent, "--drain-s", 20)
    agent = Station(words, tmp_path / "agent.log")
    try:
        for _ in range(4):
            frames = chance.randrange(130, 200)
            wait_for(lambda: line_count(journal) >= frames, 60, "for frames")  # noqa: B023 (ends within the turn)
            agent.kill()
            journal.unlink()
            chance.choice([broker.kill, home.kill])()
            broker.restart()
            home.kill()
            home.start()
            agent.start()
        wait_for(lambda: agent.process.poll() is not None, 90, "for the agent's own end")
        assert agent.process.returncode == 0, (tmp_path / "agent.log").read_text()
    finally:
        agent.kill()
    home.stop()
    with Spool(tmp_path / "home") as spool, Store(tmp_path / "store") as store:
        counts = spool.counts()
        ids = store.ids()
    assert not list((tmp_path / "home").glob(f"{FILE_NAME}.corrupt*"))
    assert counts.accepted == counts.acked == len(set(ids)) == len(ids)
    assert counts.accepted > 20


def line_count(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def is_person(crop: Envelope) -> bool:
    return isinstance(crop.header, CropHeader) and crop.header.label is Label.PERSON


def picture(crop: Envelope) -> NDArray[np.uint8]:
    decoded_bgr = cv2.imdecode(np.frombuffer(crop.image, np.uint8), cv2.IMREAD_COLOR)
    assert decoded_bgr is not None
    return np.asarray(decoded_bgr, dtype=np.uint8)


def placed(header: CropHeader) -> PatchMask:
    """The crop's mask in the frame."""
    patch = PatchMask.from_full(decode_rle(header.mask))
    return PatchMask(patch.x + header.crop_xy[0], patch.y + header.crop_xy[1], patch.mask)


def decoded(mask: dict[str, Any]) -> Mask:
    height, width = mask["size"]
    return decode_rle(Rle((height, width), mask["counts"]))
