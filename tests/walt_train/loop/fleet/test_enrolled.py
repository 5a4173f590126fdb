"""Whom home listens to where devices are enrolled."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, insert, update

from tests.walt_train.loop.fleet.fleet import BEGIN, DAY, Device
from walt_train.loop.fleet.enrolled import Enrolled, expiries
from walt_train.loop.fleet.fleet import Fleet, Outcome
from walt_train.loop.identity.tables import devices
from walt_train.loop.store.database import transaction


def enrol(engine: Engine, device: str, site: str = "yard", expires_us: int = BEGIN + DAY) -> None:
    row = {"device": device, "site": site, "enrolled_us": BEGIN, "revoked_reason": "", "serial": "1"}
    with transaction(engine) as connection:
        connection.execute(insert(devices), row | {"expires_us": expires_us})


def test_who_is_enrolled_at_a_site_is_heard_there_until_revoked(engine: Engine) -> None:
    fleet = Fleet(is_known=Enrolled(engine, refresh_s=0))
    ours, elsewhere = Device(fleet, name="walt-1"), Device(fleet, site="other", name="walt-1")
    assert ours.watches(BEGIN) is Outcome.STRANGER
    enrol(engine, "walt-1")
    assert ours.watches(BEGIN) is Outcome.TAKEN
    assert elsewhere.watches(BEGIN) is Outcome.STRANGER
    assert expiries(engine) == {("yard", "walt-1"): BEGIN + DAY}
    with transaction(engine) as connection:
        connection.execute(update(devices).values(revoked_us=BEGIN, revoked_reason="stolen"))
    assert ours.watches(BEGIN + DAY) is Outcome.STRANGER
    fleet.forget(0)
    assert not fleet.devices
    assert not fleet.cameras


def test_the_database_is_not_asked_for_every_message(engine: Engine) -> None:
    enrol(engine, "walt-1")
    is_known = Enrolled(engine, refresh_s=1000)
    assert is_known("yard", "walt-1")
    enrol(engine, "walt-2")
    assert not is_known("yard", "walt-2")


def test_while_the_database_is_away_what_was_known_holds(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    enrol(engine, "walt-1")
    is_known = Enrolled(engine, refresh_s=0)
    assert is_known("yard", "walt-1")
    with transaction(engine) as connection:
        devices.drop(connection)
    assert is_known("yard", "walt-1")
    assert "believing what was read before" in caplog.text
