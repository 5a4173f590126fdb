"""What is kept, and for how long; what has expired does not come back."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.envelopes import sealed
from tests.walt_train.loop.serve.loop import CROPS, Loop, crop, fill, plate
from walt_edge.contract.errors import UsageError
from walt_edge.contract.messages import AckState, Clock, encode_envelope, envelope_id
from walt_edge.contract.topics import Kind
from walt_train.loop.cli import SCRIPT
from walt_train.loop.commands.keep import policy_of
from walt_train.loop.lineage.keep import EXPIRED, Policy, Rank, fair_share, keep
from walt_train.loop.lineage.thin import thin
from walt_train.loop.store.horizon import raise_horizon
from walt_train.loop.store.store import Accepted, Store

DAY_US = 86_400 * 10**6
BEGAN_US = 1_700_000_000_000_000
ALL = dict.fromkeys(Kind, 10.0)


def aged(number: int, day: float, *, kind: Kind = Kind.CROP, clock: Clock = Clock.SYNCHRONISED) -> Accepted:
    """An envelope that was captured so many days after the first one."""
    envelope = sealed(number, kind).envelope
    captured = msgspec.structs.replace(
        envelope.header.captured, utc_us=BEGAN_US + round(day * DAY_US), clock=clock, monotonic_ns=number
    )
    changed = msgspec.structs.replace(envelope, header=msgspec.structs.replace(envelope.header, captured=captured))
    data = encode_envelope(changed)
    return Accepted(envelope_id(data), changed, data)


def add(store: Store, one: Accepted, day: float) -> None:
    """Stores it, received so many days after the first one."""
    now_us = BEGAN_US + round(day * DAY_US)
    with mock.patch("walt_train.loop.store.store._now_us", return_value=now_us):
        store.add_group([one])


def at(day: float) -> int:
    return BEGAN_US + round(day * DAY_US)


def test_age_is_a_promise_and_a_resend_does_not_break_it(tmp_path: Path) -> None:
    old, young, unset, ahead = aged(0, 0), aged(1, 8), aged(2, 500, clock=Clock.UNSYNCHRONISED), aged(3, 600)
    with Store(tmp_path) as store:
        for one in (old, unset, ahead):
            add(store, one, 1)
        add(store, young, 8)
        kept = keep(store, Policy(days=ALL), do=True, now_us=at(12))
        assert (kept.aged[Kind.CROP.value], store.ids()) == (3, [young.id])
        assert store.counts().tombstones == 2  # of those whose clocks tell nothing
        assert store.add_group([old, unset, ahead, aged(4, 1)]) == [AckState.DUPLICATE] * 4
        assert store.add_group([aged(5, 2.5)]) == [AckState.STORED]
        assert not list((tmp_path / "blobs").rglob(f"{old.id}*"))


def test_a_horizon_is_of_its_kind_and_never_goes_back(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        with store.engine.begin() as connection:
            raise_horizon(connection, "frame", at(10))
            raise_horizon(connection, "frame", at(5))
        assert store.add_group([aged(0, 9, kind=Kind.FRAME)]) == [AckState.DUPLICATE]
        assert store.add_group([aged(0, 9), aged(1, 10, kind=Kind.FRAME)]) == [AckState.STORED] * 2


def test_tombstones_of_what_expired_go_when_the_horizon_has_passed_them(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        for number in range(4):
            add(store, aged(number, number), number)
        size = store.counts().bytes
        with mock.patch("time.time_ns", return_value=at(4) * 1000):
            keep(store, Policy(bytes={None: size // 2}), do=True)
        assert store.counts().tombstones == 2
        forgotten = aged(9, 0)
        store.delete([forgotten.id], "forgotten")
        keep(store, Policy(days=dict.fromkeys(Kind, 3.0)), do=True, now_us=at(9))
        assert store.counts().tombstones == 1
        assert store.add_group([aged(0, 0), forgotten]) == [AckState.DUPLICATE] * 2


@given(st.lists(st.integers(0, 10**6), max_size=20), st.integers(0, 10**7))
def test_a_share_is_fair(sizes: list[int], limit: int) -> None:
    share = fair_share(sizes, limit)
    left = [min(size, share) for size in sizes]
    assert sum(left) <= limit or sum(sizes) <= limit
    if sum(sizes) > limit:
        # Nobody who had to give could have kept a byte more for each of those who did.
        assert sum(min(size, share + 1) for size in sizes) > limit
    else:
        assert left == sizes


def test_a_loud_camera_gives_and_a_quiet_one_does_not(loop: Loop) -> None:
    loop.store.add_group([crop(number, camera="loud", device="walt-1") for number in range(40)])
    loop.store.add_group([crop(number, camera="quiet", device="walt-2") for number in range(100, 104)])
    size = loop.store.counts().bytes
    told = keep(loop.store, Policy(bytes={None: size // 2}), do=False)
    assert len(loop.store.ids()) == 44
    done = keep(loop.store, Policy(bytes={None: size // 2}), do=True)
    assert (done.crowded, done.freed) == (told.crowded, told.freed)
    assert done.crowded.keys() == {"loud"}
    assert len(loop.store.ids(camera="quiet")) == 4
    assert loop.store.counts().bytes <= size // 2
    oldest_left = crop(done.crowded["loud"], camera="loud", device="walt-1")
    assert loop.store.ids(camera="loud")[0] == oldest_left.id
    assert loop.store.add_group([crop(0, camera="loud", device="walt-1")]) == [AckState.DUPLICATE]


def test_what_is_missed_least_goes_first(loop: Loop) -> None:
    fill(loop.store)
    loop.worker().run()
    loop.store.add_group([crop(number) for number in range(20, 23)])
    loop.store.add_group([crop(30, holdout=True)])
    loop.store.add_group([_of_camera(sealed(number, Kind.FRAME).envelope) for number in range(40, 42)])
    kinds = []
    while (size := loop.store.counts().bytes) > 0:
        before = set(loop.store.ids())
        keep(loop.store, Policy(bytes={None: size - 1}), do=True)
        [gone] = before - set(loop.store.ids())
        kinds.append(gone)
    learned = [crop(number).id for number in range(CROPS)]
    assert set(kinds[2:5]) == {crop(number).id for number in range(20, 23)}
    assert set(kinds[5:-1]) == {*learned, plate().id}
    assert kinds[-1] == crop(30, holdout=True).id
    assert list(Rank) == sorted(Rank)


def _of_camera(envelope: Any) -> Accepted:
    data = encode_envelope(envelope)
    return Accepted(envelope_id(data), envelope, data)


def test_copies_go_with_what_expired_and_with_generations_that_are_over(loop: Loop) -> None:
    fill(loop.store)
    loop.worker().run()
    for number in (10, 20):
        fill(loop.store, numbers=range(number, number + 2 * CROPS))
        loop.truths["cam-1"].joinpath("quality.json").write_bytes(
            msgspec.json.encode({"motion": 40.0} | {f"0 {n}": 60.0 + n for n in range(50)})
        )
        loop.worker().run()
    folders = [loop.home / f"generations/cam-1/{number}/clipart" for number in (1, 2, 3)]
    pictures = [len(list(folder.rglob("*.jpg"))) for folder in folders]
    thin(loop.store.engine, loop.jobs("keeper"), loop.home)
    after = [len(list(folder.rglob("*.jpg"))) for folder in folders]
    assert after == [0, 0, pictures[2]]
    assert all((folder / "came.json").exists() for folder in folders)
    loop.store.delete([crop(0).id], EXPIRED)
    thin(loop.store.engine, loop.jobs("keeper"), loop.home)
    assert len(list(folders[2].rglob("*.jpg"))) == pictures[2] - 1


def test_a_pass_that_is_killed_is_gone_on_with(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        for number in range(6):
            add(store, aged(number, number), number)
        with (
            mock.patch.object(store.blobs, "delete", side_effect=[None, KeyboardInterrupt]),
            pytest.raises(KeyboardInterrupt),
        ):
            keep(store, Policy(days=ALL), do=True, now_us=at(14))
        keep(store, Policy(days=ALL), do=True, now_us=at(14))
        assert len(store.ids()) == 2
        assert store.collect_orphans(0.0) >= 3
        assert len(list((tmp_path / "blobs").rglob("*.envelope"))) == 2


@pytest.mark.parametrize(
    ("days", "gigabytes", "policy"),
    [
        (["90"], [], Policy(dict.fromkeys(Kind, 90.0))),
        (["90", "frame=7"], [], Policy({Kind.CROP: 90.0, Kind.PLATE: 90.0, Kind.FRAME: 7.0})),
        (["frame=7", "90"], [], Policy({Kind.CROP: 90.0, Kind.PLATE: 90.0, Kind.FRAME: 7.0})),
        (["crop=0.5"], ["1.5", "frame=1"], Policy({Kind.CROP: 0.5}, {None: 1_500_000_000, Kind.FRAME: 10**9})),
    ],
)
def test_a_policy_is_read(days: list[str], gigabytes: list[str], policy: Policy) -> None:
    assert policy_of(days, gigabytes) == policy


@pytest.mark.parametrize("word", ["", "x", "frame=", "=5", "tree=5", "-1", "nan", "inf", "1e12", "crop=crop=1"])
def test_what_is_no_policy_is_refused(word: str) -> None:
    with pytest.raises(UsageError, match="--days"):
        policy_of([word], [])
    with pytest.raises(UsageError, match="--gb"):
        policy_of([], [word])


def test_the_command(loop: Loop, capsys: pytest.CaptureFixture[str]) -> None:
    fill(loop.store)
    words = ["keep", "--store", str(loop.folder / "store"), "--home", str(loop.home), "--days", "crop=90"]
    assert SCRIPT.main(words) == 0
    assert f"  {CROPS} crops by age\nnothing is done without --yes\n" in capsys.readouterr().out
    assert SCRIPT.main([*words, "--yes"]) == 0
    assert f"{CROPS} gone, " in capsys.readouterr().out
    assert loop.store.ids() == [plate().id]
    assert SCRIPT.main(["keep", "--store", str(loop.folder / "store")]) == 2
    assert "how long is what kept?" in capsys.readouterr().err
