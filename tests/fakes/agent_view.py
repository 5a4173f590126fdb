"""An agent to look at without one: drawn streets, the real anonymiser, exact amodal masks, and figures that move.

`python -m tests.fakes.agent_view [CAMERAS [PORT]]` serves its page.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from tests.fakes.scenes import Scene, Thing, walk
from walt_edge.agent.telemetry import Meter, Skip, Stage
from walt_edge.camera import CameraStats
from walt_edge.contract.instances import AmodalInstances
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import PatchMask
from walt_edge.contract.messages import Clock, Moment, SpoolCounts
from walt_edge.privacy.anonymiser import Anonymiser
from walt_edge.vision.sightings import Reason, Sighting
from walt_edge.web.board import LiveBoard
from walt_edge.web.processes import ProcessMeter
from walt_edge.web.server import WebServer
from walt_edge.web.settings import WebSettings
from walt_edge.web.status import (
    AgentFigures,
    Carried,
    Health,
    LiveFrame,
    ModelFigures,
    SelectorFigures,
    SpoolFigures,
    UpdateFigures,
    UplinkFigures,
    alive,
    ready,
)

LOOP_S = 12.0


class Street(Scene):
    """The same in the colours of a street, since people look at it."""

    @cached_property
    def _background(self) -> NDArray[np.uint8]:
        width, height = self.wh
        random = np.random.default_rng(self.seed)
        grain = cv2.GaussianBlur(random.normal(0, 60, (height, width)), (0, 0), 3)
        depth = np.linspace(0, 1, height)[:, None]
        grey = np.where(depth < 0.28, 150 - 30 * depth, 92 + 30 * depth) + 0.5 * grain
        picture = np.asarray(np.clip(grey[..., None] * np.array([1.02, 1.0, 0.97]), 0, 255), np.uint8)
        for x in range(-200, width, 170):
            cv2.line(picture, (x, 300), (x + 90, 300), (190.0, 195.0, 195.0), 4)
        for x0, y0, x1, y1 in self.poles:
            picture[y0:y1, x0:x1] = (70, 80, 74)
        return picture


def street(seed: int = 3) -> Scene:
    """A car that passes behind two walkers and a pole."""
    things = [
        Thing(walk((-60, 190), (62, 0)), "car", 74, (150, 70, 40)),
        Thing(walk((560, 214), (-31, 2)), "person", 92, (60, 60, 160)),
        Thing(walk((120, 268), (24, 1)), "person", 118, (70, 140, 90)),
        Thing(walk((820, 330), (-78, 0)), "car", 104, (70, 70, 190)),
    ]
    return Street((640, 384), things, poles=[(300, 40, 318, 300)], seed=seed)


@dataclass(eq=False)
class Camera:
    """One lane's part of the fake."""

    name: str
    scene: Scene
    meter: Meter
    stats: CameraStats = field(default_factory=CameraStats)
    shown: int = 0

    def frame(self, time_s: float) -> LiveFrame:
        """What is seen at a time."""
        width, height = self.scene.wh
        found = [n for n in range(len(self.scene.things)) if self.scene.visible(n, time_s).sum() > 40]
        instances = self._instances(found, time_s)
        sightings = tuple(
            Sighting(seen, self._label(n), 0.9, (0.0, 0.0), track_id=n + 1, reasons=reasons)
            for n, seen, front in zip(found, instances.visible, instances.occluder, strict=True)
            for reasons in [(Reason.NEIGHBOUR,) if front.area else ()]
        )
        moving = np.zeros((height, width), bool)
        for one in sightings:
            moving |= one.silhouette.full(height, width)
        image = Anonymiser()(self.scene.picture(time_s), sightings, moving)
        return LiveFrame(
            camera=self.name,
            image=image,
            captured=_now(),
            sightings=sightings,
            instances=instances,
            track_ids=tuple(n + 1 for n in found),
            carried=(Carried(99, Label.PERSON, (284.0, 150.0, 334.0, 268.0), 6.0),),
        )

    def _label(self, index: int) -> Label:
        return Label.VEHICLE if self.scene.things[index].kind == "car" else Label.PERSON

    def _instances(self, found: Sequence[int], time_s: float) -> AmodalInstances:
        width, height = self.scene.wh
        whole = [PatchMask.from_full(self.scene.things[n].mask(time_s, (height, width))) for n in found]
        front = [
            PatchMask(one.x, one.y, one.mask & ~self.scene.visible(n, time_s)[_window(one)])
            for n, one in zip(found, whole, strict=True)
        ]
        behind = [PatchMask(one.x, one.y, np.zeros_like(one.mask)) for one in whole]
        return AmodalInstances(
            (width, height),
            np.array([one.box_xyxy for one in whole], np.float32).reshape(-1, 4),
            np.array([int(self._label(n)) for n in found], np.int64),
            np.full(len(found), 0.9, np.float32),
            tuple(whole),
            tuple(front),
            tuple(behind),
        )


