"""Home keeps how sure models are, and how often agents begin anew."""

from __future__ import annotations

import msgspec

from tests.walt_train.loop.fleet.fleet import BEGIN, MINUTE, Device
from walt_edge.contract.telemetry import decode_telemetry
from walt_train.loop.fleet.figures import FIELDS
from walt_train.loop.fleet.fleet import Fleet


def grown(fleet: Fleet, name: str) -> float:
    """By how much a counter grew in the raw samples of the batch."""
    place = FIELDS.index(name)
    return sum(bucket[place] for key, bucket in fleet.batch.buckets.items() if key[1] == 0)


def test_looks_and_scores_grow_as_they_were_told() -> None:
    fleet = Fleet()
    device = Device(fleet)
    for minute, (looks, scored, score_milli) in enumerate([(100, 50, 40_000), (160, 90, 70_000), (160, 90, 70_000)]):
        device.watches(BEGIN + minute * MINUTE, looks=looks, scored=scored, score_milli=score_milli)
    assert [grown(fleet, name) for name in ("looks", "scored", "score_milli")] == [60, 40, 30_000]
    assert grown(fleet, "restarts") == 0


def test_an_agent_that_begins_anew_is_counted() -> None:
    fleet = Fleet()
    device = Device(fleet)
    for start in range(4):
        device.restarts(BEGIN + 10 * start * MINUTE)
        for minute in range(1, 4):
            device.watches(BEGIN + (10 * start + minute) * MINUTE)
    assert grown(fleet, "restarts") == 3
    device.watches(BEGIN + 40 * MINUTE, boot_id="boot-2")
    assert grown(fleet, "restarts") == 4


def test_an_older_device_tells_neither() -> None:
    told = msgspec.to_builtins(Device(Fleet()).told)
    for name in ("looks", "scored", "score_milli"):
        del told[name]
    old = decode_telemetry(msgspec.json.encode(told))
    assert (old.looks, old.scored, old.score_milli) == (0, 0, 0)
