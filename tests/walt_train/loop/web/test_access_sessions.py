from __future__ import annotations

import pytest
from sqlalchemy import Engine, select

from tests.walt_train.loop.web.client import PASSWORD, Clock
from walt_train.loop.store.errors import StoreWriteError
from walt_train.loop.web.access.person import Person, Role
from walt_train.loop.web.access.sessions import BROWSER_S, IDLE_S, LIFE_S
from walt_train.loop.web.access.tables import web_sessions, web_tokens
from walt_train.loop.web.access.tokens import DAYS_MAX, LIVE_MAX, TokenError
from walt_train.loop.web.site import Site

ANN = Person("ann", Role.OPERATOR)


@pytest.fixture(autouse=True)
def ann(any_site: Site) -> None:
    any_site.access.people.add("root", Role.ADMIN, PASSWORD)
    any_site.access.people.add("ann", Role.OPERATOR, PASSWORD)


def test_a_session_is_known_by_its_secret_alone(any_site: Site) -> None:
    sessions = any_site.access.sessions
    secret = sessions.begin("ann", "10.0.0.7", "A browser\x1b[31m")
    person = sessions.person(secret)
    assert person is not None
    assert (person.name, person.role, person.token) == ("ann", Role.OPERATOR, "")
    (told,) = sessions.of("ann")
    assert (told.id, told.address, told.agent) == (person.session, "10.0.0.7", "A browser [31m")
    for wrong in ("", secret[:-1], secret + "x", person.session, "\udcff"):
        assert sessions.person(wrong) is None
    with any_site.engine.connect() as connection:
        assert secret not in str(connection.execute(select(web_sessions)).all())


def test_a_session_ends_when_idle_and_when_old(any_site: Site, clock: Clock) -> None:
    sessions = any_site.access.sessions
    secret = sessions.begin("ann", "", "")
    for _ in range(LIFE_S // (IDLE_S - 60)):
        clock.pass_(IDLE_S - 60)
        assert sessions.person(secret) is not None
    clock.pass_(IDLE_S - 60)
    assert sessions.person(secret) is None, "it is too old, though it was used"
    secret = sessions.begin("ann", "", "")
    clock.pass_(IDLE_S + 1)
    assert sessions.person(secret) is None
    assert sessions.of("ann") == []


def test_a_sign_in_takes_the_place_of_the_former(any_site: Site) -> None:
    sessions = any_site.access.sessions
    planted = sessions.begin("ann", "", "")
    secret = sessions.begin("ann", "", "", instead_of=planted)
    assert secret != planted
    assert sessions.person(planted) is None
    assert sessions.person(secret) is not None


def test_one_ends_one_s_own_sessions_alone(any_site: Site) -> None:
    sessions = any_site.access.sessions
    mine, other = sessions.begin("ann", "", ""), sessions.begin("ann", "", "")
    theirs = sessions.begin("root", "", "")
    (root,) = sessions.of("root")
    assert not sessions.end("ann", root.id)
    assert sessions.person(theirs) is not None
    known = sessions.person(other)
    assert known is not None
    assert sessions.end("ann", known.session)
    assert sessions.person(other) is None
    assert sessions.person(mine) is not None
    assert sessions.end_all("ann") == 1
    assert sessions.person(mine) is None
    assert sessions.person(theirs) is not None


def test_the_role_is_that_of_now(any_site: Site) -> None:
    access = any_site.access
    secret = access.sessions.begin("ann", "", "")
    token = access.tokens.make(ANN, "x", "operate", 1)
    access.people.set_role("ann", Role.VIEWER)
    for found in (access.sessions.person(secret), access.tokens.person(token)):
        assert found is not None
        assert found.role is Role.VIEWER
    access.people.set_role("ann", Role.ADMIN)
    lifted = access.tokens.person(token)
    assert lifted is not None
    assert lifted.role is Role.OPERATOR, "a token stays within its scope"


def test_a_browser_is_known_for_the_person_who_signed_in(any_site: Site, clock: Clock) -> None:
    sessions = any_site.access.sessions
    secret = sessions.remember("", "ann")
    assert sessions.knows(secret, "ann")
    assert not sessions.knows(secret, "root")
    newer = sessions.remember(secret, "ann")
    assert not sessions.knows(secret, "ann")
    clock.pass_(BROWSER_S + 1)
    assert not sessions.knows(newer, "ann")


def test_a_full_disk_keeps_nobody_from_looking(any_site: Site, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    access = any_site.access
    secret, token = access.sessions.begin("ann", "", ""), access.tokens.make(ANN, "x", "read", 1)
    clock.pass_(3600)

    def full(_: Engine) -> None:
        raise StoreWriteError("disk full")

    for module in ("sessions", "tokens"):
        monkeypatch.setattr(f"walt_train.loop.web.access.{module}.transaction", full)
    assert access.sessions.person(secret) is not None
    assert access.tokens.person(token) is not None
    with pytest.raises(StoreWriteError):
        access.sessions.begin("ann", "", "")


# Tokens


def test_a_token_is_shown_once_and_kept_as_its_hash(any_site: Site, clock: Clock) -> None:
    tokens = any_site.access.tokens
    shown = tokens.make(ANN, " nightly ", "read", 2)
    assert shown.startswith("walt_")
    found = tokens.person(shown)
    assert found is not None
    assert (found.name, found.role) == ("ann", Role.VIEWER)
    assert found.title == f"ann (token {found.token})"
    (told,) = tokens.of("ann")
    assert (told.label, told.scope, told.used_us) == ("nightly", "read", clock.now_us)
    with any_site.engine.connect() as connection:
        assert shown.split("_", 2)[2] not in str(connection.execute(select(web_tokens)).all())
    for wrong in (
        "",
        "walt",
        shown[:-1],
        shown + "x",
        shown.replace("walt_", "other_"),
        f"walt_{told.id}_",
        "walt_%_x",
    ):
        assert tokens.person(wrong) is None


def test_a_token_ends_when_it_expires_or_is_revoked(any_site: Site, clock: Clock) -> None:
    tokens = any_site.access.tokens
    lasting, revoked = tokens.make(ANN, "a", "read", 2), tokens.make(ANN, "b", "read", 2)
    mark = revoked.split("_")[1]
    assert not tokens.revoke("root", mark)
    assert tokens.revoke("ann", mark)
    assert not tokens.revoke("ann", mark)
    assert tokens.person(revoked) is None
    clock.pass_(2 * 86_400 - 1)
    assert tokens.person(lasting) is not None
    clock.pass_(2)
    assert tokens.person(lasting) is None
    assert tokens.of("ann") == []


@pytest.mark.parametrize(
    ("label", "scope", "days", "says"),
    [
        ("", "read", 1, "what the token is for"),
        ("x" * 65, "read", 1, "what the token is for"),
        ("a\nb", "read", 1, "what the token is for"),
        ("x", "everything", 1, "no scope"),
        ("x", "admin", 1, "may not do more than its owner"),
        ("x", "read", 0, "1 to 366 days"),
        ("x", "read", DAYS_MAX + 1, "1 to 366 days"),
    ],
)
def test_what_token_cannot_be(any_site: Site, label: str, scope: str, days: int, says: str) -> None:
    with pytest.raises(TokenError, match=says):
        any_site.access.tokens.make(ANN, label, scope, days)


def test_nobody_has_tokens_without_end(any_site: Site) -> None:
    for _ in range(LIVE_MAX):
        any_site.access.tokens.make(ANN, "x", "read", 1)
    with pytest.raises(TokenError, match="revoke those that nobody uses"):
        any_site.access.tokens.make(ANN, "x", "read", 1)
