"""Everything that access keeps in the database, in one hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Engine

from walt_train.loop.web.access.attempts import Attempts
from walt_train.loop.web.access.passwords import Passwords
from walt_train.loop.web.access.people import People
from walt_train.loop.web.access.sessions import Sessions
from walt_train.loop.web.access.tokens import Tokens
from walt_train.loop.web.access.trail import Trail


@dataclass(frozen=True, slots=True)
class Access:
    """People, their sessions and tokens, who guesses, and the record of what was done."""

    people: People
    sessions: Sessions
    tokens: Tokens
    attempts: Attempts
    trail: Trail

    @classmethod
    def on(cls, engine: Engine, clock: Callable[[], int], passwords: Passwords | None = None) -> Access:
        """All of it on one database."""
        return cls(
            people=People(engine, passwords or Passwords(), clock),
            sessions=Sessions(engine, clock),
            tokens=Tokens(engine, clock),
            attempts=Attempts(engine, clock),
            trail=Trail(engine, clock),
        )
