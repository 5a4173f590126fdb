"""One attempt at one step of a generation: where it works, and the programs that it runs."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from walt_edge.contract.files import write_whole
from walt_train.loop.children import StationError
from walt_train.loop.lineage.erase import erase_drawing
from walt_train.loop.lineage.made import Maker
from walt_train.loop.serve.folder import Folder
from walt_train.loop.serve.jobs import ENDED, Generation, Jobs, LeaseLostError, StepName, now_us
from walt_train.loop.serve.logs import RUNNING_BYTES, shorten
from walt_train.loop.serve.manifest import Command, note
from walt_train.loop.serve.programs import Programs
from walt_train.loop.serve.runners.runner import Runner, Running, Work

LOGGER = logging.getLogger(__name__)
_LOOK_AT_LOG_S = 5.0
_COMPOSITES = 8
_COMPOSITES_S = 300.0
_SHEET_WIDTH = 1600
_JPEG_QUALITY = 85


class Watch:
    """Watches a running program; a worker overrides it to renew, to show progress and to be stopped."""

    def look(self) -> None:
        """Called every moment while a program runs; whatever it raises has us leave it."""

    def wait(self) -> None:
        """Lets a moment pass."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at one step.

    Attributes:
        name: The step.
        generation: Whose.
        folder: Its folder.
        home: Where all generations lie.
        watch: Called while programs run.
        runner: Runs them.
        jobs: The table.
    """

    name: StepName
    generation: Generation
    folder: Folder
    home: Path
    watch: Watch
    runner: Runner
    jobs: Jobs

    @property
    def maker(self) -> Maker:
        """Who made what the step gives."""
        return Maker(self.generation.camera, self.generation.number, self.folder.root, self.home)

    def child(self, title: str, words: list[str], *, is_heavy: bool = False, limit_s: float | None = None) -> None:
        """Runs a program to its end, and writes down that it was run.

        Args:
            title: What for; names its log.
            words: Its command line.
            is_heavy: Whether it may run elsewhere.
            limit_s: How long it may take, seconds.

        Raises:
            StationError: It failed, or took too long.
        """
        step = self.generation.step(self.name)
        log = self.folder.log(title, step.attempts)
        owner = (self.generation.camera, self.generation.number)
        key = f"{title}-{step.failures}"
        began_us = now_us()
        running = self.runner.start(Work(title, tuple(words), log, owner, key, is_heavy))
        is_over = True
        try:
            self._note(title, words, running.log, began_us)
            self._wait(running, title, limit_s)
            is_over = running.status is not None
        except BaseException as error:
            is_over = isinstance(error, StationError) or (isinstance(error, LeaseLostError) and self._has_ended())
            raise
        finally:
            running.leave(is_over=is_over)
            shorten(running.log)
        self._note(title, words, running.log, began_us, running.status)
        if running.status != 0:
            raise running.failure()

    def draw(self, programs: Programs) -> None:
        """Draws a sheet of composites for people; a generation goes on without it."""
        if self.folder.composites.exists():
            return
        erase_drawing(self.folder.root)
        drawing = self.folder.drawing
        sheet = self.folder.root / f"{drawing.name}.png"
        try:
            words = programs.compose(self.folder.clipart, drawing, sheet, _COMPOSITES)
            self.child("composites", words, limit_s=_COMPOSITES_S)
            write_whole(self.folder.composites, _as_jpeg(sheet))
        except (StationError, OSError, cv2.error) as error:
            LOGGER.warning("%s: no sheet of composites: %s", self.generation.title, error)
        finally:
            erase_drawing(self.folder.root)

    def _wait(self, running: Running, title: str, limit_s: float | None) -> None:
        began_s = looked_s = time.monotonic()
        while running.running:
            self.watch.look()
            self.watch.wait()
            now_s = time.monotonic()
            if limit_s is not None and now_s - began_s > limit_s:
                raise StationError(f"{title}: took more than {limit_s:.0f} s (log: {running.log})")
            if now_s - looked_s > _LOOK_AT_LOG_S:
                looked_s = now_s
                shorten(running.log, RUNNING_BYTES)

    def _has_ended(self) -> bool:
        """Whether somebody ended the generation, rather than took it over."""
        return self.jobs.read(self.generation.camera, self.generation.number).state in ENDED

    def _note(self, title: str, words: list[str], log: Path, began_us: int, status: int | None = None) -> None:
        place = str(log.relative_to(self.folder.root)) if log.is_relative_to(self.folder.root) else str(log)
        command = Command(
            title=title,
            attempt=self.generation.step(self.name).attempts,
            words=tuple(words),
            log=place,
            began_us=began_us,
            ended_us=None if status is None else now_us(),
            status=status,
        )
        note(self.folder.manifest, self.generation, command)


def _as_jpeg(sheet: Path) -> bytes:
    """What one of our own programs drew, small enough to look at in a page; raises OSError where it is no picture."""
    picture = cv2.imdecode(np.frombuffer(sheet.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    if picture is None:
        raise OSError(f"{sheet} is no picture")
    height, width = picture.shape[:2]
    if width > _SHEET_WIDTH:
        size = (_SHEET_WIDTH, max(1, round(height * _SHEET_WIDTH / width)))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    done, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    if not done:
        raise OSError(f"{sheet} cannot be written as JPEG")
    return data.tobytes()
