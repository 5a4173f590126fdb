"""A changed configuration while the agent runs: what can change at once does, what cannot is named, nothing breaks.

SIGHUP, and with `--watch-config` a changed file, ask for it. Only a person with access to the device can: nothing
that comes by network changes the configuration; privacy, URLs, credentials and trust roots stay what they are.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel

from walt_edge.contract.errors import UsageError
from walt_edge.settings.sources import Sources
from walt_edge.settings.tree import AgentConfig

LOG = logging.getLogger(__name__)

HOT: Final = (
    "log",
    "selection.track_kb",
    "selection.hour_mb",
    "selection.day_mb",
    "frames.day_mb",
    "inference.max_fps",
    "inference.gate",
    "inference.cpu_budget",
    "telemetry_s",
    "drain_s",
    "web.token",
    "web.token_file",
)
"""Keys, or sections of keys, that take effect without a restart."""

_LOOK_S = 2.0


@dataclass(frozen=True, slots=True)
class Changes:
    """What differs between two configurations, dotted keys in the order of the tree.

    Attributes:
        hot: Takes effect at once.
        cold: Takes effect at the next start.
    """

    hot: tuple[str, ...]
    cold: tuple[str, ...]

    def touches(self, section: str) -> bool:
        """Whether something hot changed in a section, or at a key."""
        return any(_is_below(key, section) for key in self.hot)


@dataclass(frozen=True, slots=True)
class Reloaded:
    """A configuration in which everything hot is new and everything cold is as at the start."""

    config: AgentConfig
    changes: Changes


def changes(old: AgentConfig, new: AgentConfig) -> Changes:
    """What differs, sorted by whether it needs a restart."""
    before, after = dict(_leaves(old, "")), dict(_leaves(new, ""))
    keys = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    return Changes(
        hot=tuple(key for key in keys if _is_hot(key)), cold=tuple(key for key in keys if not _is_hot(key))
    )


def taken_over(old: AgentConfig, new: AgentConfig) -> AgentConfig:
    """The old configuration with everything hot of the new one."""
    blended: AgentConfig = _blend(old, new, "")
    return blended


class Reloader:
    """Reads the configuration anew when it is asked to; the agent's loop polls it.

    Args:
        sources: Where it is read from.
        config: What runs now.
        watch: Whether a changed file asks too.
    """

    def __init__(self, sources: Sources, config: AgentConfig, *, watch: bool = False) -> None:
        self.config = config
        self._sources = sources
        self._file = sources.file if watch else None
        self._stamp = self._stamped()
        self._token = _token(config)
        self._asked = threading.Event()
        self._look_at_s = time.monotonic() + _LOOK_S

    def request(self) -> None:
        """Asks for a reload at the next poll; harmless in a signal handler."""
        self._asked.set()

    def poll(self) -> Reloaded | None:
        """What changed, if a reload was asked for and something hot did; costs nothing otherwise.

        A configuration that is wrong is told and left: the old one stays.
        """
        if not self._asked.is_set() and not self._file_changed():
            return None
        self._asked.clear()
        try:
            found = self._sources.load()
            token = _token(found)
        except UsageError as error:
            LOG.error("the configuration stays as it was: %s", error)
            return None
        return self._take(found, token)

    def _take(self, found: AgentConfig, token: str | None) -> Reloaded | None:
        differing = changes(self.config, found)
        if token != self._token and not differing.touches("web"):
            differing = Changes((*differing.hot, "web.token_file"), differing.cold)
        self.config, self._token = taken_over(self.config, found), token
        if differing.cold:
            LOG.warning("changed, and needs a restart: %s", ", ".join(differing.cold))
        if not differing.hot:
            LOG.info("nothing that is in effect changed in the configuration")
            return None
        LOG.info("changed: %s", ", ".join(differing.hot))
        return Reloaded(self.config, differing)

    def _file_changed(self) -> bool:
        now_s = time.monotonic()
        if self._file is None or now_s < self._look_at_s:
            return False
        self._look_at_s = now_s + _LOOK_S
        before, self._stamp = self._stamp, self._stamped()
        return self._stamp != before

    def _stamped(self) -> tuple[int, int, int] | None:
        try:
            stat = self._file.stat() if self._file else None
        except OSError:
            return None
        return None if stat is None else (stat.st_mtime_ns, stat.st_ino, stat.st_size)


def _token(config: AgentConfig) -> str | None:
    return config.web.secret() if config.web.enabled else None


def _is_hot(key: str) -> bool:
    return any(_is_below(key, hot) for hot in HOT)


def _is_below(key: str, section: str) -> bool:
    return key == section or key.startswith(f"{section}.")


def _leaves(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Every key and its value; values that hide themselves compare by what they hide."""
    if isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _leaves(getattr(value, name), f"{key}.{name}" if key else name)
    elif isinstance(value, tuple):
        for index, element in enumerate(value):
            yield from _leaves(element, f"{key}.{index}")
    else:
        yield key, value


def _blend(old: Any, new: Any, key: str) -> Any:
    if _is_hot(key):
        return new
    if not isinstance(old, BaseModel):
        return old
    names = type(old).model_fields
    return old.model_copy(
        update={
            name: _blend(getattr(old, name), getattr(new, name), f"{key}.{name}" if key else name) for name in names
        }
    )
