"""How much a device may send: token buckets, in memory, so that a flood costs neither a query nor a byte on disk.

Several workers share a device's messages (the broker deals them out in turn), so each of them grants its share.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

# The agent's own budget is 40 MB of crops an hour and 400 MB a day for a camera. Home takes three times the hour's in
# the long run, so that several cameras send as they like and one that was away for a month catches up in days.
BYTES_AN_HOUR: Final = 120e6
# Crops are 8 kB and more: smaller ones are counted rather than weighed.
MESSAGES_AN_HOUR: Final = 15_000.0
BURST_HOURS: Final = 4.0
_DEVICES: Final = 100_000


@dataclass(frozen=True, slots=True)
class Limits:
    """What a device may send.

    Attributes:
        messages_an_hour: In the long run.
        bytes_an_hour: In the long run.
        burst_hours: So many hours' worth may come at once after a silence.
    """

    messages_an_hour: float = MESSAGES_AN_HOUR
    bytes_an_hour: float = BYTES_AN_HOUR
    burst_hours: float = BURST_HOURS


@dataclass(slots=True)
class _Bucket:
    """What may be sent at once, when last looked at."""

    messages: float
    size: float
    at_s: float


@dataclass(slots=True)
class Meter:
    """The buckets of all devices, in one worker.

    Attributes:
        share: Of every limit that this worker grants, above 0 to 1.
    """

    share: float = 1.0
    _buckets: OrderedDict[str, _Bucket] = field(default_factory=OrderedDict)

    def take(self, device: str, size: int, limits: Limits, now_s: float) -> bool:
        """Takes one message of `size` bytes out of a device's bucket; False if it does not hold that much.

        A message larger than the whole bucket passes when the bucket is full, or it would wait for ever.
        """
        hourly, heavy = self.share * limits.messages_an_hour, self.share * limits.bytes_an_hour
        # A worker's share may be less than a message.
        most, most_bytes = max(1.0, hourly * limits.burst_hours), heavy * limits.burst_hours
        bucket = self._buckets.get(device)
        if bucket is None:
            bucket = self._buckets[device] = _Bucket(most, most_bytes, now_s)
            if len(self._buckets) > _DEVICES:
                self._buckets.popitem(last=False)
        passed_hours = max(0.0, now_s - bucket.at_s) / 3600
        bucket.at_s = now_s
        bucket.messages = min(most, bucket.messages + passed_hours * hourly)
        bucket.size = min(most_bytes, bucket.size + passed_hours * heavy)
        if bucket.messages < 1.0 or bucket.size < min(size, most_bytes):
            return False
        bucket.messages -= 1.0
        bucket.size -= min(size, bucket.size)
        return True
