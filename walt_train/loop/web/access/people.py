"""The people who may sign in; at least one of them stays an admin.

Nobody is deleted: a name in the record must go on to mean the person that it meant. Who leaves is disabled.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Engine, RowMapping, delete, func, insert, select, text, update
from sqlalchemy.exc import IntegrityError

from walt_edge.contract.errors import WaltError
from walt_train.loop.store.database import transaction
from walt_train.loop.web.access.passwords import Passwords, check_password
from walt_train.loop.web.access.person import Role
from walt_train.loop.web.access.tables import people, web_browsers, web_sessions, web_tokens

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")


class PeopleError(WaltError):
    """This cannot be done to that person; the text says why, and what to do instead."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A person who may sign in; times are microseconds UTC.

    Attributes:
        name: Lower case.
        role: What the person may do.
        made_us: Since when.
        changed_us: When the password was last set.
        disabled_us: Since when the person may not sign in any more; None = may.
        entered_us: The last sign-in, if any.
    """

    name: str
    role: Role
    made_us: int
    changed_us: int
    disabled_us: int | None
    entered_us: int | None


def check_name(name: str) -> str:
    """A person's name, in lower case; raises PeopleError."""
    found = name.strip().lower()
    if not _NAME.fullmatch(found):
        raise PeopleError(
            f"{name[:70]!r} cannot be a name: at most 64 of a-z, 0-9, '.', '_', '@', '-', a letter or digit first"
        )
    return found


class People:
    """The table of people; any number of processes share it.

    Args:
        engine: The store's database.
        passwords: Hashes and checks.
        clock: Microseconds UTC.
    """

    def __init__(self, engine: Engine, passwords: Passwords, clock: Callable[[], int]) -> None:
        self._engine = engine
        self._passwords = passwords
        self._clock = clock

    def all(self) -> list[Entry]:
        """Everybody, by name."""
        with self._engine.connect() as connection:
            return [_entry(row) for row in connection.execute(select(people).order_by(people.c.name)).mappings()]

    def read(self, name: str) -> Entry:
        """One person; raises PeopleError."""
        with self._engine.connect() as connection:
            return _entry(_row(connection, name))

    def is_empty(self) -> bool:
        """Whether there is nobody yet."""
        with self._engine.connect() as connection:
            return not connection.scalar(select(func.count()).select_from(people))

    def add(self, name: str, role: Role, password: str, *, first: bool = False) -> Entry:
        """Lets somebody in.

        Args:
            name: A name that nobody has or had.
            role: What the person may do.
            password: What the person signs in with.
            first: Only if there is nobody yet.

        Raises:
            PeopleError, PasswordError: The name is taken or the password too weak, or there is somebody.
        """
        name = check_name(name)
        hashed = self._passwords.hash(check_password(password, name))
        now_us = self._clock()
        row = {"name": name, "role": role.word, "password": hashed, "made_us": now_us, "changed_us": now_us}
        try:
            with transaction(self._engine) as connection:
                _alone(connection)
                if first and connection.scalar(select(func.count()).select_from(people)):
                    raise PeopleError("the first admin is there already: sign in, or ask an admin to let you in")
                connection.execute(insert(people).values(row))
        except IntegrityError as error:
            raise PeopleError(f"there is a {name} already: take another name, or set that one's password") from error
        return self.read(name)

    def enter(self, name: str, password: str) -> Entry | None:
        """Who signs in with that password; None = nobody. Wrong, unknown and disabled take the same time."""
        row = self._known(name.strip().lower())
        stored = row["password"] if row is not None and row["disabled_us"] is None else ""
        if not self._passwords.is_right(stored, password) or row is None:
            return None
        if self._passwords.is_dated(stored):
            # Not if it was changed meanwhile: an old password would come back.
            same = (people.c.name == row["name"]) & (people.c.password == stored)
            hashed = self._passwords.hash(password)
            with transaction(self._engine) as connection:
                connection.execute(update(people).where(same).values(password=hashed))
        return _entry(row)

    def _known(self, name: str) -> RowMapping | None:
        if not _NAME.fullmatch(name):
            return None  # Not asked for: some databases take no zero bytes.
        with self._engine.connect() as connection:
            return connection.execute(select(people).where(people.c.name == name)).mappings().first()

    def set_password(self, name: str, password: str) -> None:
        """Sets a password and ends every session of the person's; raises PeopleError or PasswordError."""
        hashed = self._passwords.hash(check_password(password, name))
        with transaction(self._engine) as connection:
            _row(connection, name)
            values = {"password": hashed, "changed_us": self._clock()}
            connection.execute(update(people).where(people.c.name == name).values(values))
            _forget_sessions(connection, name)

    def set_role(self, name: str, role: Role) -> None:
        """Changes what a person may do; raises PeopleError if nobody would be left who manages people."""
        with transaction(self._engine) as connection:
            _alone(connection)
            _row(connection, name)
            if role is not Role.ADMIN:
                _keep_an_admin(connection, name)
            connection.execute(update(people).where(people.c.name == name).values(role=role.word))

    def disable(self, name: str) -> None:
        """Locks a person out: sessions end, tokens are revoked; raises PeopleError for the last admin."""
        now_us = self._clock()
        with transaction(self._engine) as connection:
            _alone(connection)
            _row(connection, name)
            _keep_an_admin(connection, name)
            connection.execute(update(people).where(people.c.name == name).values(disabled_us=now_us))
            _forget_sessions(connection, name)
            live = (web_tokens.c.person == name) & web_tokens.c.revoked_us.is_(None)
            connection.execute(update(web_tokens).where(live).values(revoked_us=now_us))

    def enable(self, name: str) -> None:
        """Lets a person in again, with the same password; raises PeopleError."""
        with transaction(self._engine) as connection:
            _row(connection, name)
            connection.execute(update(people).where(people.c.name == name).values(disabled_us=None))


def _entry(row: RowMapping) -> Entry:
    values: dict[str, Any] = {name: row[name] for name in Entry.__struct_fields__}
    return Entry(**(values | {"role": Role.of(row["role"])}))


def _row(connection: Connection, name: str) -> RowMapping:
    found = connection.execute(select(people).where(people.c.name == name)).mappings().first()
    if found is None:
        raise PeopleError(f"there is no {name[:70]!r}: walt-loop users lists who there is")
    return found


def _alone(connection: Connection) -> None:
    """Nobody else changes people until this transaction ends; on SQLite that is so anyway."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("LOCK TABLE people IN SHARE ROW EXCLUSIVE MODE"))


def _keep_an_admin(connection: Connection, name: str) -> None:
    others = select(func.count()).where(
        people.c.name != name, people.c.role == Role.ADMIN.word, people.c.disabled_us.is_(None)
    )
    if not connection.scalar(others):
        raise PeopleError(f"{name} is the last admin: make somebody else an admin first")


def _forget_sessions(connection: Connection, name: str) -> None:
    for table in (web_sessions, web_browsers):
        connection.execute(delete(table).where(table.c.person == name))
