from __future__ import annotations

import contextlib
import statistics
import threading
import time

import pytest

from walt_train.loop.web.access.passwords import LEAST, MOST, BusyError, PasswordError, Passwords, check_password

GOOD = "correct horse battery staple"


@pytest.mark.parametrize(
    ("password", "says"),
    [
        ("", "at least 12"),
        ("short", "four random words"),
        ("x" * (LEAST - 1), "at least 12"),
        ("x" * (MOST + 1), "at most 256"),
        ("aaaaaaaaaaaaaaaa", "repeats a few"),
        ("abababababababab", "repeats a few"),
        ("password1234", "guessed first"),
        ("Password123!", "guessed first"),
        ("qwertzuiop12345", "guessed first"),
        ("12345678901234567890", "guessed first"),
        ("AnneMarie2026", "guessed first"),
        ("AnneMarieAnneMarie", "guessed first"),
        ("letmein-letmein", "guessed first"),
        ("good\0password zero", "zero byte"),
    ],
)
def test_what_is_guessed_first_is_no_password(password: str, says: str) -> None:
    with pytest.raises(PasswordError, match=says):
        check_password(password, "annemarie")


@pytest.mark.parametrize(
    "password",
    [GOOD, "tR7#kq!vZ0pw", "zwölf Bücher im Regal", "密码是一个很长很长的句子啊", "four random words " * 14],
)
def test_what_is_long_and_one_s_own_is_taken(password: str) -> None:
    assert check_password(password, "ann") == password


def test_a_hash_is_argon2id_and_each_time_another() -> None:
    passwords = Passwords(time_cost=1, memory_kib=64)
    one, other = passwords.hash(GOOD), passwords.hash(GOOD)
    assert one.startswith("$argon2id$")
    assert one != other
    assert passwords.is_right(one, GOOD)
    assert not passwords.is_right(one, GOOD + " ")
    assert not passwords.is_right(one, "x" * 1_000_000)


@pytest.mark.parametrize(
    "stored", ["", "nonsense", "$argon2id$v=19$m=64,t=1,p=1$broken", "$2b$12$abcdefghijklmnopqrstuv"]
)
def test_what_is_no_hash_is_nobody_s_password(stored: str) -> None:
    assert not Passwords(time_cost=1, memory_kib=64).is_right(stored, "nobody's password")


def test_the_costs_of_today_are_those_that_are_recommended() -> None:
    # RFC 9106, the second recommendation's memory and passes.
    assert "m=65536,t=3,p=1" in Passwords().hash(GOOD)


def test_nobody_s_password_takes_as_long_as_a_wrong_one() -> None:
    passwords = Passwords(time_cost=2, memory_kib=8192)
    stored = passwords.hash(GOOD)
    wrong: list[float] = []
    nobody: list[float] = []
    for _ in range(9):
        for times, held in ((wrong, stored), (nobody, "")):
            began = time.process_time()
            assert not passwords.is_right(held, "not this one")
            times.append(time.process_time() - began)
    # Processor time, so that a busy machine does not matter; without the work it would be a hundredth.
    assert 0.5 < statistics.median(nobody) / statistics.median(wrong) < 2.0


def test_only_so_many_are_computed_at_once() -> None:
    passwords = Passwords(time_cost=1, memory_kib=64)
    most, now, lock = 0, 0, threading.Lock()
    room = passwords._room

    class Counting:
        def __enter__(self) -> None:
            nonlocal most, now
            room.__enter__()
            with lock:
                now += 1
                most = max(most, now)

        def __exit__(self, *_: object) -> None:
            nonlocal now
            with lock:
                now -= 1
            room.release()

    passwords._room = Counting()  # type: ignore[assignment]
    threads = [threading.Thread(target=passwords.hash, args=(GOOD,)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 <= most <= 4


def test_a_line_that_is_too_long_is_told() -> None:
    passwords = Passwords(time_cost=1, memory_kib=64)
    stored = passwords.hash(GOOD)
    with contextlib.ExitStack() as held:
        for _ in range(16):
            assert passwords._line.acquire(blocking=False)
            held.callback(passwords._line.release)
        with pytest.raises(BusyError, match="try again in a moment"):
            passwords.is_right(stored, GOOD)
    assert passwords.is_right(stored, GOOD)


def test_a_hash_of_other_costs_is_dated() -> None:
    stored = Passwords(time_cost=1, memory_kib=64).hash(GOOD)
    assert not Passwords(time_cost=1, memory_kib=64).is_dated(stored)
    assert Passwords(time_cost=2, memory_kib=64).is_dated(stored)
