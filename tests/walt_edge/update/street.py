"""A home and devices that fetch from it, with times of their own, over a real web server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from tests.fakes.models import write_scripted
from tests.updates import wish_for
from tests.web import Web
from walt_edge.contract.messages import Desired
from walt_edge.update.settings import Channel
from walt_edge.update.slots import Slots
from walt_edge.update.time_floor import RELEASED, TimeFloor
from walt_edge.update.trust import Trust
from walt_train.loop.publish.ceremony import Ceremony
from walt_train.loop.publish.keys import Keys
from walt_train.loop.publish.repository import Release, Repository
from walt_train.loop.publish.signing import SignedFolder

DAY = timedelta(days=1)
START = RELEASED + 100 * DAY


@dataclass
class Street:
    """A home that serves releases, at a time that passes when a test says so.

    Attributes:
        folder: Of everything.
        web: What serves home's repository.
        now: The time, which every clock here shows.
    """

    folder: Path
    web: Web
    now: datetime = START
    published: int = field(default=0)

    def __post_init__(self) -> None:
        self.keys = self.folder / "keys"
        self.home = Repository(self.web.folder, self.keys, lambda: self.now)
        self.home.begin()

    def publish(self, role: Channel = "stable", **script: object) -> Desired:
        return wish_for(self.publish_release(role, **script))

    def publish_release(self, role: Channel = "stable", **script: object) -> Release:
        self.published += 1
        path = write_scripted(self.folder / "bundle.walt", f"street-{self.published}", **script)
        return self.home.publish(path, role)

    def keys_of(self, offline: Path | None = None) -> Ceremony:
        return Ceremony(self.web.folder, self.keys, offline, lambda: self.now)

    def signed(self) -> SignedFolder:
        """The metadata, for somebody who has the keys and means ill."""
        return SignedFolder(self.web.folder, Keys(self.keys), lambda: self.now)

    def device(self, name: str, channel: Channel = "canary") -> Device:
        return Device(self, self.folder / name, channel)


class Device:
    """What a device has over its restarts: its folder; and between them, its client."""

    def __init__(self, street: Street, folder: Path, channel: Channel) -> None:
        self.street, self.folder, self.channel = street, folder, channel
        folder.mkdir()
        self.restart()

    def restart(self) -> None:
        street, begun = self.street, self.street.now
        floor = TimeFloor(
            self.folder / "time.json",
            wall=lambda: street.now,
            monotonic=lambda: (street.now - begun).total_seconds(),
            is_synchronised=lambda: True,
        )
        updates, root = self.folder / "updates", street.web.folder / "root.json"
        self.trust = Trust(updates, street.web.url, root, floor=floor, channel=self.channel)
        self.slots = Slots(self.folder / "models")

    def take(self, wish: Desired) -> None:
        """As the updater does, without a trial; raises UpdateError."""
        self.trust.want(wish)
        try:
            self.slots.check(wish)
            self.trust.fetch(wish, self.slots.candidate)
            self.slots.commit(wish)
        finally:
            self.slots.drop_candidate()

    @property
    def runs(self) -> int:
        return self.slots.active.release if self.slots.active else 0


@contextmanager
def opened(folder: Path) -> Iterator[Street]:
    """A street below `folder`, until the block ends."""
    (folder / "served").mkdir()
    with Web(folder / "served") as web:
        yield Street(folder, web)
