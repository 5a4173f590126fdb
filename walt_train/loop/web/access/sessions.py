"""Sessions: a secret in a cookie, its hash here; they end when idle, when old, and when their owner says so."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final

import msgspec
from sqlalchemy import Engine, delete, insert, or_, select, update

from walt_train.loop.store.database import transaction
from walt_train.loop.store.errors import StoreWriteError
from walt_train.loop.web.access.people import PeopleError
from walt_train.loop.web.access.person import Person, Role
from walt_train.loop.web.access.secret import digest, new_id, new_secret
from walt_train.loop.web.access.tables import people, web_browsers, web_sessions

IDLE_S: Final = 12 * 3600
"""A session that nobody uses for so long has ended."""

LIFE_S: Final = 7 * 86_400
"""However much it is used, a session ends after so long."""

BROWSER_S: Final = 180 * 86_400
"""So long a browser is known in which somebody has signed in."""

SESSIONS_MOST: Final = 50
"""Of one person; who signs in once more ends the one that was not used for longest."""

_SEEN_EVERY_US: Final = 60_000_000
_AGENT_MAX: Final = 160


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """What a person is shown of a session; times are microseconds UTC."""

    id: str
    made_us: int
    seen_us: int
    address: str
    agent: str


class Sessions:
    """The table of sessions; any number of processes share it.

    Args:
        engine: The store's database.
        clock: Microseconds UTC.
    """

    def __init__(self, engine: Engine, clock: Callable[[], int]) -> None:
        self._engine = engine
        self._clock = clock

    def begin(self, name: str, address: str, agent: str, instead_of: str = "", as_of_us: int | None = None) -> str:
        """A new session; returns its secret, which is nowhere else.

        Args:
            name: Whose.
            address: Where the person sits.
            agent: What the browser calls itself.
            instead_of: The secret that the browser showed before; it ends, so that nobody can have planted it.
            as_of_us: Only while that is when the password was last set: it may change while one is checked.

        Raises:
            PeopleError: It was changed meanwhile, or the person disabled.
        """
        secret, now_us = new_secret(), self._clock()
        row = {"sha256": digest(secret), "id": new_id(), "person": name, "made_us": now_us, "seen_us": now_us}
        row |= {"address": address[:64], "agent": _printable(agent)}
        is_so = (people.c.name == name) & people.c.disabled_us.is_(None)
        if as_of_us is not None:
            is_so &= people.c.changed_us == as_of_us
        with transaction(self._engine) as connection:
            # First: whoever changes the password or disables the person waits for this row, and then ends us too.
            if not connection.execute(update(people).where(is_so).values(entered_us=now_us)).rowcount:
                raise PeopleError(f"{name} was changed meanwhile: sign in again")
            ended = or_(
                web_sessions.c.sha256 == digest(instead_of),
                web_sessions.c.made_us < now_us - LIFE_S * 1_000_000,
                web_sessions.c.seen_us < now_us - IDLE_S * 1_000_000,
            )
            connection.execute(delete(web_sessions).where(ended))
            connection.execute(insert(web_sessions).values(row))
            mine = select(web_sessions.c.sha256).where(web_sessions.c.person == name)
            spare = mine.order_by(web_sessions.c.seen_us.desc(), web_sessions.c.made_us.desc()).offset(SESSIONS_MOST)
            connection.execute(delete(web_sessions).where(web_sessions.c.sha256.in_(spare)))
        return secret

    def person(self, secret: str) -> Person | None:
        """Whose session it is, with the role of now; None = nobody's any more."""
        now_us = self._clock()
        columns = (web_sessions.c.id, web_sessions.c.made_us, web_sessions.c.seen_us, people.c.name, people.c.role)
        wanted = select(*columns).join(people, people.c.name == web_sessions.c.person)
        with self._engine.connect() as connection:
            row = connection.execute(
                wanted.where(web_sessions.c.sha256 == digest(secret), people.c.disabled_us.is_(None))
            ).first()
        if row is None or now_us - row.made_us > LIFE_S * 1_000_000 or now_us - row.seen_us > IDLE_S * 1_000_000:
            return None
        if now_us - row.seen_us > _SEEN_EVERY_US:
            # A full disk must keep nobody from seeing that it is full.
            with suppress(StoreWriteError), transaction(self._engine) as connection:
                connection.execute(
                    update(web_sessions).where(web_sessions.c.sha256 == digest(secret)).values(seen_us=now_us)
                )
        return Person(row.name, Role.of(row.role), session=row.id)

    def of(self, name: str) -> list[Session]:
        """A person's sessions that have not ended, the newest first."""
        now_us = self._clock()
        live = select(web_sessions).where(
            web_sessions.c.person == name,
            web_sessions.c.made_us >= now_us - LIFE_S * 1_000_000,
            web_sessions.c.seen_us >= now_us - IDLE_S * 1_000_000,
        )
        with self._engine.connect() as connection:
            rows = connection.execute(live.order_by(web_sessions.c.seen_us.desc(), web_sessions.c.id)).mappings()
            return [Session(**{field: row[field] for field in Session.__struct_fields__}) for row in rows]

    def end(self, name: str, session: str) -> bool:
        """Ends one session of a person's; whether there was one."""
        with transaction(self._engine) as connection:
            mine = (web_sessions.c.person == name) & (web_sessions.c.id == session)
            return bool(connection.execute(delete(web_sessions).where(mine)).rowcount)

    def end_all(self, name: str) -> int:
        """Ends every session of a person's, and lets go of the browsers that were known; returns how many."""
        with transaction(self._engine) as connection:
            connection.execute(delete(web_browsers).where(web_browsers.c.person == name))
            return connection.execute(delete(web_sessions).where(web_sessions.c.person == name)).rowcount

    # Browsers

    def knows(self, browser: str, name: str) -> bool:
        """Whether that person has signed in with this browser before."""
        since_us = self._clock() - BROWSER_S * 1_000_000
        wanted = select(web_browsers.c.sha256).where(
            web_browsers.c.sha256 == digest(browser), web_browsers.c.person == name, web_browsers.c.seen_us > since_us
        )
        with self._engine.connect() as connection:
            return connection.execute(wanted).first() is not None

    def remember(self, browser: str, name: str) -> str:
        """Knows a browser from now on; returns its new secret, which takes the place of the former."""
        secret, now_us = new_secret(), self._clock()
        old = or_(web_browsers.c.sha256 == digest(browser), web_browsers.c.seen_us < now_us - BROWSER_S * 1_000_000)
        with transaction(self._engine) as connection:
            connection.execute(delete(web_browsers).where(old))
            row = {"sha256": digest(secret), "person": name, "seen_us": now_us}
            connection.execute(insert(web_browsers).values(row))
        return secret


def _printable(text: str) -> str:
    return "".join(one if one.isprintable() else " " for one in text)[:_AGENT_MAX]
