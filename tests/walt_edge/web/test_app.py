"""What the page answers, to whom, and with which headers; over real HTTP."""

from __future__ import annotations

import struct

import cv2
import msgspec
import numpy as np
import pytest

from tests.fakes.agent_view import FakeAgentView
from tests.waiting import wait_for
from tests.web_client import Answer, ask, raw, rest
from walt_edge.web.auth import COOKIE
from walt_edge.web.status import AgentFigures

TOKEN = "a-token-of-good-length"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
SECRET = ("/", "/api/figures", "/metrics", "/live/gate", "/live/gate.jpg", "/static/app.js", "/nothing")


def frame_of(url: str, path: str, headers: dict[str, str] | None = None) -> Answer:
    """The first frame that comes."""
    answers: list[Answer] = []

    def came() -> bool:
        answers.append(ask(url, path, headers=headers))
        return answers[-1].status == 200

    wait_for(came, what=path)
    return answers[-1]


def test_the_page_and_its_files_are_served(local: str) -> None:
    assert b"<title>WALT</title>" in ask(local).body
    for name, media_type in (
        ("app.js", "text/javascript"),
        ("draw.js", "text/javascript"),
        ("figures.js", "text/javascript"),
        ("style.css", "text/css"),
        ("icon.svg", "image/svg+xml"),
    ):
        answer = ask(local, f"/static/{name}")
        assert answer.status == 200
        assert answer.headers["content-type"].startswith(media_type)


def test_a_frame_comes_with_its_outlines_and_once(local: str) -> None:
    answer = frame_of(local, "/live/gate")
    (length,) = struct.unpack("<I", answer.body[:4])
    overlay = msgspec.json.decode(answer.body[4 : 4 + length])
    picture = np.asarray(cv2.imdecode(np.frombuffer(answer.body[4 + length :], np.uint8), cv2.IMREAD_COLOR))
    assert overlay["frame_wh"] == [picture.shape[1], picture.shape[0]] == [640, 384]
    assert overlay["camera"] == "gate"
    assert overlay["amodal"]
    assert 0 <= overlay["age_s"] < 30
    later = ask(local, f"/live/gate?after={overlay['number']}")
    assert later.status == 204 or later.body[4 : 4 + length] != answer.body[4 : 4 + length]


def test_a_picture_alone_is_a_jpeg(local: str) -> None:
    answer = frame_of(local, "/live/yard.jpg")
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.body.startswith(b"\xff\xd8\xff")


def test_a_view_that_nobody_watches_costs_nothing(local: str, view: FakeAgentView) -> None:
    wait_for(lambda: not view.board.is_watched("gate") and not view.board.is_watched("yard"), 30)
    made, turns = view.frames_made, view.turns
    ask(local, "/api/figures")
    ask(local, "/metrics")
    wait_for(lambda: view.turns > turns + 2)
    assert view.frames_made <= made + 1  # One may have been in the making.


def test_figures_are_told_as_they_are(local: str) -> None:
    told = ask(local, "/api/figures").json
    figures = msgspec.convert(told["figures"], AgentFigures)
    assert [lane.camera for lane in figures.lanes] == ["gate", "yard"]
    counts = figures.spool.counts
    assert counts.accepted == counts.acked + counts.dropped + counts.rejected + counts.depth
    assert told["is_ready"] in (True, False)


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_health_says_why_not_to_whom_may_know(path: str, local: str, guarded: str, view: FakeAgentView) -> None:
    wait_for(lambda: ask(local, path).status == 200)
    assert ask(local, path).json == {"ok": True, "reasons": []}
    view.is_hung, view.trouble = True, "the disk is full"
    try:
        answers = {who: ask(url, path, headers=headers) for who, url, headers in _askers(local, guarded)}
    finally:
        view.is_hung, view.trouble = False, ""
    assert {answer.status for answer in answers.values()} == {503}
    assert answers["stranger"].json == answers["wrong"].json == {"ok": False}
    assert len(answers["local"].json["reasons"]) == len(answers["known"].json["reasons"]) == 1


def _askers(local: str, guarded: str) -> list[tuple[str, str, dict[str, str]]]:
    return [
        ("local", local, {}),
        ("known", guarded, BEARER),
        ("stranger", guarded, {}),
        ("wrong", guarded, {"Authorization": "Bearer something-else"}),
    ]


def test_a_stranger_gets_nothing(guarded: str) -> None:
    for path in SECRET:
        answer = ask(guarded, path)
        assert answer.status == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.json == {"error": "a token is needed"}


def test_a_token_opens_everything_and_nearly_the_token_nothing(guarded: str) -> None:
    for path in SECRET:
        wrong = ask(guarded, path, headers={"Authorization": f"Bearer {TOKEN[1:]}"})
        assert (wrong.status, wrong.json) == (401, {"error": "wrong token"})
        expected = (404,) if path == "/nothing" else (200, 204, 503)
        assert ask(guarded, path, headers=BEARER).status in expected


