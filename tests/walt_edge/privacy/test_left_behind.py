"""What the agent leaves on the disk shows no head: every byte that it writes is looked at.

Below `--home` it writes who it is (`device.json`), its lock, the spool (a database and the bodies of envelopes), what
selector and sampler have spent, and the models that home sends; a journal goes where it is told. Of these the spool
and the journal hold pictures.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, get_type_hints

import cv2
import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.broker import HOST, free_port
from tests.fakes.edge import RememberingSender
from tests.fakes.scenes import Scene, Thing, frame_of, walk
from tests.walt_edge.watching.test_watcher import SETTINGS, WH
from walt_edge.agent.journal import Journal
from walt_edge.agent.outlet import Outlet
from walt_edge.agent.pipeline import Pipeline
from walt_edge.agent.showing import Showing
from walt_edge.agent.sight import Sights
from walt_edge.agent.telemetry import Meter
from walt_edge.camera import CameraStats, Frame
from walt_edge.contract import messages
from walt_edge.contract.masks import Mask, PatchMask
from walt_edge.contract.messages import Origin
from walt_edge.contract.telemetry import LENS_TILES
from walt_edge.contract.topics import Kind
from walt_edge.privacy.anonymiser import AnonymisedImage, Anonymiser
from walt_edge.selecting.sampling import FrameSampler, SamplingSettings
from walt_edge.selecting.selector import Selector
from walt_edge.spool.spool import Spool
from walt_edge.update.holder import ModelHolder
from walt_edge.vision.sightings import Sighting
from walt_edge.watching.watcher import Watcher

HEAD_BGR = (255, 0, 255)
NEAR = 70  # grey levels: what JPEG and a camera's lens make of the colour
RUN = [sys.executable, "-c", "from walt_edge.cli import main; main()", "run"]


def pictures(seconds: float, fps: float = 10.0) -> Iterator[Frame]:
    """Walkers whose heads have a colour that nothing else has; the camera adds no noise to it."""
    things = [
        Thing(walk((-30, 260), (70, 0), 3.0), height=110),
        Thing(walk((520, 300), (-70, 0), 5.0), height=120, colour=(160, 40, 40)),
    ]
    scene = Scene(wh=WH, things=things)
    y, x = np.mgrid[: WH[1], : WH[0]]
    for frame in scene.frames(seconds, fps):
        for thing in things:
            place = thing.path(frame.captured.media_time_s)
            if place is not None:
                head = (x - place[0]) ** 2 + (y - (place[1] - 0.92 * thing.height)) ** 2
                frame.bgr[head <= (0.07 * thing.height) ** 2] = HEAD_BGR
        yield frame


def shows_a_head(bgr: NDArray[np.uint8]) -> bool:
    return bool((np.abs(bgr.astype(int) - HEAD_BGR).max(axis=2) < NEAR).any())


def images_in(data: bytes) -> Iterator[NDArray[np.uint8]]:
    """Every picture that begins anywhere in these bytes."""
    for magic in (b"\xff\xd8\xff", b"\x89PNG\r\n"):
        at = data.find(magic)
        while at >= 0:
            found = cv2.imdecode(np.frombuffer(data, np.uint8, offset=at), cv2.IMREAD_COLOR)
            if found is not None:
                yield np.asarray(found, np.uint8)
            at = data.find(magic, at + 1)


def look_through(folder: Path) -> tuple[int, int]:
    """How many pictures lie anywhere in a folder's files, and how many heads show in them or in raw bytes."""
    count = heads = 0
    for path in folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            heads += bytes(HEAD_BGR) * 3 in data
            # A database's pages cut a picture into pieces: what the spool holds is read as it is sent.
            for image in images_in(data) if path.suffix != ".sqlite3" else ():
                count += 1
                heads += shows_a_head(image)
    return count, heads


class _Film:
    """Gives these frames, then ends."""

    resolution_wh = WH
    fps = 10.0

    def __init__(self, frames: Sequence[Frame]) -> None:
        self.stats = CameraStats()
        self._frames = iter(frames)

    def read(self, timeout_s: float) -> Frame | None:
        frame = next(self._frames, None)
        self.stats.frames_received += frame is not None
        return frame

    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


class _Leaky(Anonymiser):
    """Covers nothing."""

    def __call__(
        self, bgr: NDArray[np.uint8], sightings: Sequence[Sighting], moving: Mask, also: object = None
    ) -> AnonymisedImage:
        return super().__call__(bgr, (), np.zeros_like(moving), ())


@pytest.fixture(scope="module")
def film() -> list[Frame]:
    return list(pictures(13))


