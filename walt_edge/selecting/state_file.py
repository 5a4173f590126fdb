"""A small state that outlives restarts, and that the agent can do without: whatever is wrong with it, it goes on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from walt_edge.contract.files import write_whole

LOG = logging.getLogger(__name__)

State = TypeVar("State", bound=msgspec.Struct)


class StateFile(Generic[State]):
    """A JSON file that is there whole or not at all.

    Args:
        path: The file, in a folder that is there; None keeps nothing.
        kind: What it holds.
        is_sound: Whether a state that could be decoded is one that could have been written.
        what: What begins anew without it, as words of a warning.
    """

    def __init__(self, path: Path | None, kind: type[State], is_sound: Callable[[State], bool], what: str) -> None:
        self._path = path
        self._kind = kind
        self._is_sound = is_sound
        self._what = what
        self._is_warned = False

    def read(self) -> State | None:
        """What was written last; None, and a warning, if it is damaged or of another version."""
        if self._path is None:
            return None
        try:
            state = msgspec.json.decode(self._path.read_bytes(), type=self._kind)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            LOG.warning("%s cannot be read (%s): %s anew", self._path, error, self._what)
            return None
        if not self._is_sound(state):
            LOG.warning("%s holds no state of this version: %s anew", self._path, self._what)
            return None
        return state

    def write(self, state: State) -> bool:
        """Writes it; False, and a warning the first time, if the disk does not take it."""
        if self._path is None:
            return True
        try:
            write_whole(self._path, msgspec.json.encode(state))
        except OSError as error:
            if not self._is_warned:
                LOG.warning("cannot write %s (%s): after a restart %s anew", self._path, error, self._what)
            self._is_warned = True
            return False
        self._is_warned = False
        return True
