"""When to send an envelope again: bookkeeping without clocks or sockets."""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class UplinkSettings:
    """Times and limits of the uplink.

    Attributes:
        window: Envelopes without home's acknowledgement at any time.
        ack_timeout_s: How long to wait for one before sending again; doubles with each try of an envelope.
        ack_timeout_cap_s: Where the doubling ends.
        unheard_s: How soon to send again what the broker says nobody listened to; doubles up to `ack_timeout_s`.
        reconnect_min_s: Pause before the second attempt to connect; doubles, jittered.
        reconnect_max_s: Where that doubling ends.
        connect_timeout_s: How long an attempt may take.
        keepalive_s: MQTT keep-alive: a silent broker is given up after one and a half of it.
        telemetry_expiry_s: After this a telemetry message that waits somewhere is worth nothing.
    """

    window: int = 16
    ack_timeout_s: float = 60.0
    ack_timeout_cap_s: float = 3600.0
    unheard_s: float = 2.0
    reconnect_min_s: float = 1.0
    reconnect_max_s: float = 300.0
    connect_timeout_s: float = 10.0
    keepalive_s: int = 30
    telemetry_expiry_s: int = 120


class Window:
    """Which envelopes are on their way, and when to send one again. Pure bookkeeping: time comes from outside.

    An envelope whose time is up is sent again from its own slot, since home may be away. If home acknowledged
    others meanwhile, it is this envelope that has a problem: it gives its slot to the next and waits outside.

    Args:
        size: Envelopes without home's acknowledgement at any time.
        timeout_s: How long to wait for one, at first; doubles with each try.
        cap_s: Where the doubling ends.
        chance: Source of jitter.
        unheard_s: How soon to send again what the broker says nobody listened to; doubles up to `timeout_s`.
    """

    def __init__(
        self, size: int, timeout_s: float, cap_s: float, chance: random.Random, unheard_s: float = 2.0
    ) -> None:
        self._size = size
        self._timeout_s = timeout_s
        self._cap_s = cap_s
        self._chance = chance
        self._unheard_s = unheard_s
        self._tries: dict[str, int] = {}
        self._misses: dict[str, int] = {}
        self._sent_at: dict[str, float] = {}
        self._due_at: dict[str, float] = {}
        self._parked_until: dict[str, float] = {}
        self._heard_at = float("-inf")

    @property
    def room(self) -> int:
        """How many more may be sent now."""
        return self._size - len(self._due_at)

    @property
    def known(self) -> Collection[str]:
        """Ids that must not be sent now: on their way, or parked."""
        return self._due_at.keys() | self._parked_until.keys()

    @property
    def next_due(self) -> float:
        """When `expire` will have something to do; infinity if nothing waits."""
        return min((*self._due_at.values(), *self._parked_until.values()), default=float("inf"))

    def sent(self, id_: str, now: float) -> bool:
        """Notes that an envelope was sent; True if it had been sent before."""
        tries = self._tries.get(id_, 0)
        self._tries[id_] = tries + 1
        self._sent_at[id_] = now
        self._due_at[id_] = now + self._patience(tries)
        return tries > 0

    def unheard(self, id_: str, now: float) -> None:
        """The broker had nobody to give it to: home is not there yet, so this was no try."""
        if id_ in self._due_at:
            misses = self._misses.get(id_, 0)
            self._misses[id_] = misses + 1
            self._tries[id_] = 0
            soon = min(self._unheard_s * 2.0 ** min(misses, 30), self._timeout_s)
            self._due_at[id_] = now + soon * self._chance.uniform(0.75, 1.25)

    def settled(self, id_: str, now: float) -> None:
        """Home has spoken about this one."""
        self._heard_at = now
        for table in (self._tries, self._misses, self._sent_at, self._due_at, self._parked_until):
            table.pop(id_, None)

    def expire(self, now: float) -> None:
        """Lets those whose time is up be sent again."""
        for id_ in [id_ for id_, due in self._due_at.items() if due <= now]:
            del self._due_at[id_]
            # What nobody listened to has no problem of its own: home was away, and is back.
            if self._tries[id_] > 0 and self._heard_at > self._sent_at[id_]:
                self._parked_until[id_] = now + self._patience(self._tries[id_])
        for id_ in [id_ for id_, until in self._parked_until.items() if until <= now]:
            del self._parked_until[id_]

    def reset(self) -> None:
        """A new connection: acknowledgements on their way to the old one are lost, so everything is due."""
        self._due_at.clear()
        self._parked_until.clear()

    def _patience(self, tries: int) -> float:
        doubled = min(self._timeout_s * 2.0 ** min(tries, 30), self._cap_s)
        return doubled * self._chance.uniform(0.75, 1.25)
