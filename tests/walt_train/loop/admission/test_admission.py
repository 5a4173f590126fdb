from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import event, select, update

from tests.walt_train.loop.admission.home import ONE, TWO, arrival, enrol
from walt_edge.contract.errors import UsageError
from walt_edge.contract.topics import DeviceTopics, Kind
from walt_train.loop.admission import standing
from walt_train.loop.admission.admission import Admission
from walt_train.loop.admission.policy import NEW_DEVICE, Entry, Policy, Standing, decide, hold_reason
from walt_train.loop.admission.tables import met, workers
from walt_train.loop.identity.tables import devices
from walt_train.loop.ingest.arrivals import Later, judge
from walt_train.loop.store.store import Accepted, Refused, Store
from walt_train.loop.store.tables import envelopes

WHO = "an operator"


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s

    def pass_by(self, seconds: float) -> None:
        self.now_s += seconds


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path) as store:
        yield store


@pytest.fixture
def clock() -> Clock:
    return Clock()


def door(store: Store, clock: Clock, worker: str = "worker-1", policy: Policy = Policy.ENROLLED) -> Admission:
    admission = Admission(store.engine, policy, worker, clock)
    admission.refresh()
    return admission


def take(store: Store, admission: Admission, number: int, names: DeviceTopics = ONE, camera: str = "cam-1") -> str:
    """What becomes of an envelope; "stored" ones are in the store afterwards."""
    verdict = judge(arrival(number, names, camera=camera), admission).verdict
    if isinstance(verdict, Accepted):
        store.add_group([verdict])
        return f"held: {verdict.held}" if verdict.held else "stored"
    if isinstance(verdict, Refused):
        store.add_group([], [verdict])
        return f"refused: {verdict.reason}"
    return f"later: {verdict.reason}"


@pytest.mark.parametrize(
    ("known", "entry"),
    [
        (None, Entry.UNKNOWN),
        (Standing("test"), Entry.OPEN),
        (Standing("test", is_revoked=True), Entry.REFUSED),
        (Standing("elsewhere"), Entry.REFUSED),
        (Standing("elsewhere", is_revoked=True), Entry.REFUSED),
    ],
)
def test_who_may_send(known: Standing | None, entry: Entry) -> None:
    assert decide(known, "test", "walt-test").entry is entry


def test_what_is_held() -> None:
    approved = Standing("test", is_approved=True, held={"north": "r" * 200})
    assert hold_reason(Standing("test"), "north") == NEW_DEVICE
    assert hold_reason(approved, "south") is None
    reason = hold_reason(approved, "north")
    assert reason is not None
    assert reason.startswith("camera: rrr")
    assert len(reason) == 64


def test_without_identities_everything_is_as_it_was(store: Store, clock: Clock) -> None:
    admission = door(store, clock, policy=Policy.OPEN)
    assert take(store, admission, 1) == "stored"
    assert take(store, admission, 2, TWO) == "stored"


def test_a_new_device_waits_and_an_approved_one_trains(store: Store, clock: Clock) -> None:
    enrol(store.engine, ONE)
    admission = door(store, clock)
    assert take(store, admission, 1) == f"held: {NEW_DEVICE}"
    assert store.ids() == []
    assert standing.approve(store.engine, ONE, WHO) == 1
    assert len(store.ids()) == 1
    assert take(store, admission, 2) == f"held: {NEW_DEVICE}", "it has not heard of it yet"
    assert len(store.ids()) == 1
    clock.pass_by(1.1)
    admission.refresh()
    assert len(store.ids()) == 2, "who hears of an approval frees what it stored before it had heard"
    assert take(store, admission, 3) == "stored"


def test_one_that_was_never_enrolled_keeps_what_it_has(store: Store, clock: Clock) -> None:
    enrol(store.engine, ONE)
    admission = door(store, clock)
    assert take(store, admission, 1, TWO) == "later: test/walt-two is not enrolled"
    assert store.counts().rejected == 0
    enrol(store.engine, TWO)
    clock.pass_by(1.1)
    admission.refresh()
    assert take(store, admission, 1, TWO) == f"held: {NEW_DEVICE}"


def test_a_revoked_device_is_refused_within_a_second(store: Store, clock: Clock) -> None:
    enrol(store.engine, ONE)
    standing.approve(store.engine, ONE, WHO)
    admission = door(store, clock)
    assert take(store, admission, 1) == "stored"
    with store.engine.begin() as connection:
        connection.execute(update(devices).values(revoked_us=5))
    clock.pass_by(1.1)
    admission.refresh()
    assert take(store, admission, 2) == "refused: test/walt-test was revoked"
    assert store.refused_reasons()[0][1] == "test/walt-test was revoked"
    with store.engine.begin() as connection:
        connection.execute(update(devices).values(revoked_us=None))
    clock.pass_by(1.1)
    admission.refresh()
    assert take(store, admission, 3) == "stored"


def test_a_device_cannot_send_as_another(store: Store, clock: Clock) -> None:
    enrol(store.engine, ONE, TWO)
    standing.approve(store.engine, ONE, WHO)
    standing.approve(store.engine, TWO, WHO)
    admission = door(store, clock)
    elsewhere = DeviceTopics("elsewhere", ONE.device)
    assert "was enrolled at the site test, not at elsewhere" in take(store, admission, 1, elsewhere)
    mine = arrival(2, ONE)
    forged = type(mine)(TWO.envelope(Kind.CROP, mine.topic[-64:]), mine.payload)
    verdict = judge(forged, admission).verdict
    assert isinstance(verdict, Refused)
    assert "the header says test/walt-test, the topic test/walt-two" in verdict.reason


