"""Who belongs to the fleet where devices are enrolled: asked of the database now and then, not for every message."""

from __future__ import annotations

import logging
import time
from typing import Final

from sqlalchemy import Engine, select

from walt_train.loop.identity.tables import devices
from walt_train.loop.store.database import UNAVAILABLE, cause

LOGGER = logging.getLogger(__name__)
_REFRESH_S: Final = 20.0


class Enrolled:
    """Whether a device was enrolled at a site, and not revoked since; at most `refresh_s` late.

    Args:
        engine: The store's.
        refresh_s: How long an answer is believed.
    """

    def __init__(self, engine: Engine, refresh_s: float = _REFRESH_S) -> None:
        self._engine = engine
        self._refresh_s = refresh_s
        self._known: frozenset[tuple[str, str]] = frozenset()
        self._until_s = 0.0

    def __call__(self, site: str, device: str) -> bool:
        """Whether that device is heard; while the database is away, what was known last holds."""
        now_s = time.monotonic()
        if now_s >= self._until_s:
            self._until_s = now_s + self._refresh_s
            try:
                self._known = frozenset(expiries(self._engine))
            except UNAVAILABLE as error:
                LOGGER.warning("who is enrolled cannot be read (%s): believing what was read before", cause(error))
        return (site, device) in self._known


def expiries(engine: Engine) -> dict[tuple[str, str], int]:
    """When the certificates of devices that are not revoked end, microseconds UTC, by site and device."""
    query = select(devices.c.site, devices.c.device, devices.c.expires_us).where(devices.c.revoked_us.is_(None))
    with engine.connect() as connection:
        return {(row.site, row.device): row.expires_us for row in connection.execute(query)}
