"""Signing in and out, the first admin, one's account and people, as a browser asks for them."""

from __future__ import annotations

import re

import pytest
from starlette.types import ASGIApp

from tests.walt_train.loop.web.client import PASSWORD, Client, Clock, signed_in, site_on
from walt_train.loop.store.store import Store
from walt_train.loop.web.access.cookies import BROWSER, SESSION
from walt_train.loop.web.access.person import Role
from walt_train.loop.web.access.sessions import IDLE_S
from walt_train.loop.web.access.trail import Filter, Line
from walt_train.loop.web.app import make_app
from walt_train.loop.web.site import Site

OTHER = "four other random words"


@pytest.fixture
def app(site: Site) -> ASGIApp:
    site.access.people.add("ann", Role.ADMIN, PASSWORD)
    return make_app(site)


def entries(site: Site, what: str) -> list[Line]:
    return site.access.trail.newest(Filter(what=what), 50)


def sign_in(client: Client, name: str = "ann", password: str = PASSWORD, **more: str) -> int:
    return client.post("/sign-in", {"name": name, "password": password} | more).status


# The first admin


def test_the_first_admin_is_made_once_with_the_token(any_site: Site) -> None:
    client = Client(make_app(any_site))
    assert client.get("/sign-in").headers["location"] == "/setup"
    token = any_site.first.offer() or ""
    form = {"token": token, "name": "Ann", "password": PASSWORD, "again": PASSWORD}
    assert client.post("/setup", form | {"token": "wrong"}).status == 403
    assert "differ" in client.post("/setup", form | {"again": OTHER}).text
    assert "at least 12 characters" in client.post("/setup", form | {"password": "x", "again": "x"}).text
    assert client.cookies == {}
    assert client.post("/setup", form).headers["location"] == "/fleet"
    assert client.get("/account").status == 200
    assert "last sign-in" in client.get("/people").text.lower()
    stranger = Client(make_app(any_site))
    assert stranger.get("/setup").headers["location"] == "/sign-in"
    late = stranger.post("/setup", form | {"name": "eve"})
    assert late.status == 400
    assert "there already" in late.text
    assert [one.name for one in any_site.access.people.all()] == ["ann"]
    outcomes = [(line.outcome, line.who) for line in entries(any_site, "people.first")]
    assert outcomes == [("done", "ann"), ("failed", "")]


def test_the_token_cannot_be_guessed_for_long(site: Site) -> None:
    client = Client(make_app(site))
    form = {"name": "eve", "password": PASSWORD, "again": PASSWORD}
    statuses = [client.post("/setup", form | {"token": str(number)}).status for number in range(14)]
    assert statuses[:11] == [403] * 11
    assert statuses[-1] == 429
    token = site.first.offer() or ""
    assert client.post("/setup", form | {"token": token}).status == 429, "not even the right one"


# Signing in


def test_a_sign_in_begins_a_session_and_a_sign_out_ends_it(any_site: Site) -> None:
    any_site.access.people.add("ann", Role.VIEWER, PASSWORD)
    client = Client(make_app(any_site))
    assert client.get("/account").headers["location"] == "/sign-in?next=%2Faccount"
    assert sign_in(client, password="wrong") == 401
    assert client.cookies == {}
    answer = client.post("/sign-in", {"name": " ANN ", "password": PASSWORD, "next": "/account?x=1"})
    assert answer.headers["location"] == "/account?x=1"
    for part in ("HttpOnly", "SameSite=lax", "Path=/"):
        assert part in answer.headers["set-cookie"]
    secret = client.cookies[SESSION]
    assert client.get("/account").status == 200
    assert client.get("/sign-in").headers["location"] == "/fleet"
    assert client.post("/sign-out").headers["location"] == "/sign-in"
    assert SESSION not in client.cookies
    client.cookies[SESSION] = secret
    assert client.get("/account").status == 303, "the cookie that somebody kept is worth nothing"
    done = [(line.what, line.outcome) for line in any_site.access.trail.newest(Filter(), 9)]
    assert done == [("sign-out", "done"), ("sign-in", "done"), ("sign-in", "failed")]


def test_a_sign_in_makes_a_new_session_whatever_was_shown(app: ASGIApp, site: Site) -> None:
    client = Client(app)
    client.cookies[SESSION] = "planted"
    assert sign_in(client) == 303
    first = client.cookies[SESSION]
    assert first != "planted"
    assert client.post("/sign-in", {"name": "ann", "password": PASSWORD}).status == 303
    assert client.cookies[SESSION] != first
    assert len(site.access.sessions.of("ann")) == 1


@pytest.mark.parametrize(
    "where",
    [
        "//evil.example",
        "https://evil.example",
        "/\\evil.example",
        "\\/evil.example",
        "javascript:1",
        "",
        "/a\r\nb",
        "evil",
        "/x\\..//y",
    ],
)
def test_a_sign_in_leads_to_a_page_of_ours(app: ASGIApp, where: str) -> None:
    answer = Client(app).post("/sign-in", {"name": "ann", "password": PASSWORD, "next": where})
    assert answer.headers["location"] == "/fleet"