def test_a_flood_costs_no_disk_and_delays_nobody(store: Store, clock: Clock) -> None:
    enrol(store.engine, ONE, TWO)
    for names in (ONE, TWO):
        standing.approve(store.engine, names, WHO)
    standing.limit(store.engine, ONE, 10, None)
    admission = door(store, clock)
    told = [take(store, admission, number) for number in range(60)]
    assert told.count("stored") == 40, "four hours' worth at once"
    assert told[-1] == "later: walt-test sends more than it may"
    assert take(store, admission, 1000, TWO, "cam-2") == "stored"
    rubbish = arrival(2000)
    rubbish = type(rubbish)(rubbish.topic, b"rubbish")
    assert isinstance(judge(rubbish, admission).verdict, Later), "rubbish counts as well"
    assert store.counts().rejected == 0
    clock.pass_by(3600)
    admission.refresh()
    assert [take(store, admission, number) for number in range(60, 80)].count("stored") == 10
    admission.note()
    one = next(one for one in standing.seen(store.engine) if one.device == ONE.device)
    assert (one.crops, one.over_rate, one.state) == (50, 31, "approved")


def test_rubbish_of_nobody_has_one_bucket(store: Store, clock: Clock) -> None:
    admission = door(store, clock)
    lost = type(arrival(1))("walt/v1/a/b/crop/nonsense", b"x" * 1_000_000)
    verdicts = [judge(lost, admission).verdict for _ in range(600)]
    assert sum(isinstance(one, Refused) for one in verdicts) == 480
    assert isinstance(verdicts[-1], Later)


def test_no_query_for_a_message_and_one_for_a_second(store: Store, clock: Clock) -> None:
    enrol(store.engine, ONE)
    admission = door(store, clock)
    judge(arrival(0), admission)  # makes the camera's name the device's
    asked: list[str] = []
    event.listen(store.engine, "before_cursor_execute", lambda *words: asked.append(words[2][:6]))
    for number in range(50):
        admission.refresh()
        judge(arrival(number), admission)
    assert asked == []
    clock.pass_by(1.1)
    admission.refresh()
    assert asked == ["BEGIN", "SELECT"]


def test_made_up_names_fill_no_table(store: Store, clock: Clock) -> None:
    admission = door(store, clock)
    for number in range(300):
        judge(arrival(1, DeviceTopics("test", f"ghost-{number}")), admission)
    admission.note()
    with store.engine.connect() as connection:
        assert len(connection.execute(select(met)).all()) <= 300
    assert {one.state for one in standing.seen(store.engine)} == {"unknown"}


def test_workers_share_and_one_of_them_leads(store: Store, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    enrol(store.engine, ONE)
    standing.approve(store.engine, ONE, WHO)
    standing.limit(store.engine, ONE, 10, None)
    with caplog.at_level(logging.WARNING):
        one, two = door(store, clock, "worker-1"), door(store, clock, "worker-2")
        clock.pass_by(6)
        one.refresh()
    assert (one.leads, two.leads) == (True, False)
    assert "2 workers share one SQLite file: safe, but no faster than one" in caplog.text
    clock.pass_by(3600)
    told = [take(store, worker, number) for number, worker in enumerate([one, two] * 60)]
    assert told.count("stored") == 40
    one.close()
    clock.pass_by(6)
    two.refresh()
    assert two.leads
    two.close()
    with store.engine.connect() as connection:
        assert connection.execute(select(workers)).all() == []


def test_a_held_camera_is_stored_and_waits(store: Store, clock: Clock) -> None:
    enrol(store.engine, ONE)
    standing.approve(store.engine, ONE, WHO)
    admission = door(store, clock)
    assert take(store, admission, 1) == "stored"
    standing.hold(store.engine, ONE, "cam-1", "by hand")
    assert take(store, admission, 2) == "stored", "it has not heard of it yet"
    clock.pass_by(1.1)
    admission.refresh()
    assert take(store, admission, 3) == "held: camera: by hand"
    assert len(store.ids()) == 1, "what was stored before it had heard is held by then"
    assert standing.seen(store.engine)[0].cameras == (("cam-1", "by hand"),)
    assert standing.release(store.engine, ONE, "cam-1") == 2
    clock.pass_by(1.1)
    admission.refresh()
    assert take(store, admission, 4) == "stored"
    with pytest.raises(UsageError, match="is not held"):
        standing.release(store.engine, ONE, "cam-1")


def test_a_device_may_be_held_again(store: Store, clock: Clock) -> None:
    enrol(store.engine, ONE)
    standing.approve(store.engine, ONE, WHO)
    standing.hold(store.engine, ONE, None, "")
    admission = door(store, clock)
    assert take(store, admission, 1) == f"held: {NEW_DEVICE}"


@pytest.mark.parametrize("names", [TWO, DeviceTopics("elsewhere", ONE.device)])
def test_only_enrolled_devices_are_approved(store: Store, names: DeviceTopics) -> None:
    enrol(store.engine, ONE)
    with pytest.raises(UsageError, match="was enrolled"):
        standing.approve(store.engine, names, WHO)


def test_every_kind_of_envelope_waits(store: Store, clock: Clock) -> None:
    enrol(store.engine, ONE)
    admission = door(store, clock)
    for number, kind in enumerate(Kind):
        verdict = judge(arrival(number, ONE, kind), admission).verdict
        assert isinstance(verdict, Accepted)
        store.add_group([verdict])
    with store.engine.connect() as connection:
        assert connection.scalars(select(envelopes.c.held)).all() == [NEW_DEVICE] * 3
