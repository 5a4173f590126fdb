"""One connection that hears what devices tell of themselves: subscribed, bounded, and gone for good when it is lost.

Nothing here needs a session at the broker: what devices retain comes anew with every subscription, and telemetry is
of the moment. What the watch does not take in time is counted as lost, not piled up.
"""

from __future__ import annotations

import queue
import time
from dataclasses import dataclass
from typing import Final

import paho.mqtt.client as mqtt

from walt_edge.contract.telemetry import MAX_TELEMETRY_BYTES
from walt_edge.contract.topics import TOLD
from walt_train.loop.broker.connection import BrokerConfig, Connection, topic_of

# Topic and properties on top of the largest message; the broker keeps what is larger to itself.
_MAX_PACKET_BYTES: Final = MAX_TELEMETRY_BYTES + 4096
_WAITING_MOST: Final = 20_000


@dataclass(frozen=True, slots=True)
class Spoken:
    """A message as it came; `received_us` is home's clock."""

    topic: str
    payload: bytes
    received_us: int


class Ear:
    """A subscribed connection.

    Args:
        config: How to reach the broker; of its session settings only the client's id is used.

    Attributes:
        lost: Messages that came while too many waited.

    Raises:
        BrokerError: Not reachable, or refused.
    """

    def __init__(self, config: BrokerConfig) -> None:
        self._inbox: queue.Queue[Spoken] = queue.Queue(_WAITING_MOST)
        self.lost = 0
        self._line = Connection(config, TOLD, {"MaximumPacketSize": _MAX_PACKET_BYTES}, self._on_message)

    @property
    def alive(self) -> bool:
        """Whether the connection stands."""
        return self._line.alive

    @property
    def why(self) -> str:
        """What ended the connection, in a few words."""
        return self._line.why

    def hear(self, timeout_s: float) -> Spoken | None:
        """The next message; None if there is none within the time."""
        try:
            return self._inbox.get(timeout=timeout_s) if timeout_s > 0 else self._inbox.get_nowait()
        except queue.Empty:
            return None

    def close(self) -> None:
        """Says goodbye."""
        self._line.close()

    def _on_message(self, message: mqtt.MQTTMessage) -> None:
        try:
            self._inbox.put_nowait(Spoken(topic_of(message), bytes(message.payload), time.time_ns() // 1000))
        except queue.Full:
            self.lost += 1
