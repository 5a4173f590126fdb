"""When to send again."""

from __future__ import annotations

import random

import pytest

from walt_edge.contract.backoff import Backoff
from walt_edge.uplink.window import Window


def window(size: int = 2) -> Window:
    return Window(size, timeout_s=60.0, cap_s=600.0, chance=random.Random(1))


def test_room_shrinks_with_what_is_on_its_way() -> None:
    w = window(2)
    assert w.room == 2
    assert not w.sent("a", 0.0)
    w.sent("b", 0.0)
    assert (w.room, set(w.known)) == (0, {"a", "b"})
    w.settled("a", 1.0)
    assert (w.room, set(w.known)) == (1, {"b"})


def test_each_try_waits_about_twice_as_long_up_to_the_cap() -> None:
    w = window(1)
    now, waited = 0.0, []
    for tries in range(8):
        assert w.sent("a", now) == (tries > 0)
        waited.append(w.next_due - now)
        w.expire(w.next_due - 1e-6)
        assert w.room == 0
        now = w.next_due
        w.expire(now)
        assert w.room == 1
        assert not w.known
    for tries, wait_s in enumerate(waited):
        plain = min(60.0 * 2**tries, 600.0)
        assert 0.75 * plain <= wait_s <= 1.25 * plain
    assert len(set(waited)) == len(waited)


def test_an_envelope_that_home_never_answers_gives_its_slot_to_others_while_home_is_alive() -> None:
    w = window(1)
    w.sent("stuck", 0.0)
    w.settled("other", 30.0)
    now = w.next_due
    w.expire(now)
    assert (w.room, set(w.known)) == (1, {"stuck"})
    assert w.next_due - now > 60.0
    w.expire(w.next_due)
    assert not w.known


def test_what_nobody_listened_to_is_sent_again_soon_and_counts_as_no_try() -> None:
    w = window(1)
    now, waited = 0.0, []
    for _ in range(10):
        w.sent("a", now)
        w.unheard("a", now)
        waited.append(w.next_due - now)
        now = w.next_due
        w.expire(now)
    for misses, wait_s in enumerate(waited):
        plain = min(2.0 * 2**misses, 60.0)
        assert 0.75 * plain <= wait_s <= 1.25 * plain
    w.sent("a", now)
    assert w.next_due - now <= 75.0
    w.unheard("unknown", now)
    assert set(w.known) == {"a"}


def test_what_nobody_listened_to_does_not_wait_outside_once_home_is_back() -> None:
    window = Window(2, 60.0, 3600.0, random.Random(1), unheard_s=2.0)
    window.sent("a", 0.0)
    window.sent("b", 0.0)
    window.unheard("a", 0.1)
    window.unheard("b", 0.1)
    window.settled("b", 1.0)  # home is back, and had that one
    window.expire(3.0)
    assert "a" not in window.known


def test_a_new_connection_makes_everything_due_and_keeps_the_count_of_tries() -> None:
    w = window()
    w.sent("a", 0.0)
    w.reset()
    assert (w.room, len(w.known)) == (2, 0)
    assert w.sent("a", 1.0)


@pytest.mark.parametrize(("attempt", "plain_s"), [(0, 1.0), (1, 2.0), (5, 32.0), (9, 300.0), (1000, 300.0)])
def test_backoff_doubles_with_jitter_up_to_its_cap(attempt: int, plain_s: float) -> None:
    backoff = Backoff(1.0, 300.0, random.Random(3))
    pauses = [backoff.next_s() for _ in range(attempt + 1)]
    assert 0.5 * plain_s <= pauses[-1] <= plain_s
    backoff.reset()
    assert backoff.next_s() <= 1.0
