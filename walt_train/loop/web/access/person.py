"""Who asks, and how much that one may do."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Role(enum.IntEnum):
    """What somebody may do; each may do what those below may."""

    VIEWER = 1
    OPERATOR = 2
    ADMIN = 3

    @property
    def word(self) -> str:
        """As it is stored and shown."""
        return self.name.lower()

    @classmethod
    def of(cls, word: str) -> Role:
        """The role of that word; raises ValueError."""
        try:
            return cls[word.upper()]
        except KeyError:
            raise ValueError(f"'{word}' is no role: give viewer, operator or admin") from None


@dataclass(frozen=True, slots=True)
class Person:
    """Who asks: a person with a session, or a program with a person's token.

    Attributes:
        name: Of the person.
        role: What may be done now; of a token never more than its owner may.
        session: The session's public id; "" for a token.
        token: The token's id; "" for a session.
    """

    name: str
    role: Role
    session: str = ""
    token: str = ""

    @property
    def title(self) -> str:
        """How it is written down: a token is told from its owner."""
        return f"{self.name} (token {self.token})" if self.token else self.name
