from __future__ import annotations

import threading

import pytest
from sqlalchemy import select

from tests.walt_train.loop.web.client import PASSWORD, QUICK, Clock
from walt_train.loop.web.access.first import FirstAdmin, WrongTokenError
from walt_train.loop.web.access.passwords import PasswordError, Passwords
from walt_train.loop.web.access.people import People, PeopleError, check_name
from walt_train.loop.web.access.person import Person, Role
from walt_train.loop.web.access.tables import people as table
from walt_train.loop.web.site import Site

OTHER = "four other random words"


def test_who_was_let_in_enters_and_nobody_else(any_site: Site) -> None:
    people = any_site.access.people
    assert people.is_empty()
    made = people.add(" Ann ", Role.OPERATOR, PASSWORD)
    assert (made.name, made.role, made.disabled_us) == ("ann", Role.OPERATOR, None)
    assert not people.is_empty()
    entered = people.enter("ANN", PASSWORD)
    assert entered is not None
    assert entered.name == "ann"
    for name, password in (("ann", OTHER), ("ann", ""), ("bob", PASSWORD), ("", ""), ("ann\0", PASSWORD)):
        assert people.enter(name, password) is None


def test_a_password_is_nowhere(any_site: Site) -> None:
    any_site.access.people.add("ann", Role.ADMIN, PASSWORD)
    with any_site.engine.connect() as connection:
        row = connection.execute(select(table)).one()
    assert PASSWORD not in str(row)
    assert row.password.startswith("$argon2id$")


@pytest.mark.parametrize("name", ["", " ", "-ann", "a b", "ann\n", "a" * 65, "ann/../bob", "<b>", "änn", "ann\0"])
def test_what_cannot_be_a_name(site: Site, name: str) -> None:
    if name == "ann\n":
        assert check_name(name) == "ann"
        return
    with pytest.raises(PeopleError, match="cannot be a name"):
        site.access.people.add(name, Role.VIEWER, PASSWORD)


def test_a_name_is_one_person_s_for_good(any_site: Site) -> None:
    people = any_site.access.people
    people.add("root", Role.ADMIN, PASSWORD)
    people.add("ann", Role.VIEWER, PASSWORD)
    people.disable("ann")
    with pytest.raises(PeopleError, match="there is a ann already"):
        people.add("Ann", Role.ADMIN, PASSWORD)


def test_the_last_admin_stays_one(any_site: Site) -> None:
    people = any_site.access.people
    people.add("ann", Role.ADMIN, PASSWORD)
    people.add("bob", Role.ADMIN, PASSWORD)
    people.add("cy", Role.OPERATOR, PASSWORD)
    people.disable("bob")
    says = "ann is the last admin: make somebody else an admin first"
    with pytest.raises(PeopleError, match=says):
        people.set_role("ann", Role.VIEWER)
    with pytest.raises(PeopleError, match=says):
        people.disable("ann")
    people.set_role("ann", Role.ADMIN)
    people.enable("bob")
    people.set_role("ann", Role.VIEWER)
    assert people.read("ann").role is Role.VIEWER


