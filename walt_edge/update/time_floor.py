"""The earliest that it can be now, whatever the wall clock says.

What home signed is to be believed until it expires, so a clock that stands at 1970 or is set back would make it
immortal: whoever holds back newer releases could do so for good. Time is therefore never taken to be before

- the day on which this version was released,
- when home signed the newest metadata that was verified here,
- the last time that was persisted, and what the monotonic clock has counted since.

Nor may a clock that once stood ahead lock the device out: the wall clock raises what is persisted only while the
kernel holds it to be set by a time source, and nothing raises it beyond the expiry of the newest metadata that was
verified. What home signs next expires later than that, and is taken.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Timestamp

from walt_edge.capture.clock import clock_state
from walt_edge.contract.files import write_whole
from walt_edge.contract.messages import Clock

LOG = logging.getLogger(__name__)

RELEASED: Final = datetime(2026, 11, 23, tzinfo=UTC)
"""The day of this version, set with its number. A file's date would not do: whoever installs writes it, by a clock
that may be the very one which is wrong."""
SIGNED_AT: Final = "signed_at"
"""Field of a timestamp in which home notes when it signed, RFC 3339."""


class Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of the file.

    Attributes:
        floor: It was then at least so late.
        until: When the newest verified metadata expires.
    """

    floor: datetime
    until: datetime


class TimeFloor:
    """What time it is at least; used by one thread at a time.

    Args:
        path: Where it is kept over restarts; its folder is there.
        keep_every_s: It is written no more often than this, which spares flash, and is lost by a loss of power.
        wall: The system's clock.
        monotonic: Seconds that only grow.
        is_synchronised: Whether the system's clock is set by a time source.
    """

    def __init__(
        self,
        path: Path,
        keep_every_s: float = 600.0,
        *,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
        is_synchronised: Callable[[], bool] = lambda: clock_state() == Clock.SYNCHRONISED,
    ) -> None:
        self._path = path
        self._keep_every = timedelta(seconds=keep_every_s)
        self._wall, self._monotonic, self._is_synchronised = wall, monotonic, is_synchronised
        self._kept = _read(path)
        self._set(self._kept.floor, self._kept.until)

    def now(self) -> datetime:
        """The wall clock's time, or the earliest that it can be if that is later."""
        return max(self._wall(), self.earliest())

    def earliest(self) -> datetime:
        """The earliest that it can be now."""
        passed = timedelta(seconds=self._monotonic() - self._since_s)
        return max(RELEASED, min(self._floor + passed, self._until))

    def learn(self, timestamp: Path) -> None:
        """Takes over, and keeps, what a verified timestamp of the update repository tells; never raises.

        Args:
            timestamp: The file, as the TUF client wrote it when it had verified it.
        """
        try:
            signed = Metadata[Timestamp].from_bytes(timestamp.read_bytes()).signed
        except (RepositoryError, OSError) as error:
            LOG.warning("%s tells no time: %s", timestamp, error)
            return
        self._set(max(self.earliest(), _signed_at(signed)), max(self._until, signed.expires))
        self.keep()

    def keep(self) -> None:
        """Notes how late it is, and writes it if that is worth a write; to be called now and then; never raises."""
        floor = self.now() if self._is_synchronised() else self.earliest()
        self._set(floor, self._until)
        kept = Kept(self.earliest(), self._until)
        if kept.until == self._kept.until and kept.floor - self._kept.floor < self._keep_every:
            return
        try:
            write_whole(self._path, msgspec.json.encode(kept) + b"\n")
            self._kept = kept
        except OSError as error:
            LOG.error("cannot keep the time in %s: %s", self._path, error.strerror)

    def _set(self, floor: datetime, until: datetime) -> None:
        self._floor, self._until, self._since_s = min(floor, until), until, self._monotonic()


def _read(path: Path) -> Kept:
    try:
        kept = msgspec.json.decode(path.read_bytes(), type=Kept)
        if kept.floor.tzinfo is not None and kept.until.tzinfo is not None:
            return kept
        LOG.error("%s has no time zone: beginning with the day of this version", path)
    except FileNotFoundError:
        pass
    except (msgspec.DecodeError, UnicodeDecodeError, OSError) as error:
        LOG.error("%s is damaged (%s): beginning with the day of this version", path, error)
    return Kept(RELEASED, RELEASED)


def _signed_at(signed: Timestamp) -> datetime:
    """When it was signed; the day of this version if it does not tell."""
    try:
        found = msgspec.convert(signed.unrecognized_fields.get(SIGNED_AT), datetime)
    except msgspec.ValidationError:
        return RELEASED
    return found if found.tzinfo is not None else RELEASED