def test_a_person_signs_in_and_out(guarded: str) -> None:
    sent_on = ask(guarded, headers={"Accept": "text/html,*/*"})
    assert (sent_on.status, sent_on.headers["location"]) == (303, "/login")
    assert b"Sign out" in ask(guarded, headers=BEARER).body
    assert b'type="password"' in ask(guarded, "/login").body
    wrong = ask(guarded, "/login", method="POST", headers=FORM, body=b"token=not+the+right+one")
    assert (wrong.status, "set-cookie" in wrong.headers) == (401, False)
    assert b"That is not the token." in wrong.body
    right = ask(guarded, "/login", method="POST", headers=FORM, body=f"token={TOKEN}".encode())
    assert (right.status, right.headers["location"]) == (303, "/")
    cookie = right.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert TOKEN not in cookie
    session = {"Cookie": cookie.partition(";")[0]}
    assert ask(guarded, "/api/figures", headers=session).status == 200
    assert ask(guarded, "/api/figures", headers={"Cookie": session["Cookie"] + "0"}).status == 401
    out = ask(guarded, "/logout", method="POST", headers=session)
    assert f'{COOKIE}=""' in out.headers["set-cookie"]
    assert "Max-Age=0" in out.headers["set-cookie"]


def test_signing_out_is_not_offered_where_nobody_signs_in(local: str) -> None:
    body = ask(local).body
    assert b"hidden data-with-login" in body


def test_who_guesses_has_to_wait(guarded: str) -> None:
    answers = [ask(guarded, "/metrics", headers={"Authorization": f"Bearer guess-{n}"}) for n in range(12)]
    assert [answer.status for answer in answers[:5]] == [401] * 5
    assert answers[-1].status == 429
    assert int(answers[-1].headers["retry-after"]) >= 1
    assert ask(guarded, "/metrics", headers=BEARER).status == 429
    form = ask(guarded, "/login", method="POST", headers=FORM, body=f"token={TOKEN}".encode())
    assert (form.status, "set-cookie" in form.headers) == (429, False)
    assert ask(guarded, "/livez").status == 200, "a watchdog is not locked out by who guesses"


def test_every_answer_carries_the_headers(local: str, guarded: str) -> None:
    paths = ("/", "/metrics", "/nothing", "/static/app.js", "/login", "/live/none")
    for headers in (ask(url, path).headers for url in (local, guarded) for path in paths):
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-frame-options"] == "DENY"
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"
        assert not [name for name in headers if name.startswith("access-control-") or name == "server"]


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "", "192.168.1.4", "["]
)
def test_a_page_from_elsewhere_cannot_reach_the_device_by_a_name_of_its_own(local: str, host: str) -> None:
    for path in ("/", "/livez", "/static/style.css"):
        assert ask(local, path, headers={"Host": host}).status == 421
    assert ask(local, "/", method="POST", headers={"Host": host}).status == 421


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9999", "127.0.0.1", "[::1]:8080", "127.0.0.1:22"])
def test_a_tunnel_may_use_any_port(local: str, host: str) -> None:
    assert ask(local, "/livez", headers={"Host": host}).status in (200, 503)


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "BREW"])
def test_get_only(local: str, method: str) -> None:
    for path in ("/", "/metrics", "/api/figures", "/live/gate"):
        answer = ask(local, path, method=method)
        assert (answer.status, answer.headers["allow"]) == (405, "GET")


def test_a_form_from_another_site_is_refused(guarded: str) -> None:
    body = f"token={TOKEN}".encode()
    for origin in ("http://evil.example", "null", "http://[", ""):
        answer = ask(guarded, "/login", method="POST", headers={**FORM, "Origin": origin}, body=body)
        assert (answer.status, "set-cookie" in answer.headers) == (403, False)
    own = ask(guarded, "/login", method="POST", headers={**FORM, "Origin": guarded.rstrip("/")}, body=body)
    assert own.status == 303


def test_a_form_that_is_none_logs_nobody_in(guarded: str) -> None:
    forms = [b"", b"token", b"token=%ff%fe", b"\xff\xfe", b"&" * 4000, b"token=" + b"9" * 4000]
    answers = [ask(guarded, "/login", method="POST", headers=FORM, body=form) for form in forms]
    assert [answer.status for answer in answers] == [401] * 5 + [429]
    assert not any("set-cookie" in answer.headers for answer in answers)


def test_a_form_that_does_not_end_is_not_read(guarded: str) -> None:
    assert ask(guarded, "/login", method="POST", headers=FORM, body=b"x" * 100_000).status == 413


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/..%2f..%2fsettings.py",
        "/static/%2e%2e/app.py",
        "/static//etc/passwd",
        "/static/%2fetc%2fpasswd",
        "/static/",
        "/static/index.html%00.js",
        "/live/../../etc/passwd",
        "/live/..%2f..%2fetc%2fpasswd",
        "/live/nobody",
        "/live/nobody.jpg",
        "/live/gate%00",
        "/live/gate/",
        "/live/" + "x" * 5000,
        "/docs",
        "/redoc",
        "/openapi.json",
        "//livez",
        "/LIVEZ",
        "/%",
        "/\\..\\app.py",
        "/live/<script>alert(1)</script>",
    ],
)
def test_what_is_not_there_is_not_there(local: str, path: str) -> None:
    answer = raw(local, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    with answer:
        said = rest(answer)
    assert said.startswith((b"HTTP/1.1 404 ", b"HTTP/1.1 400 ")), said[:200]
    assert b"root:" not in said
    assert b"<script>" not in said


@pytest.mark.parametrize("after", ["x", "1e9", "-1", "9" * 4000, "1&after=2", "%00"])
def test_a_number_that_is_none(local: str, after: str) -> None:
    assert ask(local, f"/live/gate?after={after}").status in (200, 204, 422)
