"""What an agent wants of the eyes that watch a camera; `walt_edge.watching.watcher` is them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from walt_edge.camera import Frame
from walt_edge.contract.instances import AmodalInstances
from walt_edge.contract.telemetry import Lens
from walt_edge.privacy.anonymiser import AnonymisedImage, SealedEnvelope
from walt_edge.privacy.holdover import FrameStamp
from walt_edge.vision.sightings import Sighting


class Seen(Protocol):
    """What one step gives."""

    @property
    def frame(self) -> FrameStamp | None:
        """Which frame `image` and `sightings` are about: one of a moment ago, since sinks run behind."""

    @property
    def image(self) -> AnonymisedImage | None:
        """That frame, anonymised; None while the plate is being learned."""

    @property
    def sightings(self) -> Sequence[Sighting]:
        """All objects in it."""

    @property
    def sealed(self) -> Sequence[SealedEnvelope]:
        """What is to be sent home."""

    @property
    def is_busy(self) -> bool:
        """Whether anything is in the frame that was just watched, or nobody can tell yet."""

    @property
    def is_learning(self) -> bool:
        """Whether the plate is being learned."""


class Eyes(Protocol):
    """What turns frames into sealed envelopes: the watcher."""

    @property
    def objects_seen(self) -> int:
        """Tracks so far."""

    @property
    def crops_chosen(self) -> int:
        """Crops sealed so far."""

    @property
    def rejected_by_reason(self) -> Mapping[str, int]:
        """Objects that were not chosen, by reason."""

    @property
    def lens(self) -> Lens:
        """What the background tells of the lens and the mount."""

    def step(self, frame: Frame, seen: AmodalInstances | None = None) -> Seen:
        """Watches one frame; `seen` is what the model sees in it."""

    def drain(self) -> Iterable[Seen]:
        """Hands on the frames that still wait, when there are no more."""

    def finish(self) -> Sequence[SealedEnvelope]:
        """Ends all tracks; what they had left to give."""
