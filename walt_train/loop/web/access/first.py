"""The first admin: let in by a token that is printed where the dashboard was started, once."""

from __future__ import annotations

import threading

from walt_train.loop.web.access.people import Entry, People, PeopleError
from walt_train.loop.web.access.person import Role
from walt_train.loop.web.access.secret import is_same, new_secret


class WrongTokenError(PeopleError):
    """This is not the set-up token."""


class FirstAdmin:
    """Holds the set-up token in memory alone: it dies with its use and with the process.

    Args:
        people: Where the first admin goes.
    """

    def __init__(self, people: People) -> None:
        self._people = people
        self._lock = threading.Lock()
        self._token: str | None = None

    def offer(self) -> str | None:
        """The token, made now if it must be; None if there is somebody, so that none is needed."""
        with self._lock:
            if not self._people.is_empty():
                self._token = None
            elif self._token is None:
                self._token = new_secret()
            return self._token

    def is_open(self) -> bool:
        """Whether the first admin can still be made here."""
        return self.offer() is not None

    def enter(self, token: str, name: str, password: str) -> Entry:
        """Makes the first admin.

        Raises:
            WrongTokenError: The token is another.
            PeopleError, PasswordError: The name or password cannot be, or there is somebody.
        """
        offered = self.offer()
        if offered is None:
            raise PeopleError("the first admin is there already: sign in, or ask an admin to let you in")
        if not is_same(offered, token.strip()):
            raise WrongTokenError(
                "that is not the set-up token, which walt-loop web printed at its start; a restart prints another"
            )
        made = self._people.add(name, Role.ADMIN, password, first=True)
        with self._lock:
            self._token = None
        return made
