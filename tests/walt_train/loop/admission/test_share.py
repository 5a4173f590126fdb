from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.envelopes import sealed
from walt_train.loop.admission.share import Candidate, candidates_of, fair
from walt_train.loop.store.store import Accepted, Store


def group(*devices: dict[str, int]) -> list[Candidate]:
    return [
        Candidate(f"{device}-{camera}-{number}", str(device), f"{device}-{camera}")
        for device, cameras in enumerate(devices)
        for camera, count in cameras.items()
        for number in range(count)
    ]


def by_device(picked: list[str]) -> Counter[str]:
    return Counter(id_.split("-")[0] for id_ in picked)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([100, 100, 100, 100], [100, 100, 100, 100]),
        ([100_000, 100, 100, 100], [100, 100, 100, 100]),
        ([100_000, 100, 100, 100, 100], [133, 100, 100, 100, 100]),
        ([1000, 1000, 1000, 1], [1000, 1000, 1000, 1]),
        ([50], [50]),
        ([], []),
        # Two that flood have half of it together, and not more than a quarter each.
        ([10_000, 10_000, *[100] * 10], [500, 500, *[100] * 10]),
    ],
)
def test_nobody_gives_more_than_a_quarter(sizes: list[int], expected: list[int]) -> None:
    picked = fair(group(*({"a": size} for size in sizes)))
    assert [by_device(picked)[str(at)] for at in range(len(sizes))] == expected


def test_a_devices_cameras_share_what_it_may_give() -> None:
    picked = fair(group({"a": 1000, "b": 10, "c": 1000}, {"a": 100}, {"a": 100}, {"a": 100}, {"a": 100}))
    cameras = Counter(id_.rsplit("-", 1)[0] for id_ in picked)
    assert cameras["0-b"] == 10
    assert abs(cameras["0-a"] - cameras["0-c"]) <= 1
    assert by_device(picked)["0"] == 133


@settings(max_examples=200, deadline=None)
@given(
    sizes=st.lists(st.dictionaries(st.sampled_from("abc"), st.integers(1, 60), min_size=1), min_size=1, max_size=8),
    share=st.floats(0.05, 1.0),
    seed=st.integers(0, 5),
)
def test_shares_hold_whatever_there_is(sizes: list[dict[str, int]], share: float, seed: int) -> None:
    candidates = group(*sizes)
    picked = fair(candidates, share, seed)
    assert len(picked) == len(set(picked))
    assert set(picked) <= {one.id for one in candidates}
    # Where there are enough devices to keep it, the share is kept.
    totals = sorted(sum(cameras.values()) for cameras in sizes)
    lively = sum(10 * total >= totals[len(totals) // 2] for total in totals)
    if picked and lively * share >= 1:
        assert max(by_device(picked).values()) <= share * len(picked) + 1e-6
    random.Random(seed).shuffle(candidates)
    assert fair(candidates, share, seed) == picked


def test_sending_more_does_not_choose_which() -> None:
    few = group({"a": 40}, {"a": 40}, {"a": 40}, {"a": 40})
    picked = set(fair(few, seed=3))
    assert set(fair(few, seed=3)) == picked
    many = [*few, *(Candidate(f"0-a-x{number}", "0", "0-a") for number in range(1000))]
    assert sum(id_.startswith("0-") for id_ in fair(many, seed=3)) == 40


@pytest.mark.parametrize("share", [0.0, -1.0, 1.1])
def test_what_is_no_share(share: float) -> None:
    with pytest.raises(ValueError, match="is not above 0"):
        fair(group({"a": 1}), share)


def test_what_is_held_is_no_candidate(tmp_path: Path) -> None:
    one, two = sealed(1), sealed(2)
    with Store(tmp_path) as store:
        store.add_group(
            [Accepted(one.id, one.envelope, one.data), Accepted(two.id, two.envelope, two.data, "new device")]
        )
        assert candidates_of(store.engine, ["cam-1"]) == [Candidate(one.id, "walt-test", "cam-1")]
        assert candidates_of(store.engine, ["cam-2"]) == []
