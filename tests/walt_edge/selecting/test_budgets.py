from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from walt_edge.selecting.budgets import Values, Window

_AMOUNTS = st.lists(st.tuples(st.floats(0.02, 60.0), st.integers(1, 10_000)), min_size=20, max_size=80)


@settings(deadline=None, max_examples=50)
@given(_AMOUNTS, st.floats(0.01, 0.99))
def test_the_price_lets_through_the_share_that_fits(offers: list[tuple[float, int]], share: float) -> None:
    values = Values(half_life_s=3600.0)
    for value, size in offers:
        values.add(value, size)
    total = sum(size for _, size in offers)
    price = values.price(share)
    eighth = 2 ** (1 / 8)  # an octave has eight bins
    assert sum(size for value, size in offers if value > price * eighth) <= share * total + 1e-6
    assert sum(size for value, size in offers if value >= price / eighth) >= share * total - 1e-6


@settings(deadline=None, max_examples=50)
@given(_AMOUNTS, st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_less_room_never_makes_it_cheaper(offers: list[tuple[float, int]], one: float, other: float) -> None:
    values = Values(half_life_s=3600.0)
    for value, size in offers:
        values.add(value, size)
    low, high = sorted((one, other))
    assert values.price(low) >= values.price(high)
    assert values.price(1.0) == 0.0


def test_without_evidence_there_is_no_price() -> None:
    values = Values(half_life_s=3600.0)
    for _ in range(5):
        values.add(1.0, 1000)
    assert values.price(0.01) == 0.0


def test_offers_of_long_ago_make_no_price() -> None:
    values = Values(half_life_s=60.0)
    for _ in range(100):
        values.add(8.0, 1000)
    assert values.price(0.1) == pytest.approx(8.0, rel=0.1)
    values.advance(60.0 * 4)
    assert values.price(0.1) == 0.0, "six offers' weight is left"


def test_a_window_opens_anew_after_its_span_and_not_before() -> None:
    window = Window(3600.0, 1000, spent_bytes=900)
    window.advance(3599.0)
    assert window.room_bytes == 100
    window.advance(2.0)
    assert window.room_bytes == 1000
    assert window.passed_s == pytest.approx(1.0)
    window.advance(10 * 3600.0)
    assert window.passed_s == pytest.approx(1.0)


@pytest.mark.parametrize(("rate", "expected"), [(50, 2.0), (100, 1.0), (400, 0.25)])
def test_the_share_is_what_the_budget_bears_of_what_comes(rate: int, expected: float) -> None:
    window = Window(3600.0, 360_000)
    for _ in range(40 * 3600 // 10):
        window.advance(10.0)
        window.offered_bytes += 10 * rate
    assert window.share == pytest.approx(expected, rel=0.05)


def test_a_first_burst_is_not_taken_for_the_whole_day() -> None:
    window = Window(86_400.0, 10_000_000)
    window.advance(10.0)
    window.offered_bytes += 1_000_000
    assert window.share > 1.0
    assert Window(10.0, 5).share == math.inf
