"""Which generations learned from crops, where their models run, and where the crops can be seen in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select

from walt_train.loop.lineage import graph
from walt_train.loop.lineage.record import run_id
from walt_train.loop.store.tables import generations

_DRAWN = ("validate", "plate", "clip")
"""Golden and calibration pictures are drawn with what judges; of a clip whose role is not known, it is believed."""


@dataclass(frozen=True, slots=True)
class Affected:
    """A generation that some of the crops were frozen for.

    Attributes:
        camera: Its camera.
        number: Its number.
        state: Its state.
        held: How many of them are in its frozen clip art.
        learned: How many of them, plates included, its weights learned from.
        pictures: Whether they may be seen in what its training drew, and so in its bundle.
        releases: Its releases.
        devices: Which were last told to run one of these.
    """

    camera: str
    number: int
    state: str
    held: int
    learned: int
    pictures: bool
    releases: tuple[int, ...] = ()
    devices: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """How people are told of it."""
        return f"{self.camera} generation {self.number}"

    @property
    def line(self) -> str:
        """What people are told of it."""
        if not self.learned:
            return f"{self.title} ({self.state}): had {self.held} of them and learned from none"
        released = f", release {', '.join(map(str, self.releases))}" if self.releases else ""
        runs = f", which {', '.join(self.devices)} run" if self.devices else ""
        return f"{self.title} ({self.state}) learned from {self.learned}{released}{runs}"


def affected(connection: Connection, ids: Sequence[str]) -> list[Affected]:
    """The generations that any of the ids were frozen for, by camera and number."""
    frozen = graph.frozen_of(connection, ids)
    query = select(generations).order_by(generations.c.camera, generations.c.number)
    found = []
    for row in connection.execute(query).mappings():
        roles = frozen.get(row["clipart_sha256"])
        if roles is None:
            continue
        learned = [role for role in roles.values() if role != "left"]
        releases = releases_of(connection, row["camera"], row["number"])
        found.append(
            Affected(
                camera=row["camera"],
                number=row["number"],
                state=row["state"],
                held=len(roles),
                learned=len(learned),
                pictures=any(role in _DRAWN for role in learned),
                releases=releases,
                devices=runners(connection, releases),
            )
        )
    return found


def releases_of(connection: Connection, camera: str, number: int) -> tuple[int, ...]:
    """Releases of a generation's bundle, in order."""
    made = graph.descendants(connection, [run_id(camera, number)])
    return tuple(sorted(int(one.partition(":")[2]) for one in made if one.startswith("release:")))


def runners(connection: Connection, releases: Sequence[int]) -> tuple[str, ...]:
    """The devices that were last told to run one of the releases, SITE/DEVICE."""
    told = (run for release in releases for run in graph.runs(connection, release))
    return tuple(sorted(run.device for run in told if run.is_newest))
