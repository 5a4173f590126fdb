from __future__ import annotations

from dataclasses import replace

import pytest

from tests.walt_train.loop.serve.loop import Loop, crop, fill
from walt_edge.contract.labels import Label
from walt_train.loop.serve.jobs import Order
from walt_train.loop.serve.trigger import Harvest, Threshold, devices_of, harvest_of, readiness

BOTH = frozenset(Label)


@pytest.mark.parametrize(
    ("had", "holds", "is_enough", "line"),
    [
        (None, (37, 14), False, "37 of 50 crops, 14 of 20 objects"),
        (None, (50, 20), True, "50 of 50 crops, 20 of 20 objects"),
        (None, (500, 19), False, "500 of 50 crops, 19 of 20 objects"),
        ((60, 25), (109, 45), False, "49 of 50 crops, 20 of 20 objects"),
        ((60, 25), (110, 45), True, "50 of 50 crops, 20 of 20 objects"),
        ((1000, 400), (1199, 500), False, "199 of 200 crops, 100 of 20 objects"),
        ((1000, 400), (1200, 500), True, "200 of 200 crops, 100 of 20 objects"),
        ((60, 25), (10, 5), False, "0 of 50 crops, 0 of 20 objects"),
    ],
)
def test_readiness(
    loop: Loop, had: tuple[int, int] | None, holds: tuple[int, int], is_enough: bool, line: str
) -> None:
    last = None
    if had:
        order = Order(camera="c", recipe="demo", seed=0, training_steps=None, crops=had[0], tracks=had[1])
        last = loop.jobs("a").create(order)
    ready = readiness(Harvest(*holds, BOTH), last, Threshold())
    assert (ready.is_enough, ready.line) == (is_enough, line)


def test_what_may_train_is_counted(loop: Loop) -> None:
    fill(loop.store, numbers=range(4), track=7)
    fill(loop.store, numbers=range(10, 13), label=Label.PERSON)
    fill(loop.store, numbers=range(20, 25), holdout=True)
    fill(loop.store, "cam-2", range(30, 32), label=Label.VEHICLE)
    loop.store.add_group([replace(crop(40), held="new device")])
    assert harvest_of(loop.store.engine, "cam-1") == Harvest(7, 4, BOTH)
    assert harvest_of(loop.store.engine, "cam-2") == Harvest(2, 2, frozenset({Label.VEHICLE}))
    assert harvest_of(loop.store.engine, "nowhere") == Harvest(0, 0, frozenset())
    [device] = devices_of(loop.store.engine, "cam-1")
    assert device.desired == "walt/v1/test/walt-test/desired"