def test_a_sign_in_from_another_site_is_refused(app: ASGIApp) -> None:
    client = Client(app)
    form = {"name": "ann", "password": PASSWORD}
    assert client.post("/sign-in", form, origin="https://evil.example").status == 403
    assert client.post("/sign-in", form, sec_fetch_site="cross-site").status == 403
    assert client.cookies == {}


def test_known_and_unknown_names_are_told_the_same(app: ASGIApp, site: Site) -> None:
    site.access.people.add("bob", Role.VIEWER, PASSWORD)
    site.access.people.disable("bob")
    told = set()
    for name, password in (("ann", "wrong"), ("nobody", "wrong"), ("bob", PASSWORD), ("<b>", "x")):
        answer = Client(app).post("/sign-in", {"name": name, "password": password})
        assert answer.status == 401
        told.add(re.sub(r' value="[^"]*"', "", answer.text))
    assert len(told) == 1


def test_whoever_guesses_waits_and_the_owner_s_browser_does_not(app: ASGIApp, site: Site, clock: Clock) -> None:
    owner = Client(app, address="192.0.2.1")
    assert sign_in(owner) == 303
    owner.post("/sign-out")
    assert BROWSER in owner.cookies
    statuses = []
    for number in range(12):
        statuses.append(sign_in(Client(app, address=f"10.0.0.{number}"), password="wrong"))
        clock.pass_(0.001)
    assert statuses == [401] * 11 + [429]
    elsewhere = Client(app, address="192.0.2.9")
    answer = elsewhere.post("/sign-in", {"name": "ann", "password": PASSWORD})
    assert answer.status == 429
    assert int(answer.headers["retry-after"]) <= 30
    assert "Too many wrong passwords: wait" in answer.text
    assert sign_in(owner) == 303, "a stranger slows nobody down where that one has signed in before"
    clock.pass_(30)
    assert sign_in(elsewhere) == 303, "nor locks anybody out"


def test_a_session_that_was_left_alone_ends(app: ASGIApp, site: Site, clock: Clock) -> None:
    client = signed_in(site, Role.VIEWER, app=app)
    assert client.get("/account").status == 200
    clock.pass_(IDLE_S + 1)
    assert client.get("/account").status == 303
    late = client.post("/account/tokens", {"label": "x", "scope": "read", "days": 1})
    assert late.status == 401
    assert "Your session may have ended." in late.text
    assert 'href="/sign-in"' in late.text
    assert site.access.tokens.of("some-viewer") == []


def test_several_processes_share_the_sessions(any_store: Store, clock: Clock) -> None:
    one, other = (site_on(any_store, clock=clock) for _ in range(2))
    one.access.people.add("ann", Role.VIEWER, PASSWORD)
    client = Client(make_app(one))
    assert sign_in(client) == 303
    elsewhere = Client(make_app(other))
    elsewhere.cookies = client.cookies
    assert elsewhere.get("/account").status == 200
    assert elsewhere.post("/sign-out").status == 303
    assert client.get("/account").status == 303


# One's account


def test_a_new_password_needs_the_old_and_ends_the_other_sessions(app: ASGIApp, site: Site) -> None:
    here, there = signed_in(site, Role.VIEWER, app=app), signed_in(site, Role.VIEWER, app=app)
    form = {"old": PASSWORD, "password": OTHER, "again": OTHER}
    assert here.post("/account/password", form | {"old": "wrong"}).status == 403
    assert here.post("/account/password", form | {"again": "x"}).status == 400
    assert here.post("/account/password", form | {"password": "password1234", "again": "password1234"}).status == 400
    assert there.get("/account").status == 200
    before = here.cookies[SESSION]
    assert here.post("/account/password", form).headers["location"] == "/account"
    assert here.cookies[SESSION] != before
    assert here.get("/account").status == 200
    assert there.get("/account").status == 303
    assert [line.outcome for line in entries(site, "people.password")] == ["done", "failed"]


def test_whoever_sits_at_an_open_browser_cannot_guess_the_password(app: ASGIApp, site: Site) -> None:
    client = signed_in(site, Role.VIEWER, app=app)
    form = {"old": "wrong", "password": OTHER, "again": OTHER}
    statuses = [client.post("/account/password", form).status for _ in range(12)]
    assert statuses[-1] == 429


def test_one_sees_and_ends_one_s_sessions(app: ASGIApp, site: Site) -> None:
    here, there = signed_in(site, Role.VIEWER, app=app), signed_in(site, Role.VIEWER, app=app)
    page = here.get("/account").text
    (mark,) = re.findall(r'action="/account/sessions/([0-9a-f]+)/end"', page)
    assert page.count("this one") == 1
    assert here.post(f"/account/sessions/{mark}/end").status == 303
    assert "Signed out there." in here.get("/account").text
    assert "Signed out there." not in here.get("/account").text, "it is said once"
    assert there.get("/account").status == 303
    stranger = signed_in(site, Role.OPERATOR, app=app)
    (mine,) = site.access.sessions.of("some-viewer")
    stranger.post(f"/account/sessions/{mine.id}/end")
    assert here.get("/account").status == 200
    assert here.post("/account/sessions/end").headers["location"] == "/sign-in"
    assert here.get("/account").status == 303


