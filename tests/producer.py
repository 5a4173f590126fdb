"""An agent without eyes: the real spool and uplink in a process of their own, fed over standard input.

Each line `FIRST COUNT` makes that many envelopes, whose ids are printed once the spool has accepted them. An envelope
is a pure function of its number, so one that was accepted just before a kill is made again, byte for byte.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.envelopes import sealed
from walt_edge.config import Endpoint, Home
from walt_edge.contract.messages import Info
from walt_edge.contract.topics import DeviceTopics
from walt_edge.spool.key import KEY_BYTES, SpoolKey
from walt_edge.spool.spool import Spool
from walt_edge.uplink.uplink import Uplink, UplinkSettings

KEY = SpoolKey(bytes(KEY_BYTES))
SETTINGS = UplinkSettings(
    ack_timeout_s=1.0, ack_timeout_cap_s=4.0, unheard_s=0.1, reconnect_min_s=0.05, reconnect_max_s=0.3
)


def main(folder: Path, broker: str) -> None:
    info = Info(version="1", camera="cam-1", machine="test", python="3.11", anonymiser="test")
    with Home(folder), Spool(folder, key=KEY) as spool:
        topics = DeviceTopics("test", "walt-test")
        uplink = Uplink(Endpoint.parse(broker), topics, spool, "boot-test", info, SETTINGS)
        uplink.start()
        for line in sys.stdin:
            first, count = map(int, line.split())
            for number in range(first, first + count):
                one = sealed(number)
                spool.accept(one)
                uplink.notify()
                sys.stdout.write(f"{one.id}\n")
                sys.stdout.flush()
        uplink.wait_drained(240)
        uplink.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
