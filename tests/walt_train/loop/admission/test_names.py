"""Whose a camera's name is, on SQLite and PostgreSQL: the first enrolled device's, until a person gives it away."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import event, select

from tests.postgres import Postgres
from tests.walt_train.loop.admission.home import GHOST, ONE, TWO, arrival, enrol
from walt_edge.contract.errors import UsageError
from walt_edge.contract.topics import DeviceTopics, Kind, TopicError
from walt_train.loop.admission import standing
from walt_train.loop.admission.admission import Admission
from walt_train.loop.admission.names import NAMES_A_DEVICE, claim
from walt_train.loop.admission.policy import NEW_DEVICE, OTHERS_NAME, Policy
from walt_train.loop.admission.tables import camera_owners
from walt_train.loop.ingest.arrivals import judge
from walt_train.loop.store.config import StoreConfig
from walt_train.loop.store.database import StoreWriteError
from walt_train.loop.store.store import Accepted, Store
from walt_train.loop.store.tables import envelopes


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


class Worker:
    """An ingest's door and store; each `hear` is a second later."""

    def __init__(self, store: Store, name: str = "worker-1", policy: Policy = Policy.ENROLLED) -> None:
        self._store = store
        self._now_s = 1000.0
        self.door = Admission(store.engine, policy, name, lambda: self._now_s)
        self.door.refresh()

    def hear(self) -> None:
        self._now_s += 1.1
        self.door.refresh()

    def take(self, number: int, names: DeviceTopics, camera: str = "gate", kind: Kind = Kind.CROP) -> str | None:
        """Stores an envelope; returns why it may not train yet."""
        verdict = judge(arrival(number, names, kind, camera), self.door).verdict
        assert isinstance(verdict, Accepted)
        self._store.add_group([verdict])
        return verdict.held


def approve(store: Store, *devices: DeviceTopics) -> None:
    for names in devices:
        standing.approve(store.engine, names, "op")


def held(store: Store, names: DeviceTopics) -> list[str | None]:
    """Of a device's envelopes, in the order in which they came, why they may not train."""
    row = envelopes.c
    query = select(row.held).where(row.device == names.device).order_by(row.received_us)
    with store.engine.connect() as connection:
        return list(connection.scalars(query))


def test_the_reason_fits() -> None:
    assert len(OTHERS_NAME) <= 64


def test_the_second_device_under_a_name_waits(store: Store) -> None:
    approve(store, ONE, TWO)
    worker = Worker(store)
    assert worker.take(1, ONE) is None
    for number, kind in enumerate(Kind):
        assert worker.take(10 + number, TWO, kind=kind) == OTHERS_NAME
    assert worker.take(3, TWO, "yard") is None
    assert worker.take(4, ONE, "yard") == OTHERS_NAME
    assert len(store.ids()) == 2
    restarted = Worker(store)
    assert restarted.take(5, TWO) == OTHERS_NAME
    assert restarted.take(6, ONE) is None


def test_an_approval_frees_nothing_of_it(store: Store) -> None:
    worker = Worker(store)
    assert worker.take(1, ONE) == NEW_DEVICE
    assert worker.take(2, TWO) == OTHERS_NAME
    assert worker.take(3, TWO, "yard") == NEW_DEVICE
    assert standing.approve(store.engine, TWO, "op") == 1
    worker.hear()
    assert held(store, TWO) == [OTHERS_NAME, None]
    assert worker.take(4, TWO) == OTHERS_NAME
    with pytest.raises(UsageError, match="walt-loop devices give"):
        standing.release(store.engine, TWO, "gate")


def test_who_has_not_been_looked_at_yet_keeps_its_name(store: Store) -> None:
    approve(store, TWO)
    worker = Worker(store)
    assert worker.take(1, ONE) == NEW_DEVICE
    assert worker.take(2, TWO) == OTHERS_NAME


def test_workers_agree_whoever_is_first(store: Store) -> None:
    """Many at one moment under many names: for each name one owner, and everybody is told the same one."""
    together = threading.Barrier(4)

    def all_names(device: str) -> list[str]:
        together.wait(20)
        return [claim(store.engine, device, f"cam-{number}") for number in range(20)]

    with ThreadPoolExecutor(4) as pool:
        told = list(pool.map(all_names, ["a", "b", "c", "d"]))
    assert told[0] == told[1] == told[2] == told[3]
    with store.engine.connect() as connection:
        query = select(camera_owners.c.device, camera_owners.c.camera)
        assert {row.camera: row.device for row in connection.execute(query)} == {
            f"cam-{number}": device for number, device in enumerate(told[0])
        }


def test_a_worker_that_has_not_heard_asks(store: Store) -> None:
    approve(store, ONE, TWO)
    one, two = Worker(store, "worker-1"), Worker(store, "worker-2")
    assert one.take(1, ONE) is None
    assert two.take(2, TWO) == OTHERS_NAME


def test_a_name_is_handed_over_and_back(store: Store) -> None:
    approve(store, ONE, TWO)
    worker = Worker(store)
    assert worker.take(1, ONE) is None
    assert worker.take(2, TWO) == OTHERS_NAME
    assert standing.give(store.engine, TWO, "gate") == 1
    assert worker.take(3, ONE) is None, "it has not heard of it yet"
    assert worker.take(4, TWO) == OTHERS_NAME
    worker.hear()
    assert held(store, ONE) == [None, OTHERS_NAME], "what trained stays"
    assert held(store, TWO) == [None, None]
    assert worker.take(5, ONE) == OTHERS_NAME
    assert worker.take(6, TWO) is None
    assert standing.give(store.engine, TWO, "gate") == 0, "again does no harm"
    assert held(store, ONE) == [None, OTHERS_NAME, OTHERS_NAME]
    assert standing.give(store.engine, ONE, "gate") == 2
    worker.hear()
    assert worker.take(7, ONE) is None
    assert worker.take(8, TWO) == OTHERS_NAME