def test_a_token_is_shown_once_and_revoked(app: ASGIApp, site: Site) -> None:
    client = signed_in(site, Role.OPERATOR, app=app)
    assert "<option>admin</option>" not in client.get("/account").text
    assert client.post("/account/tokens", {"label": "x", "scope": "admin", "days": 1}).status == 400
    assert client.post("/account/tokens", {"label": "x", "scope": "read", "days": "many"}).status == 400
    made = client.post("/account/tokens", {"label": "<b>nightly</b>", "scope": "operate", "days": 30})
    (token,) = re.findall(r"walt_[0-9a-f]{16}_[\w-]{43}", made.text)
    assert "&lt;b&gt;nightly" in made.text
    assert token not in client.get("/account").text
    program = Client(app)
    assert program.get("/help", authorization=f"Bearer {token}").status == 200
    mark = token.split("_")[1]
    assert client.post(f"/account/tokens/{mark}/revoke").status == 303
    assert program.get("/help", authorization=f"Bearer {token}", accept="*/*").status == 401
    assert [(line.what, line.subject) for line in entries(site, "token")] == [
        ("token.show", "/help"),
        ("token.revoke", mark),
        ("token.make", mark),
    ]


def test_light_and_dark_are_remembered(app: ASGIApp, site: Site) -> None:
    client = signed_in(site, Role.VIEWER, app=app)
    assert "data-theme" not in client.get("/account").text
    assert client.post("/theme", {"theme": "dark", "next": "/help"}).headers["location"] == "/help"
    assert '<html lang="en" data-theme="dark">' in client.get("/account").text
    client.post("/theme", {"theme": '"><script>'})
    assert "data-theme" not in client.get("/account").text
    client.cookies["walt_theme"] = '"><script>'
    assert "data-theme" not in client.get("/account").text


def test_what_the_next_page_says_is_ours_alone(app: ASGIApp, site: Site) -> None:
    client = signed_in(site, Role.ADMIN, app=app)
    other = signed_in(site, Role.VIEWER, app=app)
    client.post("/people", {"name": "eve", "role": "viewer", "password": OTHER})
    said = client.cookies["walt_said"]
    for forged in ("x", "x.y", said[:-1] + "0", ".", "é"):
        client.cookies["walt_said"] = forged
        assert client.get("/help").status == 200
        assert 'class="said' not in client.get("/help").text
    other.cookies["walt_said"] = said
    assert 'class="said' not in other.get("/help").text
    client.cookies["walt_said"] = said
    assert "eve may sign in as viewer" in client.get("/help").text


# People


def test_an_admin_lets_people_in_and_out(app: ASGIApp, site: Site) -> None:
    admin = signed_in(site, Role.ADMIN, "ann", app=app)
    assert admin.post("/people", {"name": "Bob", "role": "operator", "password": OTHER}).status == 303
    assert "bob may sign in as operator" in admin.get("/people").text
    assert admin.post("/people", {"name": "bob", "role": "operator", "password": OTHER}).status == 400
    weak = admin.post("/people", {"name": "cy<i>", "role": "viewer", "password": "short"})
    assert weak.status == 400
    assert 'value="cy&lt;i&gt;"' in weak.text
    bob = Client(app)
    assert sign_in(bob, "bob", OTHER) == 303
    assert admin.post("/people/bob/role", {"role": "viewer"}).status == 303
    assert 'href="/label"' not in bob.get("/account").text, "from the next request on"
    assert admin.post("/people/bob/password", {"password": PASSWORD}).status == 303
    assert bob.get("/account").status == 303
    assert sign_in(bob, "bob", PASSWORD) == 303
    assert admin.post("/people/bob/disable").status == 303
    assert bob.get("/account").status == 303
    assert sign_in(bob, "bob", PASSWORD) == 401
    assert admin.post("/people/bob/enable").status == 303
    assert sign_in(bob, "bob", PASSWORD) == 303
    acts = [line.what for line in entries(site, "people")]
    assert acts == ["people.enable", "people.disable", "people.password", "people.role", "people.add"]


def test_the_last_admin_is_told_why_not(app: ASGIApp, site: Site) -> None:
    admin = signed_in(site, Role.ADMIN, "ann", app=app)
    for path, form in (("/people/ann/disable", {}), ("/people/ann/role", {"role": "viewer"})):
        assert admin.post(path, form).headers["location"] == "/people"
        page = admin.get("/people").text
        assert 'class="said bad" role="alert">ann is the last admin: make somebody else an admin first.' in page
    assert admin.post("/people/nobody/disable").status == 303
    assert "there is no" in admin.get("/people").text
    assert admin.post("/people/ann/role", {"role": "emperor"}).status == 400
    assert {line.outcome for line in entries(site, "people")} == {"failed"}
