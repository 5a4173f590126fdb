"""One camera of an agent, watched in a thread of its own for as long as the agent runs."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from walt_edge.agent.pipeline import Pipeline
from walt_edge.contract.backoff import Backoff
from walt_edge.contract.errors import WaltError

LOG = logging.getLogger(__name__)

STEADY_S = 600.0
"""Who watched for so long was in order: the next pause is the first one again."""

_TURN_S = 1.0


@dataclass(frozen=True, slots=True)
class LaneSettings:
    """How a lane begins anew.

    Attributes:
        again_min_s: Pause after the first failure; doubles, jittered.
        again_max_s: Where that doubling ends.
    """

    again_min_s: float = 5.0
    again_max_s: float = 600.0


class Lane:
    """Keeps one camera's pipeline going.

    A recording ends, well or with an error. A live camera does not: whatever ends its pipeline (a camera that will
    not stand still, an anonymiser that fails on everything) is logged, and after a pause it is opened and learned
    anew, while the other cameras are watched on.

    Args:
        name: The camera's.
        opened: Opens the camera and all that watches it; closes it on leaving.
        is_live: Whether it is begun anew.
        must_open: A first opening that fails ends it all the same: it mostly is a wrong URL.
        stop: Ends it.
        frames: Watch so many, then end; None: no such end.
        settings: Pauses.
        on_open: Told of every pipeline before it runs, when `pipeline` already shows it to other threads.

    Attributes:
        name: The camera's.
        pipeline: What watches it; None while it is being opened.
        error: What ended it for good.
        failures: How often it was begun anew.
    """

    def __init__(
        self,
        name: str,
        opened: Callable[[], AbstractContextManager[Pipeline]],
        *,
        is_live: bool,
        must_open: bool = False,
        stop: threading.Event,
        frames: int | None = None,
        settings: LaneSettings | None = None,
        on_open: Callable[[Pipeline], None] = lambda pipeline: None,
    ) -> None:
        self.name = name
        self.pipeline: Pipeline | None = None
        self.error: Exception | None = None
        self.failures = 0
        self._opened = opened
        self._on_open = on_open
        self._is_live = is_live
        self._must_open = must_open
        self._stop = stop
        self._frames = frames
        options = settings or LaneSettings()
        self._backoff = Backoff(options.again_min_s, options.again_max_s)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._main, name=f"lane-{name}", daemon=True)

    def start(self) -> None:
        """Begins to watch."""
        self._thread.start()

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will come of it."""
        return self._ended.is_set()

    def join(self, timeout_s: float | None = None) -> bool:
        """Waits for its end; False if it did not come within the time."""
        return self._ended.wait(timeout_s)

    def _main(self) -> None:
        try:
            while not self._stop.is_set() and not self._watched_to_the_end():
                self._pause(self._backoff.next_s())
        except Exception as error:  # noqa: BLE001 (kept, and raised by whoever runs the agent)
            self.error = error
        finally:
            self._ended.set()

    def _pause(self, pause_s: float) -> None:
        """Waits; a lane that waits does not hang, and must not have the watchdog end those that watch."""
        end_s = time.monotonic() + pause_s
        while (left_s := end_s - time.monotonic()) > 0 and not self._stop.wait(min(left_s, _TURN_S)):
            if self.pipeline is not None:
                self.pipeline.meter.turn()

    def _watched_to_the_end(self) -> bool:
        """Opens the camera and watches it; False if it has to be begun anew."""
        began_s = time.monotonic()
        try:
            with self._opened() as pipeline:
                self.pipeline = pipeline
                self._on_open(pipeline)
                pipeline.run(self._stop, self._frames)
            return True
        except Exception as error:
            # The lane's boundary: one camera's trouble must not end the others.
            if not self._is_live or (self._must_open and self.pipeline is None):
                raise
            self.failures += 1
            if time.monotonic() - began_s > STEADY_S:
                self._backoff.reset()
            LOG.error(
                "camera %s is begun anew: %s",
                self.name,
                error,
                exc_info=None if isinstance(error, WaltError) else error,
            )
            return False
