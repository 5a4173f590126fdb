"""Whoever guesses has to wait, longer with every wrong password, and no stranger locks anybody out.

Wrong passwords count against the address that they come from and against the name that they are meant for. An
address waits up to a quarter of an hour, a name half a minute at most; and in a browser in which a person has signed
in before, only that browser's own wrong passwords count, so that guesses from elsewhere do not even slow it down.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, Engine, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from walt_train.loop.store.database import transaction
from walt_train.loop.web.access.rates import network_of
from walt_train.loop.web.access.secret import digest
from walt_train.loop.web.access.tables import web_attempts

_FORGOTTEN_US: Final = 86_400_000_000
_FIRST_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Guessed:
    """What wrong passwords count against.

    Attributes:
        key: Which address, name or browser.
        free: So many cost nothing.
        most_s: It never waits longer.
    """

    key: str
    free: int
    most_s: float


def guessed(address: str, name: str, browser: str = "") -> list[Guessed]:
    """What a sign-in counts against; `browser` is the secret of one that is known for this name, or ""."""
    whom = Guessed(f"browser:{browser}", 5, 300.0) if browser else Guessed(f"name:{name}", 10, 30.0)
    return [Guessed(f"address:{network_of(address)}", 10, 900.0), whom]


class Attempts:
    """The table of those who guess; any number of processes share it.

    Args:
        engine: The store's database.
        clock: Microseconds UTC.
    """

    def __init__(self, engine: Engine, clock: Callable[[], int]) -> None:
        self._engine = engine
        self._clock = clock

    def wait_s(self, of: Sequence[Guessed]) -> float:
        """How long no password is looked at, seconds; 0 = now."""
        keys = [digest(one.key) for one in of]
        with self._engine.connect() as connection:
            until = connection.scalars(select(web_attempts.c.until_us).where(web_attempts.c.key.in_(keys))).all()
        return max(0.0, (max(until, default=0) - self._clock()) / 1e6)

    def failed(self, of: Sequence[Guessed]) -> None:
        """Notes a wrong password."""
        for _ in range(3):
            try:
                with transaction(self._engine) as connection:
                    self._note(connection, of)
            except IntegrityError:
                continue  # Another process was the first to note one of them.
            return

    def succeeded(self, of: Sequence[Guessed]) -> None:
        """Forgets the wrong ones of the name or browser; an address may serve many, also who guesses."""
        with transaction(self._engine) as connection:
            keys = [digest(one.key) for one in of if not one.key.startswith("address:")]
            connection.execute(delete(web_attempts).where(web_attempts.c.key.in_(keys)))

    def _note(self, connection: Connection, of: Sequence[Guessed]) -> None:
        now_us = self._clock()
        connection.execute(delete(web_attempts).where(web_attempts.c.at_us < now_us - _FORGOTTEN_US))
        # In order, so that two processes never wait for one another in a circle.
        for key, one in sorted((digest(one.key), one) for one in of):
            mine = web_attempts.c.key == key
            held = connection.scalar(select(web_attempts.c.failures).where(mine).with_for_update())
            failures = (held or 0) + 1
            values = {
                "failures": failures,
                "at_us": now_us,
                "until_us": now_us + round(_pause_s(one, failures) * 1e6),
            }
            statement = insert(web_attempts).values(values | {"key": key})
            connection.execute(statement if held is None else update(web_attempts).where(mine).values(values))


def _pause_s(one: Guessed, failures: int) -> float:
    excess = failures - one.free
    return min(_FIRST_S * 2.0 ** min(excess, 20), one.most_s) if excess > 0 else 0.0
