"""When a camera's clip art is enough for another generation."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sqlalchemy import Engine, func, select

from walt_edge.contract.labels import Label
from walt_edge.contract.topics import DeviceTopics, Kind
from walt_train.loop.serve.jobs import Generation
from walt_train.loop.store.tables import envelopes

_GROWTH = 0.2
"""A generation is worth its training only with so much more clip art than the last one had."""


@dataclass(frozen=True, slots=True)
class Harvest:
    """What may train, of one camera.

    Attributes:
        crops: How many; crops that are held out are none of them.
        tracks: Physical objects that they show, as far as a track tells.
        labels: Classes that they show.
    """

    crops: int
    tracks: int
    labels: frozenset[Label]


@dataclass(frozen=True, slots=True)
class Threshold:
    """How much new clip art a generation needs; least numbers of crops and of their tracks."""

    crops: int = 50
    tracks: int = 20


@dataclass(frozen=True, slots=True)
class Readiness:
    """How far a camera is from its next generation: (new, needed) crops and tracks."""

    crops: tuple[int, int]
    tracks: tuple[int, int]

    @property
    def is_enough(self) -> bool:
        """Whether a generation can begin."""
        return self.crops[0] >= self.crops[1] and self.tracks[0] >= self.tracks[1]

    @property
    def line(self) -> str:
        """What is waited for."""
        return f"{self.crops[0]} of {self.crops[1]} crops, {self.tracks[0]} of {self.tracks[1]} objects"


def readiness(harvest: Harvest, last: Generation | None, threshold: Threshold) -> Readiness:
    """Compares what is new since the camera's last generation, whatever became of it, with what is needed."""
    had_crops, had_tracks = (last.crops, last.tracks) if last else (0, 0)
    needed = max(threshold.crops, math.ceil(_GROWTH * had_crops))
    return Readiness(
        crops=(max(0, harvest.crops - had_crops), needed),
        tracks=(max(0, harvest.tracks - had_tracks), threshold.tracks),
    )


def harvest_of(engine: Engine, camera: str) -> Harvest:
    """Counts a camera's crops that may train."""
    is_crop = (envelopes.c.camera == camera) & (envelopes.c.kind == Kind.CROP.value) & ~envelopes.c.holdout
    is_crop &= envelopes.c.held.is_(None)
    track = select(envelopes.c.device, envelopes.c.boot_id, envelopes.c.track_id).where(is_crop).distinct()
    with engine.connect() as connection:
        crops = connection.scalar(select(func.count()).select_from(envelopes).where(is_crop))
        tracks = connection.scalar(select(func.count()).select_from(track.subquery()))
        labels = connection.scalars(select(envelopes.c.label).where(is_crop).distinct()).all()
    return Harvest(int(crops or 0), int(tracks or 0), frozenset(Label(label) for label in labels))


def devices_of(engine: Engine, camera: str) -> list[DeviceTopics]:
    """The devices that something of the camera was stored from."""
    query = select(envelopes.c.site, envelopes.c.device).where(envelopes.c.camera == camera).distinct()
    with engine.connect() as connection:
        return [DeviceTopics(site, device) for site, device in sorted(connection.execute(query))]
