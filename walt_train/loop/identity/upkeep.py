"""Keeps from expiring what nobody looks at: revocations reach the broker, own certificates are renewed in time."""

from __future__ import annotations

import datetime
import logging
from pathlib import Path
from typing import Final

from walt_edge.contract.errors import WaltError
from walt_train.loop.identity.authority import Authority, Clock, utc_now
from walt_train.loop.identity.mosquitto import (
    CONFIG,
    Address,
    BrokerFiles,
    BrokerFilesError,
    Revocations,
    write_workers,
)
from walt_train.loop.identity.pairs import keep_server
from walt_train.loop.identity.registry import Registry
from walt_train.loop.store.database import UNAVAILABLE

LOGGER = logging.getLogger(__name__)

TURN_S: Final = 30.0
"""How often a turn is worth its while: so late may a revocation reach the broker."""
_ALL_EVERY: Final = datetime.timedelta(days=1)


class Household:
    """The files that identity keeps in home's folder.

    Args:
        home: The folder; `identity/` holds the authorities, `workers/` what home's workers show at the broker.
        authority: Both authorities.
        address: Where home is met.
        broker: The broker's files; None where a broker is configured otherwise.
        clock: What time it is.
    """

    def __init__(
        self,
        home: Path,
        authority: Authority,
        address: Address,
        broker: BrokerFiles | None = None,
        clock: Clock = utc_now,
    ) -> None:
        self.server = home / "identity" / "server.pem"
        self.authority = authority
        self.address = address
        self.broker = broker
        self._workers = home / "workers"
        self._clock = clock

    @classmethod
    def open(cls, home: Path) -> Household:
        """What `walt-loop broker` made.

        Raises:
            AuthorityError: It did not, or the authorities are damaged.
            UsageError: It does not say where home is.
        """
        authority = Authority(home / "identity")
        address = Address.read(authority.folder)
        is_here = (Path(address.folder) / CONFIG).exists()
        return cls(home, authority, address, BrokerFiles(authority, address) if is_here else None)

    def write(self, revocations: Revocations) -> bool:
        """Writes all that is not there or does not last; returns whether the server's certificate is a new one.

        Raises:
            BrokerFilesError: A file cannot be written.
        """
        write_workers(self._workers, self.authority, self.address, self._clock)
        if self.broker is not None:
            self.broker.write(revocations)
        try:
            return keep_server(self.authority, self.server, self.address.hosts, self._clock())
        except OSError as error:
            raise BrokerFilesError(f"cannot write {self.server}: {error.strerror}; mend the disk") from error


class Upkeep:
    """To be asked every `TURN_S` seconds; does what is due, and never raises.

    Args:
        registry: Knows what is revoked.
        household: What is kept.
        clock: What time it is.
    """

    def __init__(self, registry: Registry, household: Household, clock: Clock = utc_now) -> None:
        self._registry = registry
        self._household = household
        self._clock = clock
        self._written: Revocations | None = None
        self._all_at: datetime.datetime | None = None

    def turn(self) -> bool:
        """Returns whether the server's certificate is a new one."""
        try:
            return self._turn()
        except (WaltError, *UNAVAILABLE) as error:
            LOGGER.error("identity's upkeep: %s; trying again in %.0f s", error, TURN_S)
            return False

    def _turn(self) -> bool:
        revocations, now = self._registry.revocations(), self._clock()
        is_due = self._all_at is None or not self._all_at <= now < self._all_at + _ALL_EVERY
        if not is_due and revocations == self._written:
            return False
        self._registry.forget_old()
        is_new = self._household.write(revocations)
        broker = self._household.broker
        if broker is not None and not broker.reload():
            LOGGER.warning("no broker runs from %s here: tell it to reload (SIGHUP)", broker.folder)
        self._written, self._all_at = revocations, now
        return is_new
