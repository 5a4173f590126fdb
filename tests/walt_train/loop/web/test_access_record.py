"""The record of what was done, what is told when there is no page, and how numbers are shown."""

from __future__ import annotations

import csv
import io
import re

import pytest
from starlette.types import ASGIApp

from tests.walt_train.loop.web.client import PASSWORD, Client, Clock, signed_in
from walt_train.loop.web.access.passwords import BusyError
from walt_train.loop.web.access.person import Role
from walt_train.loop.web.app import make_app
from walt_train.loop.web.render import ago, browser, count, size, utc
from walt_train.loop.web.site import Site


@pytest.fixture
def app(site: Site) -> ASGIApp:
    site.access.people.add("ann", Role.ADMIN, PASSWORD)
    return make_app(site)


# The record


def test_the_record_is_shown_filtered_and_by_page(app: ASGIApp, site: Site, clock: Clock) -> None:
    admin = signed_in(site, Role.ADMIN, "ann", app=app)
    for number in range(250):
        clock.pass_(1)
        site.access.trail.note(
            "bob", "rollout.pause", f"<rollout {number}>", outcome="done" if number % 2 else "failed"
        )
    pages = [admin.get("/audit?what=rollout").text]
    for _ in range(2):
        older = re.search(r'href="(/audit\?[^"]*before=\d+)"', pages[-1])
        assert older
        pages.append(admin.get(older.group(1).replace("&amp;", "&")).text)
    shown = [number for page in pages for number in re.findall(r"&lt;rollout (\d+)&gt;", page)]
    assert shown == [str(number) for number in reversed(range(250))]
    assert "before=" not in pages[-1].partition('rel="next"')[2]
    assert admin.get("/audit?outcome=failed&who=BOB").text.count("&lt;rollout") == 100
    assert "Nothing fits" in admin.get("/audit?who=nobody").text
    assert "Nothing fits" in admin.get("/audit?until=2001-01-01").text
    for wrong in ("outcome=x", "since=yesterday", "before=x", "before=-1", f"who={'x' * 99}", "until=9999-12-31"):
        assert admin.get(f"/audit?{wrong}").status == 400


def test_the_record_comes_as_a_table_that_runs_nothing(app: ASGIApp, site: Site) -> None:
    admin = signed_in(site, Role.ADMIN, "ann", app=app)
    for number in range(450):
        site.access.trail.note("bob", "rollout.pause", f"rollout {number}", detail='a, "b"')
    site.access.trail.note('=HYPERLINK("http://evil.example")', "sign-in", "@x", outcome="failed", address="10.0.0.7")
    answer = admin.get("/audit.csv?since=2001-01-01")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert "attachment" in answer.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert len(rows) == 452
    assert (rows[0]["what"], rows[0]["who"]) == ("audit.read", "ann")
    assert (rows[1]["who"], rows[1]["of"]) == ('\'=HYPERLINK("http://evil.example")', "'@x")
    assert rows[2]["detail"] == 'a, "b"'
    assert rows[2]["at"].endswith(" UTC")


# What is told when there is no page


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/nowhere", 404, "There is no such page."),
        ("/people/x", 404, "There is no such page."),
        ("/people/x/role", 405, "This page cannot be asked like this."),
        ("/audit?before=x", 400, "Before:"),
    ],
)
def test_errors_say_what_to_do(app: ASGIApp, site: Site, path: str, status: int, words: str) -> None:
    answer = signed_in(site, Role.ADMIN, app=app).get(path)
    assert answer.status == status
    assert words in answer.text
    assert 'href="/fleet"' in answer.text


def test_a_mistake_of_ours_is_logged_and_not_shown(
    site: Site, app: ASGIApp, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client = signed_in(site, Role.VIEWER, app=app)

    def break_off(name: str) -> None:
        raise RuntimeError("the secret of secrets")

    monkeypatch.setattr("walt_train.loop.web.access.tokens.Tokens.of", lambda self, name: break_off(name))
    with pytest.raises(RuntimeError, match="secret of secrets"):
        client.get("/account")
    assert "a mistake of ours at GET /account" in caplog.text


def test_a_store_that_does_not_answer_is_told_so(
    site: Site, app: ASGIApp, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client = signed_in(site, Role.VIEWER, app=app)
    for broken in ("access.sessions.Sessions.person", "access.tokens.Tokens.of"):
        with monkeypatch.context() as patch:

            def fail(*_: object) -> None:
                raise OSError("disk /secret/place is gone")

            patch.setattr(f"walt_train.loop.web.{broken}", fail)
            answer = client.get("/account")
        assert answer.status == 503
        assert answer.headers["retry-after"] == "30"
        assert "The store does not answer now." in answer.text
        assert "secret" not in answer.text
    assert "disk /secret/place is gone" in caplog.text


def test_a_crowd_at_the_door_is_told_to_come_again(site: Site, app: ASGIApp, monkeypatch: pytest.MonkeyPatch) -> None:
    def crowd(*_: object) -> None:
        raise BusyError("too many people sign in at once: try again in a moment")

    monkeypatch.setattr("walt_train.loop.web.access.passwords.Passwords.is_right", crowd)
    answer = Client(app).post("/sign-in", {"name": "ann", "password": PASSWORD})
    assert answer.status == 503
    assert "Too many people sign in at once" in answer.text


# How numbers are shown


def test_numbers_are_shown_as_people_read_them() -> None:
    now = 1_795_000_000_000_000
    told = [
        ago(now - round(s * 1e6), now) for s in (0, 0.4, 1, 59, 60, 3599, 3600, 86_399, 86_400, 86_400 * 4000, -90)
    ]
    assert told == ["now", "now", "1 s ago", "59 s ago", "1 min ago", "59 min ago", "1 h ago", "23 h ago", "1 d ago",
                    "4\N{NARROW NO-BREAK SPACE}000 d ago", "in 1 min"]  # fmt: skip
    assert ago(None, now) == "never"
    assert utc(now) == "2026-11-18 11:06:40 UTC"
    assert utc(None) == "–"
    assert utc(10**20) == f"{10**20} µs"
    assert [count(n) for n in (None, 0, 999, 1234567)] == [
        "–",
        "0",
        "999",
        "1\N{NARROW NO-BREAK SPACE}234\N{NARROW NO-BREAK SPACE}567",
    ]
    assert [size(n) for n in (None, 0, 999, 1000, 1.25e9, 5e15)] == [
        "–",
        "0 B",
        "999 B",
        "1.0 kB",
        "1.2 GB",
        "5000.0 TB",
    ]
    firefox = "Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0"
    assert [browser(one) for one in (firefox, "curl/8", "")] == ["Firefox on Linux", "curl/8", "unknown"]
