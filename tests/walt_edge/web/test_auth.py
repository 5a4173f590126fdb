"""Tokens, sessions and waiting."""

from __future__ import annotations

import pytest

from walt_edge.web.auth import COOKIE, SESSION_S, Doorkeeper, Throttle, Verdict

TOKEN = "a-token-of-good-length"
HERE = "192.0.2.7"


def cookie(value: str) -> str:
    return f"theme=dark; {COOKIE}={value}; other=1"


@pytest.mark.parametrize(
    ("authorization", "expected"),
    [
        (f"Bearer {TOKEN}", Verdict.ALLOWED),
        (f"bearer  {TOKEN} ", Verdict.ALLOWED),
        (None, Verdict.NO_LOGIN),
        (f"Basic {TOKEN}", Verdict.NO_LOGIN),
        (TOKEN, Verdict.NO_LOGIN),
        ("Bearer", Verdict.WRONG_TOKEN),
        (f"Bearer {TOKEN[:-1]}", Verdict.WRONG_TOKEN),
        (f"Bearer {TOKEN}x", Verdict.WRONG_TOKEN),
        ("Bearer \udcff\udcfe", Verdict.WRONG_TOKEN),
    ],
)
def test_bearer_tokens(authorization: str | None, expected: Verdict) -> None:
    assert Doorkeeper(TOKEN).check(HERE, authorization, None) is expected


def test_without_a_token_everybody_may_look() -> None:
    door = Doorkeeper(None)
    assert door.is_open
    assert door.check(HERE, None, None) is Verdict.ALLOWED
    assert door.login(HERE, "anything") is Verdict.ALLOWED


def test_a_session_holds_no_token_and_is_good_for_its_maker_alone() -> None:
    door = Doorkeeper(TOKEN)
    session = door.new_session()
    assert TOKEN not in session
    assert door.check(HERE, None, cookie(session)) is Verdict.ALLOWED
    assert Doorkeeper(TOKEN).check(HERE, None, cookie(session)) is Verdict.NO_LOGIN


def test_a_tampered_session_is_none() -> None:
    door = Doorkeeper(TOKEN)
    expires, _, signature = door.new_session().partition(".")
    later = str(int(expires) + 10_000)
    flipped = signature[:-1] + ("0" if signature[-1] != "0" else "1")
    tampered = [
        f"{later}.{signature}",
        f"{expires}.{flipped}",
        f"{expires}.",
        expires,
        f".{signature}",
        "",
        f"{expires}.{signature}.x",
        f"{expires} .{signature}",
        f"{expires}.{signature.upper()}",
        "é.é",
        "9" * 8000,
    ]
    for value in tampered:
        assert door.check(HERE, None, cookie(value)) is Verdict.NO_LOGIN, value
    for header in (";;;", "=", f"{COOKIE}", f"x{COOKIE}={expires}.{signature}", f'"{COOKIE}"={expires}'):
        assert door.check(HERE, None, header) is Verdict.NO_LOGIN, header


def test_a_session_ends() -> None:
    now_s = 1000.0
    door = Doorkeeper(TOKEN, lambda: now_s)
    session = door.new_session()
    now_s += SESSION_S - 1
    assert door.check(HERE, None, cookie(session)) is Verdict.ALLOWED
    now_s += 1
    assert door.check(HERE, None, cookie(session)) is Verdict.NO_LOGIN


def test_who_guesses_waits_even_with_the_right_token_and_others_do_not(caplog: pytest.LogCaptureFixture) -> None:
    door = Doorkeeper(TOKEN)
    session = door.new_session()
    verdicts = [door.login(HERE, f"guess {n}") for n in range(20)]
    assert verdicts[:5] == [Verdict.WRONG_TOKEN] * 5
    assert verdicts[5:] == [Verdict.WAIT] * 15
    assert door.check(HERE, f"Bearer {TOKEN}", None) is Verdict.WAIT
    assert door.wait_s(HERE) >= 1
    assert door.login("192.0.2.8", TOKEN) is Verdict.ALLOWED
    assert door.check(HERE, None, cookie(session)) is Verdict.ALLOWED, "who is logged in stays so"
    assert "from 192.0.2.7" in caplog.text
    assert "guess" not in caplog.text


def test_the_pause_doubles_and_ends_and_is_forgotten_at_a_success() -> None:
    now_s = 1000.0
    throttle = Throttle(lambda: now_s)
    waits = []
    for _ in range(20):
        throttle.note_failure(HERE)
        waits.append(throttle.wait_s(HERE))
        now_s += waits[-1]
    assert waits[:7] == [0, 0, 0, 0, 2, 4, 8]
    assert waits[-1] == 300
    throttle.note_success(HERE)
    throttle.note_failure(HERE)
    assert throttle.wait_s(HERE) == 0


def test_many_addresses_take_bounded_memory() -> None:
    throttle = Throttle()
    for number in range(5000):
        throttle.note_failure(f"2001:db8::{number:x}")
    assert len(throttle._failures) <= 512
