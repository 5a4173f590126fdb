"""How much one address may ask: a bucket that fills steadily, in memory, for so many addresses at most."""

from __future__ import annotations

import ipaddress
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

_ADDRESSES: Final = 10_000


class Rates:
    """Token buckets.

    Args:
        per_s: Requests a second in the long run.
        burst: And so many at once.
        clock: Seconds that only grow.
    """

    def __init__(self, per_s: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s = per_s
        self._burst = burst
        self._clock = clock
        self._lock = threading.Lock()
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, address: str) -> float:
        """Takes one request of an address; 0 = it may pass, else so long is to be waited and nothing is taken."""
        key = network_of(address)
        with self._lock:
            now_s = self._clock()
            left, since_s = self._left.pop(key, (float(self._burst), now_s))
            left = min(float(self._burst), left + (now_s - since_s) * self._per_s)
            may_pass = left >= 1.0
            self._left[key] = (left - 1.0 if may_pass else left, now_s)
            if len(self._left) > _ADDRESSES:
                self._left.popitem(last=False)
        return 0.0 if may_pass else (1.0 - left) / self._per_s


def network_of(address: str) -> str:
    """What counts as one client: an IPv6 client has a /64 to choose from."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    # As a server says it that listens by IPv6 for both; all of them together are no one's network.
    return str(found.ipv4_mapped or ipaddress.ip_network((found, 64), strict=False))
