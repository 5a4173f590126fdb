"""Tokens for programs: what one may do is said when it is made, and never more than its owner may."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final

import msgspec
from sqlalchemy import Engine, func, insert, select, update

from walt_edge.contract.errors import WaltError
from walt_train.loop.store.database import transaction
from walt_train.loop.store.errors import StoreWriteError
from walt_train.loop.web.access.person import Person, Role
from walt_train.loop.web.access.secret import digest, is_same, new_id, new_secret
from walt_train.loop.web.access.tables import people, web_tokens

SCOPES: Final = {"read": Role.VIEWER, "operate": Role.OPERATOR, "admin": Role.ADMIN}
"""What a token may do, as the role that it has at most."""

DAYS_MAX: Final = 366
LIVE_MAX: Final = 50
_PREFIX: Final = "walt"
_USED_EVERY_US: Final = 60_000_000


class TokenError(WaltError):
    """There can be no such token; the text says what to do."""


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """What is shown of a token; times are microseconds UTC."""

    id: str
    person: str
    label: str
    scope: str
    made_us: int
    expires_us: int
    used_us: int | None
    revoked_us: int | None


class Tokens:
    """The table of tokens; any number of processes share it.

    Args:
        engine: The store's database.
        clock: Microseconds UTC.
    """

    def __init__(self, engine: Engine, clock: Callable[[], int]) -> None:
        self._engine = engine
        self._clock = clock

    def make(self, owner: Person, label: str, scope: str, days: int) -> str:
        """Makes a token and returns it; it is nowhere else.

        Args:
            owner: Whose; it may never do more.
            label: What it is for, 1..64 characters.
            scope: `read`, `operate` or `admin`.
            days: How long it lasts, 1..366.

        Raises:
            TokenError: It cannot be.
        """
        self._check(owner, label, scope, days)
        token, secret, now_us = new_id(), new_secret(), self._clock()
        row = {"id": token, "sha256": digest(secret), "person": owner.name, "label": label.strip(), "scope": scope}
        with transaction(self._engine) as connection:
            live = (web_tokens.c.revoked_us.is_(None)) & (web_tokens.c.expires_us > now_us)
            mine = select(func.count()).where(web_tokens.c.person == owner.name, live)
            if (connection.scalar(mine) or 0) >= LIVE_MAX:
                raise TokenError(f"{owner.name} has {LIVE_MAX} tokens: revoke those that nobody uses first")
            times = {"made_us": now_us, "expires_us": now_us + days * 86_400_000_000}
            connection.execute(insert(web_tokens).values(row | times))
        return f"{_PREFIX}_{token}_{secret}"

    def person(self, shown: str) -> Person | None:
        """Who comes with that token, with the role of now; None = nobody."""
        prefix, _, rest = shown.partition("_")
        token, _, secret = rest.partition("_")
        now_us = self._clock()
        wanted = select(web_tokens, people.c.role).join(people, people.c.name == web_tokens.c.person)
        live = (web_tokens.c.revoked_us.is_(None)) & (web_tokens.c.expires_us > now_us)
        with self._engine.connect() as connection:
            row = connection.execute(
                wanted.where(web_tokens.c.id == token[:16], live, people.c.disabled_us.is_(None))
            ).first()
        if row is None or prefix != _PREFIX or not is_same(row.sha256, digest(secret)):
            return None
        if row.used_us is None or now_us - row.used_us > _USED_EVERY_US:
            # A full disk must keep nobody from seeing that it is full.
            with suppress(StoreWriteError), transaction(self._engine) as connection:
                connection.execute(update(web_tokens).where(web_tokens.c.id == row.id).values(used_us=now_us))
        return Person(row.person, min(SCOPES[row.scope], Role.of(row.role)), token=row.id)

    def of(self, name: str) -> list[Token]:
        """A person's tokens that are neither revoked nor expired, the newest first."""
        live = (web_tokens.c.revoked_us.is_(None)) & (web_tokens.c.expires_us > self._clock())
        wanted = select(web_tokens).where(web_tokens.c.person == name, live)
        with self._engine.connect() as connection:
            rows = connection.execute(wanted.order_by(web_tokens.c.made_us.desc(), web_tokens.c.id)).mappings()
            return [Token(**{field: row[field] for field in Token.__struct_fields__}) for row in rows]

    def revoke(self, name: str, token: str) -> bool:
        """Ends one token of a person's; whether there was one."""
        live = (web_tokens.c.person == name) & (web_tokens.c.id == token) & web_tokens.c.revoked_us.is_(None)
        with transaction(self._engine) as connection:
            return bool(connection.execute(update(web_tokens).where(live).values(revoked_us=self._clock())).rowcount)

    def _check(self, owner: Person, label: str, scope: str, days: int) -> None:
        if not 1 <= len(label.strip()) <= 64 or not label.isprintable():
            raise TokenError("say what the token is for, in 1 to 64 characters")
        if scope not in SCOPES:
            raise TokenError(f"'{scope[:20]}' is no scope: give {', '.join(SCOPES)}")
        if SCOPES[scope] > owner.role:
            raise TokenError(f"{owner.name} is {owner.role.word}: a token may not do more than its owner")
        if not 1 <= days <= DAYS_MAX:
            raise TokenError(f"a token lasts 1 to {DAYS_MAX} days, not {days}")
