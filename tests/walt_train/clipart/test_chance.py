from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from walt_edge.contract.errors import UsageError
from walt_train.clipart.chance import SEED_MAX, Chance, Purpose


def draws(seed: int, epoch: int, index: int, purpose: Purpose) -> list[int]:
    chance = Chance(seed, epoch, index, purpose)
    return [chance.below(1000) for _ in range(100)]


def test_a_stream_is_what_it_always_was() -> None:
    """Composites are named by their seed: these numbers may never change."""
    chance = Chance(1, 2, 3, Purpose.ARRANGEMENT)
    assert [chance.below(1000) for _ in range(8)] == [411, 967, 295, 106, 63, 487, 62, 226]
    assert Chance(SEED_MAX, 0, 0, Purpose.PLATE).below(1 << 60) == 270_869_209_299_150_271


def test_every_argument_gives_another_stream() -> None:
    streams = [
        draws(1, 2, 3, Purpose.PLATE),
        draws(2, 2, 3, Purpose.PLATE),
        draws(1, 3, 3, Purpose.PLATE),
        draws(1, 2, 4, Purpose.PLATE),
        draws(1, 2, 3, Purpose.WINDOW),
    ]
    assert len({tuple(stream) for stream in streams}) == len(streams)
    assert draws(1, 2, 3, Purpose.PLATE) == streams[0]


@given(st.integers(1, 2**64), st.integers(0, 1000))
def test_numbers_stay_below(count: int, index: int) -> None:
    assert 0 <= Chance(7, 0, index, Purpose.PLATE).below(count) < count


def test_every_number_is_as_likely() -> None:
    chance = Chance(5, 0, 0, Purpose.PLATE)
    counts = Counter(chance.below(6) for _ in range(60_000))
    # Chi-squared with 5 degrees of freedom is above 20.5 in one of a thousand seeds.
    assert sum((counts[face] - 10_000) ** 2 / 10_000 for face in range(6)) < 20.5


def test_what_rejection_is_for() -> None:
    """Of three quarters of all words, a plain multiply-shift would give every third number twice as often."""
    chance = Chance(5, 0, 0, Purpose.PLATE)
    count = 3 << 62
    thirds = Counter(chance.below(count) % 3 for _ in range(30_000))
    assert sum((thirds[rest] - 10_000) ** 2 / 10_000 for rest in range(3)) < 13.8


def test_chances_and_shuffles() -> None:
    chance = Chance(9, 0, 0, Purpose.PLATE)
    assert not any(chance.happens(0.0) for _ in range(1000))
    assert all(chance.happens(1.0) for _ in range(1000))
    assert 2800 < sum(chance.happens(0.3) for _ in range(10_000)) < 3200
    items = list(range(50))
    chance.shuffle(items)
    assert items != sorted(items)
    assert sorted(items) == list(range(50))
    assert {chance.between(-1, 1) for _ in range(100)} == {-1, 0, 1}


@pytest.mark.parametrize("seed", [-1, SEED_MAX + 1])
def test_a_seed_out_of_range_is_said(seed: int) -> None:
    with pytest.raises(UsageError, match="out of range"):
        Chance(seed, 0, 0, Purpose.PLATE)