def test_what_waited_for_another_reason_is_not_freed_once_the_name_is_gone(store: Store) -> None:
    approve(store, TWO)
    worker = Worker(store)
    assert worker.take(1, ONE) == NEW_DEVICE
    standing.give(store.engine, TWO, "gate")
    assert worker.take(2, ONE) == NEW_DEVICE, "it has not heard of it yet"
    assert standing.approve(store.engine, ONE, "op") == 0, "what came late is held for the right reason"
    worker.hear()
    assert held(store, ONE) == [OTHERS_NAME] * 2
    standing.hold(store.engine, ONE, "gate", "by hand")
    standing.release(store.engine, ONE, "gate")
    assert held(store, ONE) == [OTHERS_NAME] * 2


def test_a_name_that_is_given_to_a_new_device_still_waits_for_approval(store: Store) -> None:
    approve(store, ONE)
    worker = Worker(store)
    worker.take(1, ONE)
    worker.take(2, TWO)
    assert standing.give(store.engine, TWO, "gate") == 0
    assert held(store, TWO) == [NEW_DEVICE]
    assert standing.approve(store.engine, TWO, "op") == 1


def test_a_held_camera_stays_held_under_a_name_that_it_was_given(store: Store) -> None:
    approve(store, ONE, TWO)
    worker = Worker(store)
    worker.take(1, ONE)
    standing.hold(store.engine, TWO, "gate", "by hand")
    worker.take(2, TWO)
    assert standing.give(store.engine, TWO, "gate") == 0
    assert held(store, TWO) == ["camera: by hand"]


def test_a_name_may_be_kept_for_a_device_before_anybody_sends_it(store: Store) -> None:
    approve(store, ONE, TWO)
    assert standing.give(store.engine, TWO, "gate") == 0
    assert Worker(store).take(1, ONE) == OTHERS_NAME
    with pytest.raises(UsageError, match="was enrolled"):
        standing.give(store.engine, GHOST, "yard")
    with pytest.raises(TopicError, match="is not a name"):
        standing.give(store.engine, ONE, "a/b")


def test_nobody_takes_all_names(store: Store) -> None:
    approve(store, ONE, TWO)
    door = Worker(store).door
    told = [door.held(ONE.device, f"cam-{number}") for number in range(NAMES_A_DEVICE + 10)]
    assert told == [None] * NAMES_A_DEVICE + [OTHERS_NAME] * 10
    assert door.held(TWO.device, f"cam-{NAMES_A_DEVICE}") is None
    restarted = Worker(store).door
    assert restarted.held(ONE.device, "one-more") == OTHERS_NAME


def test_without_identities_names_are_anybodys(store: Store) -> None:
    worker = Worker(store, policy=Policy.OPEN)
    assert worker.take(1, ONE) is None
    assert worker.take(2, TWO) is None
    with store.engine.connect() as connection:
        assert connection.execute(select(camera_owners)).all() == []


def test_who_cannot_ask_lets_the_crop_wait_and_frees_it_when_it_can(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    approve(store, ONE)
    worker = Worker(store)

    def away(*_: object) -> str:
        raise StoreWriteError("cannot write")

    with monkeypatch.context() as broken:
        broken.setattr("walt_train.loop.admission.names.claim", away)
        assert worker.take(1, ONE) == OTHERS_NAME
        with pytest.raises(StoreWriteError):
            worker.hear()
    worker.hear()
    assert held(store, ONE) == [None]
    assert worker.take(2, ONE) is None


def test_a_known_name_costs_no_query(store: Store) -> None:
    approve(store, ONE, TWO)
    worker = Worker(store)
    worker.take(1, ONE)
    asked: list[object] = []
    event.listen(store.engine, "before_cursor_execute", lambda *words: asked.append(words[2]))
    for _ in range(10):
        worker.door.held(ONE.device, "gate")
        worker.door.held(TWO.device, "gate")
    assert asked == []


def test_a_name_that_is_taken_disturbs_no_worker(store: Store) -> None:
    """A fleet that comes up takes thousands; each worker would read everything anew each second."""
    approve(store, ONE)
    worker, other = Worker(store, "worker-1"), Worker(store, "worker-2")
    worker.take(1, ONE)
    asked: list[str] = []
    event.listen(store.engine, "before_cursor_execute", lambda *words: asked.append(words[2][:6]))
    other.hear()
    assert [words for words in asked if words != "BEGIN"] == ["SELECT"]


def test_a_person_sees_it_with_whose_name_it_is(store: Store) -> None:
    approve(store, ONE, TWO)
    worker = Worker(store)
    worker.take(1, ONE)
    worker.take(2, TWO)
    seen = {one.device: one for one in standing.seen(store.engine)}
    assert (seen[ONE.device].taken, seen[TWO.device].taken) == ((), (("gate", "test/walt-test"),))
    assert (seen[TWO.device].crops, seen[TWO.device].held) == (1, 1)
