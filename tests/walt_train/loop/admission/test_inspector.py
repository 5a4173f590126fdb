"""From rows in a database to a camera that is held, and back; on SQLite and on PostgreSQL."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import func, select

from tests.postgres import Postgres
from tests.walt_train.loop.admission.home import ONE, TWO, enrol, put_rows
from tests.walt_train.loop.admission.streams import Scene, all_sure, honest
from walt_train.loop.admission import standing
from walt_train.loop.admission.admission import Admission
from walt_train.loop.admission.anomaly import Crops
from walt_train.loop.admission.inspector import Held, inspect
from walt_train.loop.admission.policy import NEW_DEVICE, Policy
from walt_train.loop.admission.tables import camera_pasts
from walt_train.loop.store.config import StoreConfig
from walt_train.loop.store.store import Store
from walt_train.loop.store.tables import envelopes

# Long ago: what a person lets by is what came before now.
NOW_US = time.time_ns() // 1000 - 10**11
LATER_US = NOW_US + 10**12


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with Postgres.start() as running:
        yield running


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    where: Path | StoreConfig = tmp_path
    if request.param == "postgres":
        where = StoreConfig(request.getfixturevalue("postgres").database(), str(tmp_path))
    with Store(where) as store:
        enrol(store.engine, ONE, TWO)
        yield store


def crops(seed: int, count: int) -> Crops:
    chance = np.random.default_rng(seed)
    scene = Scene.at(chance)
    return honest(scene, 200, chance).part(0, count)


def stamps(count: int, start_us: int = NOW_US) -> list[int]:
    """As an ingest stamps them: groups of up to 32 bear one time."""
    return [start_us + at // 32 * 1000 for at in range(count)]


def inspected(store: Store) -> list[Held]:
    """Inspects until nothing is left to be judged."""
    held: list[Held] = []
    for _ in range(100):
        before = through(store)
        held += inspect(store.engine, LATER_US)
        if through(store) == before:
            return held
    raise AssertionError("it never ends")


def through(store: Store) -> object:
    with store.engine.connect() as connection:
        return connection.execute(select(camera_pasts.c.camera, camera_pasts.c.through_us)).all()


def held_of(store: Store, camera: str) -> int:
    query = select(func.count(envelopes.c.held)).where(envelopes.c.camera == camera)
    with store.engine.connect() as connection:
        return int(connection.scalar(query) or 0)


def test_a_poisoned_camera_is_held_from_its_odd_window_on(store: Store) -> None:
    good = crops(1, 3000)
    put_rows(store.engine, ONE, "north", good, stamps(3000), held=NEW_DEVICE)
    put_rows(store.engine, ONE, "south", crops(2, 1500), stamps(1500), held=NEW_DEVICE)
    assert inspected(store) == [], "what waits for a person is not judged"
    assert standing.approve(store.engine, ONE, "op") == 4500
    assert inspected(store) == []
    bad = all_sure(good.part(2900, 3000), np.random.default_rng(1))
    put_rows(store.engine, ONE, "north", bad, stamps(100, NOW_US + 10**9))
    put_rows(store.engine, ONE, "south", crops(2, 1650).part(1500, 1650), stamps(150, NOW_US + 10**9))
    (held,) = inspected(store)
    assert (held.device, held.camera) == (ONE.device, "north")
    assert "confidence" in held.reason
    # What was left over of the good crops was in the window, and waits as well.
    assert 100 <= held_of(store, "north") < 232
    assert held_of(store, "south") == 0
    assert standing.seen(store.engine)[0].cameras == (("north", held.reason),)
    assert inspected(store) == [], "it is held already"
    standing.release(store.engine, ONE, "north")
    assert held_of(store, "north") == 0
    assert inspected(store) == [], "what was let by is not judged again"


def test_what_it_sends_may_be_as_ever_from_now_on(store: Store) -> None:
    put_rows(store.engine, ONE, "north", crops(1, 2000), stamps(2000))
    standing.approve(store.engine, ONE, "op")
    inspected(store)
    turned = crops(9, 2000)
    put_rows(store.engine, ONE, "north", turned, stamps(2000, NOW_US + 10**9))
    assert [held.camera for held in inspected(store)] == ["north"]
    standing.release(store.engine, ONE, "north", anew=True)
    put_rows(store.engine, ONE, "north", turned, stamps(2000, time.time_ns() // 1000 + 10**9))
    assert inspected(store) == []


def test_an_ingest_that_leads_does_it_by_itself(store: Store) -> None:
    put_rows(store.engine, ONE, "north", crops(1, 2000), stamps(2000, NOW_US - 10**9))
    standing.approve(store.engine, ONE, "op")
    bad = all_sure(crops(1, 200), np.random.default_rng(1))
    put_rows(store.engine, ONE, "north", bad, stamps(200, NOW_US - 10**8))
    passed = iter(range(0, 10**6, 20))
    admission = Admission(store.engine, Policy.ENROLLED, "worker-1", lambda: float(next(passed)))
    for _ in range(10):
        admission.refresh()
        admission.inspect()
    assert standing.seen(store.engine)[0].cameras
    admission.refresh()
    assert (admission.held(ONE.device, "north") or "").startswith("camera: confidence")
    assert admission.held(ONE.device, "south") is None
