"""Passwords: what may be one, and Argon2id, which makes guessing dear.

Whether a name is known costs the same time as a wrong password, and only so many are computed at once: each takes
64 MiB while it lasts.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from walt_edge.contract.errors import WaltError

LEAST: Final = 12
MOST: Final = 256
_AT_ONCE: Final = 4
# More wait in line for their turn, and no more: each holds a thread that could serve a page.
_IN_LINE: Final = 12
# What people take where twelve characters are asked for; anything built on them is no better.
_COMMON: Final = (files("walt_train.loop.web.access") / "common.txt").read_text("utf-8").split()
_RUNS: Final = (
    "01234567890123456789",
    "98765432109876543210",
    "abcdefghijklmnopqrstuvwxyz",
    "qwertyuiopasdfghjklzxcvbnm",
)


class PasswordError(WaltError):
    """This cannot be a password; the text says what to do."""


class BusyError(WaltError):
    """Too many passwords are to be looked at at once."""


class Passwords:
    """Hashes and checks.

    Args:
        time_cost: Passes over the memory.
        memory_kib: Memory of one hash, KiB.
    """

    def __init__(self, time_cost: int = 3, memory_kib: int = 65_536) -> None:
        self._hasher = PasswordHasher(time_cost=time_cost, memory_cost=memory_kib, parallelism=1)
        self._line = threading.BoundedSemaphore(_AT_ONCE + _IN_LINE)
        self._room = threading.BoundedSemaphore(_AT_ONCE)
        # Checked where there is none, so that an unknown name costs what a known one does.
        self._nobody = self._hasher.hash("nobody's password")

    def hash(self, password: str) -> str:
        """What is stored of a password; raises BusyError."""
        with self._turn():
            return self._hasher.hash(password)

    def is_right(self, stored: str, password: str) -> bool:
        """Whether it is the password; `stored` is "" for whom there is none, which takes as long.

        Raises:
            BusyError: Too many ask.
        """
        # Longer ones were never taken, and hashing megabytes is work for nothing.
        asked = password[: MOST + 1]
        with self._turn():
            try:
                return self._hasher.verify(stored or self._nobody, asked) and bool(stored)
            except (VerificationError, InvalidHashError):
                return False

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._line.acquire(blocking=False):
            raise BusyError("too many people sign in at once: try again in a moment")
        try:
            with self._room:
                yield
        finally:
            self._line.release()

    def is_dated(self, stored: str) -> bool:
        """Whether it was hashed with other costs than those of today."""
        return self._hasher.check_needs_rehash(stored)


def check_password(password: str, name: str) -> str:
    """A password that may be one of `name`.

    Raises:
        PasswordError: It is too short, too long, or among the first that are guessed.
    """
    if len(password) < LEAST:
        raise PasswordError(f"a password has at least {LEAST} characters: four random words are easy to keep in mind")
    if len(password) > MOST:
        raise PasswordError(f"a password has at most {MOST} characters")
    if "\0" in password:
        raise PasswordError("a password holds no zero byte")
    if len(set(password)) < 5:
        raise PasswordError("this repeats a few characters: take four random words")
    if _left_of(password, name) < LEAST // 2:
        raise PasswordError(
            "this is built on the name, a common password or a row of keys, which are guessed first: take four "
            "random words"
        )
    return password


def _left_of(password: str, name: str) -> int:
    """How many characters are left without the name, common words and rows of keys."""
    left = password.casefold()
    for word in sorted({name.casefold(), *_COMMON}, key=len, reverse=True):
        if len(word) > 2:
            left = left.replace(word, "")
    for run in _RUNS:
        for length in range(len(run), 3, -1):
            for start in range(len(run) - length + 1):
                left = left.replace(run[start : start + length], "")
    return len(left)
