from __future__ import annotations

import threading

import pytest
from sqlalchemy import insert

from tests.walt_train.loop.web.client import Clock
from walt_train.loop.store.database import transaction
from walt_train.loop.web.access.attempts import Attempts, guessed
from walt_train.loop.web.access.rates import Rates
from walt_train.loop.web.access.tables import audit_log
from walt_train.loop.web.access.trail import KEPT_DAYS, Filter, Trail
from walt_train.loop.web.site import Site

WHERE, NAME = "10.0.0.7", "ann"


def wrong(attempts: Attempts, times: int, address: str = WHERE, name: str = NAME, browser: str = "") -> None:
    for _ in range(times):
        attempts.failed(guessed(address, name, browser))


def test_a_slip_costs_nothing_and_guessing_more_each_time(any_site: Site, clock: Clock) -> None:
    attempts = any_site.access.attempts
    wrong(attempts, 10)
    assert attempts.wait_s(guessed(WHERE, NAME)) == 0
    waits = []
    for _ in range(12):
        wrong(attempts, 1)
        waits.append(attempts.wait_s(guessed(WHERE, "somebody else")))
    assert waits[:5] == [2, 4, 8, 16, 32]
    assert waits[-1] == 900, "an address waits a quarter of an hour at most"
    clock.pass_(901)
    assert attempts.wait_s(guessed(WHERE, NAME)) == 0
    wrong(attempts, 1)
    assert attempts.wait_s(guessed(WHERE, NAME)) == 900, "waiting does not wipe the slate"
    clock.pass_(86_401)
    wrong(attempts, 1)
    assert attempts.wait_s(guessed(WHERE, NAME)) == 0, "a day does"


def test_many_addresses_against_one_name_slow_it_by_half_a_minute_at_most(any_site: Site) -> None:
    attempts = any_site.access.attempts
    for number in range(60):
        wrong(attempts, 1, f"10.1.0.{number}")
    assert attempts.wait_s(guessed("192.0.2.1", NAME)) == 30
    assert attempts.wait_s(guessed("192.0.2.1", "bob")) == 0


def test_a_stranger_does_not_slow_a_known_browser(any_site: Site) -> None:
    attempts = any_site.access.attempts
    for number in range(60):
        wrong(attempts, 1, f"10.1.0.{number}")
    assert attempts.wait_s(guessed("192.0.2.1", NAME, "the secret of a browser")) == 0
    wrong(attempts, 20, "192.0.2.2", NAME, "the secret of a browser")
    assert attempts.wait_s(guessed("192.0.2.1", NAME, "the secret of a browser")) == 300


def test_the_right_password_forgives_the_name_and_not_the_address(any_site: Site) -> None:
    attempts = any_site.access.attempts
    wrong(attempts, 15)
    attempts.succeeded(guessed(WHERE, NAME))
    assert attempts.wait_s(guessed("192.0.2.1", NAME)) == 0
    assert attempts.wait_s(guessed(WHERE, NAME)) > 0


def test_wrong_ones_of_many_processes_add_up(any_site: Site, clock: Clock) -> None:
    doors = [Attempts(any_site.engine, clock) for _ in range(4)]
    threads = [threading.Thread(target=wrong, args=(door, 4)) for door in doors]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert doors[0].wait_s(guessed(WHERE, "somebody else")) == 2**6


# Rates


def test_a_bucket_fills_steadily() -> None:
    now_s = 0.0
    rates = Rates(2.0, 5, lambda: now_s)
    assert [rates.wait_s(WHERE) for _ in range(5)] == [0.0] * 5
    assert rates.wait_s(WHERE) == pytest.approx(0.5)
    assert rates.wait_s("10.0.0.8") == 0
    now_s = 0.6
    assert rates.wait_s(WHERE) == 0
    assert rates.wait_s(WHERE) > 0


def test_an_ipv6_client_is_its_network() -> None:
    rates = Rates(1.0, 2, lambda: 0.0)
    assert [rates.wait_s(f"2001:db8:1:2::{number}") > 0 for number in range(4)] == [False, False, True, True]
    assert rates.wait_s("2001:db8:1:3::1") == 0


def test_addresses_are_bounded() -> None:
    rates = Rates(1.0, 2, lambda: 0.0)
    for number in range(12_000):
        rates.wait_s(f"name-{number}")
    assert len(rates._left) <= 10_000


# The record


def test_the_record_is_read_by_page_and_filter(any_site: Site, clock: Clock) -> None:
    trail = any_site.access.trail
    for number in range(7):
        clock.pass_(60)
        trail.note("ann" if number % 2 else "bob", "rollout.pause", f"rollout {number}", address=WHERE)
    trail.note("eve", "sign-in", "eve", outcome="failed", address="192.0.2.1")
    first = trail.newest(Filter(), 5)
    assert [line.subject for line in first] == ["eve", "rollout 6", "rollout 5", "rollout 4", "rollout 3"]
    rest = trail.newest(Filter(), 5, before=first[-1].id)
    assert [line.subject for line in rest] == ["rollout 2", "rollout 1", "rollout 0"]
    assert [line.subject for line in trail.newest(Filter(who="ann"), 9)] == ["rollout 5", "rollout 3", "rollout 1"]
    assert len(trail.newest(Filter(what="rollout"), 9)) == 7
    assert trail.newest(Filter(what="roll%"), 9) == []
    assert [line.who for line in trail.newest(Filter(outcome="failed"), 9)] == ["eve"]
    since = first[2].at_us
    assert len(trail.newest(Filter(since_us=since), 9)) == 3
    assert len(trail.newest(Filter(until_us=since), 9)) == 5
    assert list(trail.each(Filter())) == trail.newest(Filter(), 99)


def test_entries_of_many_processes_are_numbered_one_after_the_other(any_site: Site, clock: Clock) -> None:
    """Also after a restore, which brings rows with their numbers."""
    with transaction(any_site.engine) as connection:
        row = {"id": 41, "at_us": 1, "who": "ann", "token": "", "what": "old", "subject": "", "detail": ""}
        connection.execute(insert(audit_log).values(row | {"address": "", "outcome": "done"}))

    def note(trail: Trail) -> None:
        for _ in range(8):
            trail.note("bob", "new", "")

    threads = [threading.Thread(target=note, args=(Trail(any_site.engine, clock),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [line.id for line in any_site.access.trail.each(Filter(what="new"))] == list(range(73, 41, -1))


def test_what_a_stranger_says_is_cut_and_cleaned(any_site: Site) -> None:
    any_site.access.trail.note("e" * 5000, "x", "y\n\x1b[0m\0z" * 1000, detail="d" * 9000, address="a" * 999)
    (line,) = any_site.access.trail.newest(Filter(), 1)
    assert (len(line.who), len(line.subject), len(line.detail), len(line.address)) == (64, 200, 2000, 64)
    assert line.subject.startswith("y  [0m z")


def test_entries_are_let_go_by_age_alone(any_site: Site, clock: Clock) -> None:
    trail = any_site.access.trail
    trail.note("ann", "old", "")
    clock.pass_((KEPT_DAYS - 1) * 86_400)
    trail.note("ann", "younger", "")
    clock.pass_(86_401)
    trail.note("ann", "new", "")
    assert [line.what for line in trail.newest(Filter(), 9)] == ["new", "younger"]


def test_the_record_has_no_way_to_change_an_entry() -> None:
    assert {name for name in vars(Trail) if not name.startswith("_")} == {"note", "newest", "each"}
