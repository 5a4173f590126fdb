"""A store with clip art, and workers with fake programs and a real repository on it.

Run as `python -m tests.walt_train.loop.serve.loop FOLDER` it is `walt-loop serve --once`, but for the programs: a
process that tests kill. `{"hold": "clipart"}` in FOLDER/fake.json and the like make it wait to be killed there.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from tests.envelopes import sealed
from walt_edge.contract.clipart import ClipArt
from walt_edge.contract.errors import WaltError
from walt_edge.contract.labels import Label
from walt_edge.contract.messages import CropHeader, Desired, encode_envelope, envelope_id
from walt_edge.contract.topics import DeviceTopics, Kind
from walt_train.loop.gate.judging import Judging
from walt_train.loop.gate.rules import Rules as GateRules
from walt_train.loop.publish.repository import Release, Repository
from walt_train.loop.rollout.engine import RolloutEngine
from walt_train.loop.serve.jobs import Clock, Generation, Jobs, now_us, worker_name
from walt_train.loop.serve.programs import Programs
from walt_train.loop.serve.rollout import Publishing
from walt_train.loop.serve.runners.runner import Runner
from walt_train.loop.serve.steps import Workshop
from walt_train.loop.serve.triggers.rules import Rules, Threshold
from walt_train.loop.serve.worker import Worker, WorkerConfig
from walt_train.loop.store.config import StoreConfig
from walt_train.loop.store.store import Accepted, Store

FAKE = Path(__file__).with_name("fake_programs.py")
CROPS = 6
RULES = Rules(Threshold(crops=4, tracks=2))
_COLUMNS, _ROWS, _STEP_PX = 10, 5, 64.0
_OUTLINES_WH = ((32, 32), (32, 22), (32, 16), (22, 32), (16, 32), (11, 32))
PLACES = _COLUMNS * _ROWS * len(_OUTLINES_WH)
QUALITY = {"motion": 40.0}
TRUTH_FRAMES = 20


def programs() -> Programs:
    """The fake ones."""
    train, export, trial = ((sys.executable, str(FAKE), name) for name in ("walt-train", "walt-export", "trial"))
    return Programs(train, export, trial=(*trial, "measure"))


def crop(
    number: int,
    *,
    camera: str = "cam-1",
    device: str = "walt-test",
    track: int | None = None,
    label: Label | None = None,
    holdout: bool = False,
) -> Accepted:
    """A crop at a place of its own; every other one shows a vehicle."""
    envelope = sealed(number).envelope
    header = envelope.header
    assert isinstance(header, CropHeader)
    origin = msgspec.structs.replace(header.origin, camera=camera, device=device)
    changes: dict[str, Any] = {"origin": origin, "holdout": holdout, "box_xyxy": place_of(number)}
    changes["label"] = label or (Label.PERSON, Label.VEHICLE)[number % 2]
    changes["track_id"] = number if track is None else track
    changed = msgspec.structs.replace(envelope, header=msgspec.structs.replace(header, **changes))
    data = encode_envelope(changed)
    return Accepted(envelope_id(data), changed, data)


def place_of(number: int) -> tuple[float, float, float, float]:
    """A box at a place or of an outline that no other number below `PLACES` has; then they come again."""
    x0, y0 = _STEP_PX * (number % _COLUMNS), _STEP_PX * (number // _COLUMNS % _ROWS)
    width, height = _OUTLINES_WH[number // (_COLUMNS * _ROWS) % len(_OUTLINES_WH)]
    return x0, y0, x0 + width, y0 + height


def plate(camera: str = "cam-1", device: str = "walt-test") -> Accepted:
    """A plate of the camera."""
    envelope = sealed(1000, Kind.PLATE).envelope
    origin = msgspec.structs.replace(envelope.header.origin, camera=camera, device=device)
    changed = msgspec.structs.replace(envelope, header=msgspec.structs.replace(envelope.header, origin=origin))
    data = encode_envelope(changed)
    return Accepted(envelope_id(data), changed, data)


def fill(store: Store, camera: str = "cam-1", numbers: Sequence[int] = range(CROPS), **changes: Any) -> None:
    """Stores a plate and crops."""
    whose = {"device": changes["device"]} if "device" in changes else {}
    store.add_group([plate(camera, **whose), *(crop(number, camera=camera, **changes) for number in numbers)])


def truth(folder: Path, quality: Mapping[str, float] | None = None) -> Path:
    """A COCO folder of a rendered street, as far as fakes and the gate look into it."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    names = [f"images/{number}.jpg" for number in range(TRUTH_FRAMES)]
    images = [{"file_name": name, "camera": "rwalt-7", "time": "2026-05-01T10:00:00Z"} for name in names]
    for name in names:
        (folder / name).write_bytes(name.encode())
    content = {"images": images, "annotations": [], "info": {"rwalt_version": 1, "seed": 7}}
    (folder / "annotations.json").write_text(json.dumps(content))
    (folder / "quality.json").write_text(json.dumps(quality or QUALITY))
    return folder