def _run(folder: Path, film: list[Frame], anonymiser: Anonymiser) -> Counter[Kind]:
    """A lane with all that writes; returns what was spooled, and writes it as it would be sent into `sent`."""
    origin = Origin(site="s", device="d", camera="c", model="m", anonymiser=anonymiser.version, frame_wh=WH)
    watcher = Watcher(site="s", device="d", camera="c", anonymiser=anonymiser, settings=SETTINGS)
    meter, models = Meter("boot-1", "c"), ModelHolder()
    journal = Journal(folder / "journal", every=1)
    with Spool(folder) as spool, Selector(folder=folder) as selector:
        sampler = FrameSampler(origin, SamplingSettings(choose_s=2.0, guard_s=0.0), folder)
        outlet = Outlet(spool, RememberingSender(), meter, selector, sampler)
        showing = Showing("c", journal)
        Pipeline(_Film(film), watcher, outlet, meter, models, Sights(models, meter), showing=showing).run(
            threading.Event()
        )
        sampler.close()
        journal.close()
        waiting = spool.pending(1000)
        (folder / "sent").mkdir()
        for one in waiting:
            (folder / "sent" / one.id).write_bytes(one.data)
        return Counter(one.kind for one in waiting)


def test_no_picture_that_the_agent_writes_shows_a_head(tmp_path: Path, film: list[Frame]) -> None:
    assert sum(shows_a_head(frame.bgr) for frame in film) > 60
    kinds = _run(tmp_path, film, Anonymiser())
    assert min(kinds[Kind.CROP], kinds[Kind.PLATE], kinds[Kind.FRAME]) >= 1, kinds
    count, heads = look_through(tmp_path)
    assert count >= 80 + kinds.total()
    assert heads == 0


def test_it_would_be_found(tmp_path: Path, film: list[Frame]) -> None:
    _run(tmp_path, film[:90], _Leaky())
    assert look_through(tmp_path)[1] > 5


@pytest.mark.slow
def test_the_whole_agent_leaves_no_head_behind(tmp_path: Path) -> None:
    stills, home, journal = tmp_path / "stills", tmp_path / "home", tmp_path / "journal"
    stills.mkdir()
    for frame in pictures(45):
        cv2.imwrite(str(stills / f"{frame.index:04d}.png"), frame.bgr)
    words = ["--rtsp", stills, "--fps", 10, "--broker", f"{HOST}:{free_port()}", "--home", home, "--drain-s", 0]
    words += ["--journal", journal, "--journal-every", 1]
    subprocess.run([*RUN, *map(str, words)], check=True, timeout=300)
    assert (home / "spool.sqlite3").exists()
    assert look_through(home) == (0, 0), "what waits is encrypted"
    count, heads = look_through(journal)
    assert count > 250
    assert heads == 0


def test_no_message_has_room_for_an_embedding() -> None:
    """Of lists of numbers, which may tell one face from another, only boxes and the like of a fixed length leave.

    And what telemetry says of the lens: one figure for each sixteenth of the background, far too coarse for a face.
    """
    structs = [one for one in vars(messages).values() if isinstance(one, type) and issubclass(one, msgspec.Struct)]
    assert len(structs) > 8
    for struct in structs:
        for name, hint in get_type_hints(struct).items():
            found = msgspec.json.schema(hint)
            most = LENS_TILES if struct is messages.Telemetry and name == "lens" else 4
            assert not list(_open_lists_of_numbers(found, most)), f"{struct.__name__}.{name}"


def test_a_list_of_numbers_would_be_found() -> None:
    class Face(msgspec.Struct):
        embedding: list[float]

    found = msgspec.json.schema(Face)
    assert list(_open_lists_of_numbers(found, LENS_TILES)) == ["array"]


def _open_lists_of_numbers(schema: object, most: int) -> Iterator[str]:
    """Arrays that may hold more than so many numbers, anywhere in a JSON schema."""
    if isinstance(schema, dict):
        items = schema.get("items")
        if isinstance(items, dict) and items.get("type") == "number" and schema.get("maxItems", 1 << 30) > most:
            yield str(schema["type"])
        for one in schema.values():
            yield from _open_lists_of_numbers(one, most)
    elif isinstance(schema, list):
        for one in schema:
            yield from _open_lists_of_numbers(one, most)


def test_a_clip_made_of_an_anonymised_picture_stays_anonymised() -> None:
    """Composites, and with them golden pictures, are made of crops and plates: what was covered once is covered."""
    frame = frame_of(next(iter(pictures(0.1))).bgr, 0, 0.0)
    own = PatchMask(100, 100, np.ones((80, 30), bool))
    whole = own.full(WH[1], WH[0])
    image = Anonymiser()(frame.bgr, [Sighting(own, None, 0.0, (0.0, 0.0))], whole)
    crop = image.crop((90, 80, 150, 190), own)
    assert (crop.bgr[crop.filled] == 128).all()
    assert (crop.filled == image.filled[80:190, 90:150]).all()
