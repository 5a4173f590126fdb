"""When a simulated device sends again: the rules of the real one's uplink, held to it by a contract test.

At most `window` crops are without home's answer. One whose time is up goes out again from its own slot; if home
answered others meanwhile, it is that crop that has a problem: it gives its slot to the next and waits outside.
"""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Times:
    """A device's times and limits; the defaults are the real uplink's.

    Attributes:
        window: Crops without home's answer at any time.
        ack_timeout_s: How long to wait for one before sending again; doubles with each try of a crop.
        ack_timeout_cap_s: Where the doubling ends.
        unheard_s: How soon to send again what the broker says nobody listened to; doubles up to `ack_timeout_s`.
        reconnect_min_s: Pause before the second attempt to connect; doubles, jittered.
        reconnect_max_s: Where that doubling ends.
        connect_timeout_s: How long an attempt may take.
        keepalive_s: MQTT keep-alive.
        telemetry_s: Mean pause between two telemetry messages; jittered by a quarter.
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
    telemetry_s: float = 60.0
    telemetry_expiry_s: int = 120

    @property
    def tick_s(self) -> float:
        """How often a device looks at its clock."""
        return min(0.5, self.ack_timeout_s / 4, self.unheard_s / 2)


@dataclass(slots=True)
class Flight:
    """One crop on its way.

    Attributes:
        number: The device's own count of its crops.
        first_sent_s: When it was published first.
        sent_s: When it was published last.
        due_s: When its time is up.
        tries: Publishes so far that somebody may have heard.
        misses: Publishes that nobody heard.
        parked: Whether it waits outside the window.
        aboard: Whether it was sent on this connection and waits for an answer.
    """

    number: int
    first_sent_s: float
    sent_s: float = 0.0
    due_s: float = 0.0
    tries: int = 0
    misses: int = 0
    parked: bool = False
    aboard: bool = False


class Window:
    """What is on its way, by id. Time comes from outside."""

    def __init__(self, times: Times, chance: random.Random) -> None:
        self._times = times
        self._chance = chance
        self._heard_s = float("-inf")
        self._by_id: dict[str, Flight] = {}
        self._by_number: dict[int, Flight] = {}
        self._aboard = 0

    @property
    def room(self) -> int:
        """How many more may be sent now."""
        return self._times.window - self._aboard

    @property
    def extent(self) -> int:
        """How many crops were sent and not answered, on this connection or an older one."""
        return len(self._by_number)

    def waits(self, number: int) -> bool:
        """Whether this crop must not be sent now: it is on its way, or waits outside."""
        flight = self._by_number.get(number)
        return flight is not None and (flight.aboard or flight.parked)

    def sent(self, id_: str, number: int, now_s: float) -> bool:
        """Notes that a crop was published; True if it had been before."""
        flight = self._by_number.get(number)
        again = flight is not None
        if flight is None:
            flight = self._by_id[id_] = self._by_number[number] = Flight(number, now_s)
        flight.due_s = now_s + self._patience(flight.tries)
        flight.tries += 1
        flight.sent_s, flight.aboard = now_s, True
        self._aboard += 1
        return again

    def unheard(self, id_: str, now_s: float) -> None:
        """The broker had nobody to give it to: home is not there yet, so this was no try."""
        flight = self._by_id.get(id_)
        if flight is not None and flight.aboard:
            soon_s = min(self._times.unheard_s * 2.0 ** min(flight.misses, 30), self._times.ack_timeout_s)
            flight.misses += 1
            flight.tries = 0
            flight.due_s = now_s + soon_s * self._chance.uniform(0.75, 1.25)

    def settled(self, id_: str, now_s: float) -> Flight | None:
        """Home has spoken; gives what was known of the crop, None if nothing was."""
        self._heard_s = now_s
        flight = self._by_id.pop(id_, None)
        if flight is not None:
            del self._by_number[flight.number]
            self._aboard -= flight.aboard
        return flight

    def expire(self, now_s: float) -> None:
        """Lets those whose time is up be sent again."""
        for flight in self._by_id.values():
            if not (flight.aboard or flight.parked) or flight.due_s > now_s:
                continue
            if flight.aboard:
                flight.aboard = False
                self._aboard -= 1
                flight.parked = flight.tries > 0 and self._heard_s > flight.sent_s
                if flight.parked:
                    flight.due_s = now_s + self._patience(flight.tries)
            else:
                flight.parked = False

    def reset(self) -> None:
        """A new connection: answers on their way to the old one are lost, so everything is due."""
        for flight in self._by_id.values():
            flight.aboard = flight.parked = False
        self._aboard = 0

    def _patience(self, tries: int) -> float:
        doubled_s = min(self._times.ack_timeout_s * 2.0 ** min(tries, 30), self._times.ack_timeout_cap_s)
        return doubled_s * self._chance.uniform(0.75, 1.25)