@dataclass(eq=False)
class Loop:
    """A store and a home in one folder.

    Attributes:
        folder: Holds everything.
        told: What the devices were told, in order.
        truths: COCO folders by camera.
    """

    folder: Path
    told: list[tuple[list[str], Desired]] = field(default_factory=list)
    truths: dict[str, Path] = field(default_factory=dict)
    gain: float = 5.0
    publish_unjudged: bool = False
    clock: Clock = now_us
    tell: Callable[[Sequence[DeviceTopics], Desired], None] | None = None
    runner: Runner | None = None
    heavy: tuple[str, str] | None = None
    database: str = ""

    def __post_init__(self) -> None:
        where = StoreConfig.local(self.folder / "store")
        self.store = Store(StoreConfig(self.database, str(self.folder / "store")) if self.database else where)
        self.home = self.folder / "home"
        self.repository = Repository(self.home / "repository", self.home / "keys")

    def __enter__(self) -> Loop:
        return self

    def __exit__(self, *_: object) -> None:
        self.store.close()

    @property
    def generations(self) -> list[Generation]:
        return self.jobs("reader").all()

    @property
    def releases(self) -> list[Release]:
        """What is in the repository, as its own folder shows it."""
        names = sorted(path.name for path in (self.home / "repository" / "targets").glob("*.walt"))
        found = [self.repository.find(name.partition(".")[0]) for name in names]
        return [release for release in found if release is not None]

    def jobs(self, owner: str, lease_s: float = 30.0) -> Jobs:
        return Jobs(self.store.engine, owner=owner, lease_s=lease_s, clock=self.clock)

    def worker(self, owner: str = "", **changes: Any) -> Worker:
        defaults: dict[str, Any] = {"once": True, "retry_s": 0.0, "poll_s": 0.05, "rules": RULES}
        config = WorkerConfig(home=self.home, **(defaults | changes))
        jobs = self.jobs(owner or worker_name(), config.lease_s)
        truths = {camera: (folder,) for camera, folder in self.truths.items()}
        judging = Judging(truths, rules=GateRules(gain_points=self.gain), publish_unjudged=self.publish_unjudged)
        engine = RolloutEngine(self.store.engine, self.repository, self.tell or self._note, owner="loop")
        publishing = Publishing(self.repository, engine)
        at_work = programs() if self.heavy is None else replace(programs(), heavy=self.heavy)
        workshop = Workshop(self.store, self.home, jobs, at_work, publishing, judging, self.runner)
        return Worker(self.store, jobs, workshop, config)

    def _note(self, devices: Sequence[DeviceTopics], desired: Desired) -> None:
        self.told.append(([f"{device.site}/{device.device}" for device in devices], desired))


class _Held:
    """Makes calls wait to be killed, as FOLDER/fake.json wishes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def at(self, place: str) -> None:
        wishes = json.loads((self._folder / "fake.json").read_text())
        if wishes.get("hold") == place:
            (self._folder / "held").write_text(str(os.getpid()))
            signal.pause()

    def around(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def held(*args: Any, **kwargs: Any) -> Any:
            self.at(f"before {name}")
            result = call(*args, **kwargs)
            self.at(f"after {name}")
            return result

        return held


def main(folder: Path) -> int:
    """`walt-loop serve --once` with fakes; what devices were told goes to FOLDER/told.jsonl."""
    logging.basicConfig(level=logging.INFO)
    held = _Held(folder)

    def tell(devices: Sequence[DeviceTopics], desired: Desired) -> None:
        with (folder / "told.jsonl").open("ab") as file:
            file.write(msgspec.json.encode(desired) + b"\n")

    loop = Loop(folder, truths=dict.fromkeys(("cam-1", "cam-2"), folder / "truth"), tell=tell)
    loop.store.export_clipart = held.around("clipart", loop.store.export_clipart)  # type: ignore[method-assign]
    loop.repository.publish = held.around("publish", loop.repository.publish)  # type: ignore[method-assign]
    worker = loop.worker(lease_s=1.0)
    signal.signal(signal.SIGTERM, lambda *_: worker.stop())
    try:
        worker.run()
    except WaltError as error:
        sys.stderr.write(f"walt-loop: {error}\n")
        return 1
    return 0


def clipart_of(loop: Loop, camera: str = "cam-1", number: int = 1) -> ClipArt:
    """The frozen clip art of a generation."""
    path = loop.home / "generations" / camera / str(number) / "clipart" / "clipart.json"
    return msgspec.json.decode(path.read_bytes(), type=ClipArt)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
