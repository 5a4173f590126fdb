"""What the simulated devices have promised to bring home, and what home has said of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from walt_edge.contract.messages import AckState


@dataclass(slots=True)
class Ledger:
    """The books of a whole fleet: accepted = acked + rejected + pending, always.

    Attributes:
        accepted: Crops that devices took into their care.
        states: First answers of home, by what it said.
        settled: Home's first answer, by the crop's id (32 bytes).
        stored_twice: Crops that home said twice it had newly stored.
        repeated: Further answers of home to what was settled: resends that met, and are no fault.
        unknown: Answers of home to what was never sent.
        malformed: What came as an answer and was none.
        sent: Publishes of crops, resends among them.
        resent: Of these, not the first of their crop.
        unheard: Publishes that the broker said nobody listened to.
        refused: Publishes that the broker refused.
        latencies_s: From a crop's first publish to home's answer.
    """

    accepted: int = 0
    states: Counter[AckState] = field(default_factory=Counter)
    settled: dict[bytes, AckState] = field(default_factory=dict)
    stored_twice: int = 0
    repeated: int = 0
    unknown: int = 0
    malformed: int = 0
    sent: int = 0
    resent: int = 0
    unheard: int = 0
    refused: int = 0
    latencies_s: list[float] = field(default_factory=list)
    _first_sent_s: float = float("inf")
    _last_answer_s: float = 0.0

    @property
    def acked(self) -> int:
        """What home has."""
        return self.states[AckState.STORED] + self.states[AckState.DUPLICATE]

    @property
    def rejected(self) -> int:
        """What home has refused for good."""
        return self.states[AckState.REJECTED]

    @property
    def pending(self) -> int:
        """What home has not spoken about yet."""
        return self.accepted - self.acked - self.rejected

    @property
    def span_s(self) -> float:
        """From the first publish to the last answer; 0 before that."""
        return max(0.0, self._last_answer_s - self._first_sent_s)

    def note_sent(self, again: bool, now_s: float) -> None:
        """A crop was published."""
        self.sent += 1
        self.resent += again
        self._first_sent_s = min(self._first_sent_s, now_s)

    def settle(self, sha256: str, state: AckState, sent_s: float, now_s: float) -> None:
        """Home's first answer to a crop, which was published first at `sent_s`."""
        self.states[state] += 1
        self.settled[bytes.fromhex(sha256)] = state
        self.latencies_s.append(now_s - sent_s)
        self._last_answer_s = now_s

    def again(self, sha256: str, state: AckState) -> None:
        """An answer to what does not wait for one."""
        first = self.settled.get(bytes.fromhex(sha256))
        if first is None:
            self.unknown += 1
        elif first is state is AckState.STORED:
            self.stored_twice += 1
        else:
            self.repeated += 1