class FakeAgentView:
    """Plays streets through the real types; frames are made only for who looks."""

    def __init__(self, cameras: Sequence[str] = ("gate",)) -> None:
        self._cameras = {
            name: Camera(name, street(3 + index), Meter("boot-test", name)) for index, name in enumerate(cameras)
        }
        self.board = LiveBoard(cameras, watched_s=1.5)
        self.trouble = ""
        self.is_hung = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._play)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def __enter__(self) -> FakeAgentView:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def cameras(self) -> Sequence[str]:
        return self.board.cameras

    def live(self, camera: str) -> LiveFrame | None:
        return self.board.live(camera)

    def is_alive(self) -> Health:
        return Health(False, ["camera gate: its loop hangs"]) if self.is_hung else alive(self.figures().lanes)

    def is_ready(self) -> Health:
        return ready(self.figures())

    def film(self, camera: str, time_s: float) -> LiveFrame:
        """What a camera sees at a time, whether or not anybody plays it."""
        return self._cameras[camera].frame(time_s)

    @property
    def frames_made(self) -> int:
        """Frames that were handed to the board."""
        return sum(one.shown for one in self._cameras.values())

    @property
    def turns(self) -> int:
        return sum(one.meter.frames_processed for one in self._cameras.values())

    def figures(self) -> AgentFigures:
        return AgentFigures(
            site="harbour",
            device="walt-7f3a91",
            version="0.1.0",
            anonymiser=self._anonymiser,
            uptime_s=93_784.0,
            lanes=tuple(
                one.meter.figures(
                    one.stats,
                    objects_seen=4,
                    crops_chosen=2,
                    rejected_by_reason={"neighbour": 212, "border": 48, "a better view was taken": 31, "small": 7},
                )
                for one in self._cameras.values()
            ),
            spool=SpoolFigures(
                counts=SpoolCounts(
                    accepted=18_440, acked=18_231, dropped=12, rejected=3, depth=194, bytes=11_640_000
                ),
                quota_bytes=1 << 30,
                trouble=self.trouble,
            ),
            uplink=UplinkFigures(broker="home.example:8883", is_connected=True, connects=3, sent=18_301, resent=70),
            model=ModelFigures(
                release=14, name="walt-general", runtime="onnx-cpu", is_on_probation=True, state="active"
            ),
            updates=UpdateFigures(
                state="active",
                release=14,
                attempts=3,
                outcomes={"swapped": 2, "postponed": 1},
                fetched_bytes=20_900_000,
            ),
            selector=SelectorFigures(
                price=0.0,
                hour_spent_bytes=3_100_000,
                hour_budget_bytes=40_000_000,
                day_spent_bytes=61_000_000,
                day_budget_bytes=400_000_000,
            ),
            process=self._processes.read(),
        )

    @cached_property
    def _anonymiser(self) -> str:
        return Anonymiser().version

    @cached_property
    def _processes(self) -> ProcessMeter:
        return ProcessMeter()

    def _play(self) -> None:
        start_s = time.monotonic()
        while not self._stopping.wait(0.2):
            for one in self._cameras.values():
                self._step(one, (time.monotonic() - start_s) % LOOP_S)

    def _step(self, camera: Camera, time_s: float) -> None:
        meter = camera.meter
        meter.turn()
        meter.received()
        camera.stats.frames_received += 2
        camera.stats.frames_skipped += 1
        chance = np.random.default_rng(camera.stats.frames_received)
        for stage, usual_ms in ((Stage.LOOK, 61), (Stage.WATCH, 14), (Stage.ANONYMISE, 6), (Stage.SELECT, 1)):
            meter.stages[stage].add(usual_ms * float(chance.gamma(20, 0.05)))
        meter.stages[Stage.STEP].add(84 * float(chance.gamma(20, 0.05)))
        if meter.frames_processed % 20 == 19:
            camera.stats.frames_received += 1
            meter.skipped[Skip.GATED] += 1
        if self.board.is_watched(camera.name):
            frame = camera.frame(time_s)
            if frame.instances is not None:
                meter.objects_now = len(frame.instances)
                meter.hidden_now = sum(one.area > 0 for one in frame.instances.occluder)
            self.board.show(frame)
            camera.shown += 1
        meter.processed(time.monotonic_ns() - 120_000_000)


def _window(patch: PatchMask) -> tuple[slice, slice]:
    x0, y0, x1, y1 = patch.box_xyxy
    return slice(y0, y1), slice(x0, x1)


def _now() -> Moment:
    return Moment(
        utc_us=time.time_ns() // 1000,
        boot_id="boot-test",
        monotonic_ns=time.monotonic_ns(),
        clock=Clock.SYNCHRONISED,
        media_time_s=0.0,
    )


def main(arguments: Sequence[str]) -> None:
    """Serves until interrupted."""
    count, port = (int(one) for one in [*arguments, *("1", "8080")[len(arguments) :]])
    names = [f"cam-{n + 1}" for n in range(count)]
    with FakeAgentView(names) as view, WebServer(view, WebSettings(port=port)) as server:
        sys.stdout.write(f"{server.url}\n")
        sys.stdout.flush()
        threading.Event().wait()


if __name__ == "__main__":
    main(sys.argv[1:])