def test_two_admins_who_lower_each_other_at_once_leave_one(any_site: Site) -> None:
    people = any_site.access.people
    for turn in range(4):
        names = (f"ann{turn}", f"bob{turn}")
        for name in names:
            people.add(name, Role.ADMIN, PASSWORD)
        for one in people.all():
            if one.name not in names and one.role is Role.ADMIN:
                people.set_role(one.name, Role.VIEWER)
        barrier = threading.Barrier(2)
        refused: list[str] = []

        def lower(name: str, barrier: threading.Barrier = barrier, refused: list[str] = refused) -> None:
            barrier.wait()
            try:
                people.set_role(name, Role.VIEWER)
            except PeopleError:
                refused.append(name)

        threads = [threading.Thread(target=lower, args=(name,)) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(refused) == 1
        assert [one.name for one in people.all() if one.role is Role.ADMIN] == refused


def test_a_new_password_signs_out_everywhere(any_site: Site) -> None:
    access = any_site.access
    access.people.add("ann", Role.VIEWER, PASSWORD)
    secret = access.sessions.begin("ann", "", "")
    browser = access.sessions.remember("", "ann")
    access.people.set_password("ann", OTHER)
    assert access.sessions.person(secret) is None
    assert not access.sessions.knows(browser, "ann")
    assert access.people.enter("ann", PASSWORD) is None
    assert access.people.enter("ann", OTHER) is not None


def test_who_is_disabled_is_out_at_once_and_tokens_stay_revoked(any_site: Site) -> None:
    access = any_site.access
    access.people.add("root", Role.ADMIN, PASSWORD)
    access.people.add("ann", Role.VIEWER, PASSWORD)
    secret = access.sessions.begin("ann", "", "")
    token = access.tokens.make(Person("ann", Role.VIEWER), "x", "read", 1)
    access.people.disable("ann")
    assert access.people.enter("ann", PASSWORD) is None
    access.people.enable("ann")
    assert access.people.enter("ann", PASSWORD) is not None
    assert access.sessions.person(secret) is None
    assert access.tokens.person(token) is None


def test_a_dated_hash_is_renewed_at_the_next_sign_in(any_site: Site, clock: Clock) -> None:
    any_site.access.people.add("ann", Role.VIEWER, PASSWORD)
    dearer = People(any_site.engine, Passwords(time_cost=2, memory_kib=64), clock)

    def stored() -> str:
        with any_site.engine.connect() as connection:
            return str(connection.scalar(select(table.c.password)))

    assert "t=1" in stored()
    assert dearer.enter("ann", OTHER) is None
    assert "t=1" in stored()
    assert dearer.enter("ann", PASSWORD) is not None
    assert "t=2" in stored()
    assert dearer.enter("ann", PASSWORD) is not None


def test_nobody_there_is_told(site: Site) -> None:
    for change in (
        lambda: site.access.people.read("bob"),
        lambda: site.access.people.set_role("bob", Role.ADMIN),
        lambda: site.access.people.set_password("bob", OTHER),
        lambda: site.access.people.disable("bob"),
        lambda: site.access.people.enable("bob"),
    ):
        with pytest.raises(PeopleError, match="there is no 'bob'"):
            change()


# The first admin


def test_the_set_up_token_lets_one_in_once(any_site: Site) -> None:
    first = any_site.first
    token = first.offer()
    assert token is not None
    assert first.offer() == token
    with pytest.raises(WrongTokenError, match="not the set-up token"):
        first.enter("x" * 43, "ann", PASSWORD)
    with pytest.raises(PasswordError):
        first.enter(token, "ann", "short")
    assert first.enter(f" {token} ", "ann", PASSWORD).role is Role.ADMIN
    assert first.offer() is None
    with pytest.raises(PeopleError, match="there already"):
        first.enter(token, "eve", PASSWORD)
    assert [one.name for one in any_site.access.people.all()] == ["ann"]


def test_a_restart_makes_another_token(any_site: Site) -> None:
    again = FirstAdmin(any_site.access.people)
    old, new = any_site.first.offer(), again.offer()
    assert old != new
    assert old is not None
    with pytest.raises(WrongTokenError):
        again.enter(old, "ann", PASSWORD)


def test_two_processes_let_one_first_admin_in(any_site: Site, clock: Clock) -> None:
    offices = [FirstAdmin(People(any_site.engine, QUICK, clock)) for _ in range(2)]
    tokens = [office.offer() for office in offices]
    barrier, refused = threading.Barrier(2), []

    def enter(number: int) -> None:
        barrier.wait()
        try:
            offices[number].enter(tokens[number] or "", f"admin{number}", PASSWORD)
        except PeopleError:
            refused.append(number)

    threads = [threading.Thread(target=enter, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 1
    assert len(any_site.access.people.all()) == 1
