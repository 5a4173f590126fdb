"""Who signs what, and for how long it is believed.

| role | signs | where its key belongs |
|---|---|---|
| `root` | whose keys the others are | away from the server |
| `targets` | that `stable` and `canary` may sign releases | away from the server |
| `stable` | releases for every device | at the server |
| `canary` | releases that a few devices try first | at the server, or with whoever tries models |
| `snapshot` | which lists belong together | at the server |
| `timestamp` | which snapshot is the newest | at the server |

What is signed at the server is signed anew when half of its life is over. What a person signs lives for two years, so
that a visit every year leaves a year to spare.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Final, Literal

from securesystemslib.signer import Key
from tuf.api.metadata import DelegatedRole, Delegations

from walt_edge.contract.bundle import SUFFIX

Channel = Literal["stable", "canary"]

OFFLINE: Final = ("root", "targets")
"""Roles whose keys a careful home keeps elsewhere."""
CHANNELS: Final[tuple[Channel, ...]] = ("stable", "canary")
"""Roles that sign releases, the more trusted first: a device asks in this order."""
LISTS: Final = ("targets", *CHANNELS)
"""Roles that sign lists of files, who delegates first."""
ROLES: Final = (*OFFLINE, *CHANNELS, "snapshot", "timestamp")

LIFE: Final[Mapping[str, timedelta]] = {
    "root": timedelta(days=730),
    "targets": timedelta(days=730),
    "stable": timedelta(days=90),
    "canary": timedelta(days=90),
    "snapshot": timedelta(days=30),
    "timestamp": timedelta(days=30),
}
_PATHS: Final = [f"*{SUFFIX}"]


def delegate(keys: Mapping[Channel, Key]) -> Delegations:
    """What `targets` says of the channels: whose keys they are, and that they sign bundles and nothing else."""
    roles: dict[str, DelegatedRole] = {
        one: DelegatedRole(one, [keys[one].keyid], 1, terminating=False, paths=_PATHS) for one in CHANNELS
    }
    return Delegations({key.keyid: key for key in keys.values()}, roles)


def is_due(role: str, left: timedelta) -> bool:
    """Whether half of its life is over: it is signed anew where its key is at hand."""
    return left < LIFE[role] / 2


def is_late(role: str, left: timedelta) -> bool:
    """Whether three quarters of its life are over: somebody must bring the key."""
    return left < LIFE[role] / 4
