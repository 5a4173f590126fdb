"""The model that looks at frames, exchanged between two of them; one that fails is put down at once."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.bundle import BundleManifest
from walt_edge.contract.instances import AmodalInstances
from walt_edge.contract.messages import Desired
from walt_edge.update.probation import Figures, LookLog

LOG = logging.getLogger(__name__)


class Model(Protocol):
    """What the agent wants of a model; `walt_edge.Detector` is one."""

    @property
    def manifest(self) -> BundleManifest:
        """What its bundle says of itself."""

    @property
    def sha256(self) -> str:
        """Of its bundle."""

    @property
    def most_pictures(self) -> int:
        """How many pictures it is best given together; 0 for any number."""

    def predict_many(self, images_bgr: Sequence[NDArray[np.uint8]], /) -> list[AmodalInstances]:
        """Amodal instances of (H, W, 3) uint8 pictures, in their order."""

    def check_golden(self) -> None:
        """Raises WaltError if this machine answers the golden pictures otherwise than they were answered at home."""


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """A model that passed its golden pictures here.

    Attributes:
        model: The model.
        wish: The release it is.
        golden_ms: Median time of a golden picture on this machine; 0 if nobody knows.
        is_engine: Whether an engine that was built here runs it.
    """

    model: Model
    wish: Desired
    golden_ms: float
    is_engine: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """What the model made of one frame.

    Attributes:
        release: The model's release number.
        instances: What it saw; empty if it failed on this frame.
        took_ms: How long it took; of frames that were looked at together, each its share.
    """

    release: int
    instances: AmodalInstances
    took_ms: float


@dataclass(frozen=True, slots=True)
class Patience:
    """When a model is put down.

    Attributes:
        frames: So many frames in a row that failed or were slow.
        slow_factor: Slow is longer than this many times a golden picture ...
        slow_ms: ... and longer than this.
    """

    frames: int = 20
    slow_factor: float = 10.0
    slow_ms: float = 5.0


@dataclass(eq=False)
class Offer:
    """A model, or none, that waits to be taken."""

    fitted: Fitted | None
    taken: threading.Event = field(default_factory=threading.Event)


class ModelHolder:
    """Holds the current model for one pipeline; models are offered from another thread.

    Args:
        patience: When to put a model down.
    """

    def __init__(self, patience: Patience | None = None) -> None:
        self._patience = patience or Patience()
        self._lock = threading.Lock()
        self._current: Fitted | None = None
        self._offer: Offer | None = None
        self._bad_in_a_row = 0
        self._log = LookLog()
        self.on_put_down: Callable[[Fitted, str], None] = lambda fitted, reason: None

    @property
    def release(self) -> int:
        """The current model's release, or 0."""
        current = self._current
        return current.wish.release if current else 0

    @property
    def current(self) -> Fitted | None:
        """The current model."""
        return self._current

    @property
    def most_pictures(self) -> int:
        """How many frames the current model is best given together; 0 for any number."""
        current = self._current
        return current.model.most_pictures if current else 0

    @property
    def is_offered(self) -> bool:
        """Whether something waits to be taken."""
        return self._offer is not None

    def offer(self, fitted: Fitted | None) -> Offer:
        """Lays a model out for the pipeline, which takes it before its next frame; replaces an older offer."""
        offer = Offer(fitted)
        with self._lock:
            self._offer = offer
        return offer

    def withdraw(self, offer: Offer) -> bool:
        """Takes an offer back; False if the pipeline was faster."""
        with self._lock:
            if self._offer is offer:
                self._offer = None
            return not offer.taken.is_set()

    def exchange(self) -> None:
        """Takes what is offered; the pipeline calls it between two frames."""
        with self._lock:
            offer, self._offer = self._offer, None
            if offer is None:
                return
            self._current = offer.fitted
            self._bad_in_a_row = 0
            self._log = LookLog()
            offer.taken.set()

    def figures(self) -> Figures:
        """How the current model does; of none, nothing."""
        with self._lock:
            return self._log.figures()

    def look(self, bgr: NDArray[np.uint8]) -> Look | None:
        """What the current model makes of a frame; None without a model. Never raises.

        Args:
            bgr: (H, W, 3) uint8.
        """
        looks = self.look_many([bgr])
        return looks[0] if looks else None

    def look_many(self, images_bgr: Sequence[NDArray[np.uint8]], /) -> list[Look] | None:
        """What the current model makes of frames, looked at together; None without a model. Never raises.

        Args:
            images_bgr: Each (H, W, 3) uint8, of any sizes.
        """
        current = self._current
        if current is None:
            return None
        start_s = time.perf_counter()
        try:
            found, trouble = current.model.predict_many(images_bgr), ""
        except Exception as error:
            # A boundary: a model is data from elsewhere, and whatever it does, the agent goes on watching.
            found = [AmodalInstances.empty((bgr.shape[1], bgr.shape[0])) for bgr in images_bgr]
            trouble = f"it fails: {error}" if str(error) else f"it fails: {type(error).__name__}"
            if self._bad_in_a_row == 0:
                LOG.exception("release %d fails on a frame; watching on", current.wish.release)
        took_ms = 1e3 * (time.perf_counter() - start_s) / max(1, len(images_bgr))
        self._judge(current, [None if trouble else len(one) for one in found], took_ms, trouble)
        return [Look(current.wish.release, one, took_ms) for one in found]

    def _judge(self, current: Fitted, things: Sequence[int | None], took_ms: float, trouble: str) -> None:
        """Counts frames, and puts a model down that fails or is slow too often in a row."""
        limit_ms = max(self._patience.slow_factor * current.golden_ms, self._patience.slow_ms)
        if not trouble and current.golden_ms and took_ms > limit_ms:
            trouble = f"it takes {took_ms:.0f} ms a frame, its golden pictures {current.golden_ms:.1f} ms"
        with self._lock:
            if self._current is not current:
                return
            for count in things:
                self._log.note(took_ms, count)
            self._bad_in_a_row = self._bad_in_a_row + len(things) if trouble else 0
            if self._bad_in_a_row < self._patience.frames:
                return
            self._bad_in_a_row = 0
            self._current = None
        reason = f"put down after {self._patience.frames} frames in a row: {trouble}"
        LOG.error("release %d is %s", current.wish.release, reason)
        self.on_put_down(current, reason)
