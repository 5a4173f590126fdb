"""What is rejected does not train, by whatever way; undone, it does again."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import pytest
from sqlalchemy import select, update

from tests.walt_train.loop.serve.loop import CROPS, Loop, clipart_of, crop, fill, plate, programs, truth
from walt_edge.contract.clipart import read_clipart
from walt_edge.contract.errors import UsageError, WaltError
from walt_edge.contract.messages import AckState
from walt_edge.contract.topics import Kind
from walt_train.loop.admission.share import candidates_of
from walt_train.loop.gate.judging import Judging
from walt_train.loop.labels.choosing import Crops, Order, Place, page, place_of
from walt_train.loop.labels.rejections import learned_from, reject, reject_all, undo, undo_act
from walt_train.loop.labels.tables import rejections
from walt_train.loop.lineage.again import export_again
from walt_train.loop.lineage.backup import make_backup
from walt_train.loop.lineage.choose import Choice
from walt_train.loop.lineage.forget import Wish, begin
from walt_train.loop.lineage.keep import Policy, keep
from walt_train.loop.lineage.restore import _as_restored, restore
from walt_train.loop.serve import jobs as jobs_of
from walt_train.loop.serve.attempt import Watch
from walt_train.loop.serve.steps import Workshop
from walt_train.loop.serve.triggers.reading import harvest_of
from walt_train.loop.store.export import export_group
from walt_train.loop.store.store import Store
from walt_train.loop.store.tables import envelopes

BAD = crop(2)
WHO = "mara"


def rejected(store: Store) -> set[str]:
    with store.engine.connect() as connection:
        return set(connection.scalars(select(rejections.c.crop)))


def seen(store: Store, crops: Crops, order: Order = Order.NEWEST, limit: int = 48) -> list[str]:
    """Ids of all pages, one after the other."""
    found: list[str] = []
    after = None
    with store.engine.connect() as connection:
        while rows := page(connection, crops, order, after, limit):
            found += [row.id for row in rows]
            after = Place.read(str(place_of(rows[-1], order)))
    return found


@pytest.fixture
def filled(store: Store) -> Store:
    fill(store)
    return store


def by_ids(store: Store, folder: Path) -> set[str]:
    return set(store.ids(Kind.CROP, "cam-1"))


def by_export(store: Store, folder: Path) -> set[str]:
    store.export_clipart(folder, "cam-1", holdout=False)
    return {clip.crop for clip in read_clipart(folder).clips}


def by_group(store: Store, folder: Path) -> set[str]:
    [given] = export_group(store, folder, ["cam-1"], share=1.0)
    return {clip.crop for clip in given.clipart.clips}


def by_share(store: Store, folder: Path) -> set[str]:
    return {one.id for one in candidates_of(store.engine, ["cam-1"])}


def by_browser(store: Store, folder: Path) -> set[str]:
    return set(seen(store, Crops(camera="cam-1", state="free")))


@pytest.mark.parametrize("way", [by_ids, by_export, by_group, by_share, by_browser])
def test_what_is_rejected_does_not_train(filled: Store, tmp_path: Path, way: object) -> None:
    assert callable(way)
    whole = {crop(number).id for number in range(CROPS)}
    assert way(filled, tmp_path / "before") == whole
    assert reject(filled.engine, [BAD.id], WHO, "two people").count == 1
    assert way(filled, tmp_path / "without") == whole - {BAD.id}
    assert undo(filled.engine, [BAD.id]) == 1
    assert way(filled, tmp_path / "again") == whole


def test_a_trigger_does_not_count_it(filled: Store) -> None:
    reject(filled.engine, [BAD.id], WHO, "")
    harvest = harvest_of(filled.engine, "cam-1")
    assert (harvest.crops, harvest.tracks) == (CROPS - 1, CROPS - 1)
    undo(filled.engine, [BAD.id])
    assert harvest_of(filled.engine, "cam-1").crops == CROPS


def test_a_new_generation_learns_without_it_and_the_old_one_is_named(tmp_path: Path) -> None:
    with Loop(tmp_path) as loop:
        loop.truths = {"cam-1": truth(tmp_path / "truth")}
        fill(loop.store)
        loop.worker().run()
        [first] = loop.generations
        done = reject(loop.store.engine, [BAD.id], WHO, "a shadow")
        assert [one.title for one in done.learned] == ["cam-1 generation 1"]
        with loop.store.engine.connect() as connection:
            assert learned_from(connection, [BAD.id]) == list(done.learned)
        with pytest.raises(WaltError, match=f"1 of {CROPS + 1} were rejected since"):
            export_again(loop.store, first.clipart_sha256, tmp_path / "again")
        fill(loop.store, numbers=range(10, 10 + CROPS))
        with pytest.raises(WaltError, match=r"no better|refused"):
            # As good as before: it learned, and is not released.
            loop.worker().run()
        crops = {clip.crop for clip in clipart_of(loop, number=2).clips}
        assert len(crops) == 2 * CROPS - 1
        assert BAD.id not in crops
        undo(loop.store.engine, [BAD.id])
        export_again(loop.store, first.clipart_sha256, tmp_path / "again")
        assert BAD.id in {clip.crop for clip in read_clipart(tmp_path / "again").clips}


def test_what_is_rejected_while_it_is_frozen_is_frozen_anew(tmp_path: Path) -> None:
    with Loop(tmp_path) as loop:
        fill(loop.store)
        jobs = loop.jobs("worker")
        asked = jobs_of.Order(camera="cam-1", recipe="demo", seed=0, training_steps=None, crops=CROPS, tracks=CROPS)
        made = jobs.create(asked)
        assert made is not None
        workshop = Workshop(loop.store, loop.home, jobs, programs(), mock.Mock(), Judging())
        step = jobs_of.StepName.CLIPART
        generation = jobs.begin(made, step)
        before = workshop.do(step, generation, Watch())
        reject(loop.store.engine, [BAD.id], WHO, "")
        with pytest.raises(WaltError, match="1 crops were deleted or rejected while"):
            jobs.finish(generation, step, before.result, before.line, before.record)
        after = workshop.do(step, generation, Watch())
        jobs.finish(generation, step, after.result, after.line, after.record)
        assert {clip.crop for clip in clipart_of(loop).clips} == {crop(n).id for n in range(CROPS)} - {BAD.id}


def test_who_was_the_first_stays(filled: Store) -> None:
    assert reject(filled.engine, [BAD.id], WHO, "first").count == 1
    assert reject(filled.engine, [BAD.id, "0" * 64, plate().id], "tom", "second").count == 0
    with filled.engine.connect() as connection:
        assert connection.execute(select(rejections.c.by, rejections.c.reason)).all() == [(WHO, "first")]
    assert undo(filled.engine, [BAD.id, "0" * 64]) == 1
    assert undo(filled.engine, [BAD.id]) == 0
    with pytest.raises(UsageError, match="a reason of 501 characters"):
        reject(filled.engine, [BAD.id], WHO, "x" * 501)


def test_all_of_a_track_or_of_an_hour(store: Store) -> None:
    fill(store, numbers=range(3), track=7)
    fill(store, numbers=range(10, 14))
    fill(store, "cam-2", numbers=range(20, 23))
    reject(store.engine, [crop(1, track=7).id], "tom", "")
    first = reject_all(store.engine, Crops(device="walt-test", boot="boot-test", track=7), WHO, "a tram")
    assert (first.count, len(rejected(store))) == (2, 3)
    start = crop(10).envelope.header.captured.utc_us
    second = reject_all(store.engine, Crops(camera="cam-1", since_us=start, until_us=start + 3), WHO, "fog")
    assert second.count == 3
    # What one act rejected comes back as a whole, and nothing else does.
    assert undo_act(store.engine, WHO, first.at_us) == 2
    assert len(rejected(store)) == 4
    for wide in (Crops(), Crops(camera="cam-1"), Crops(track=7), Crops(since_us=0, until_us=2**60)):
        with pytest.raises(UsageError, match="of all times"):
            reject_all(store.engine, wide, WHO, "")


def test_not_too_many_at_once(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("walt_train.loop.labels.rejections.AT_ONCE", 4)
    wide = Crops(camera="cam-1", since_us=0, until_us=2**60)
    first, second = (reject_all(filled.engine, wide, WHO, "") for _ in range(2))
    assert [(one.count, one.more) for one in (first, second)] == [(4, True), (CROPS - 4, False)]
    assert undo_act(filled.engine, WHO, first.at_us) == 4
    assert len(rejected(filled)) == CROPS - 4


def test_it_stays_when_the_crop_comes_again(filled: Store) -> None:
    reject(filled.engine, [BAD.id], WHO, "")
    assert filled.add_group([BAD]) == [AckState.DUPLICATE]
    assert BAD.id not in filled.ids()
    # A restored store may lack the crop until its device sends it again: what was said of it holds.
    with filled.engine.begin() as connection:
        connection.execute(envelopes.delete().where(envelopes.c.id == BAD.id))
    assert filled.add_group([BAD]) == [AckState.STORED]
    assert BAD.id not in filled.ids()


def test_it_goes_with_the_crop(filled: Store) -> None:
    ids = [crop(number).id for number in range(3)]
    reject(filled.engine, ids, WHO, "")
    filled.delete([ids[0]], "unwanted")
    assert rejected(filled) == set(ids[1:])
    assert begin(filled.engine, Wish(choice=Choice(crops=(ids[1],))), "for a test") is not None
    assert rejected(filled) == {ids[2]}
    keep(filled, Policy(days={Kind.CROP: 1}), do=True)
    assert rejected(filled) == set()


def test_it_is_in_a_copy(filled: Store, tmp_path: Path) -> None:
    ids = [crop(number).id for number in range(2)]
    reject(filled.engine, ids, WHO, "blurred")
    make_backup(filled, tmp_path / "copy")
    with Store(tmp_path / "again") as again:
        restore(tmp_path / "copy", again)
        assert rejected(again) == set(ids)
        assert len(again.ids(Kind.CROP)) == CROPS - 2


@pytest.mark.parametrize("order", list(Order))
def test_pages_show_everything_once(store: Store, order: Order) -> None:
    fill(store, numbers=range(7))
    fill(store, "cam-2", numbers=range(7, 12))
    with store.engine.begin() as connection:
        connection.execute(update(envelopes).where(envelopes.c.label == 1).values(confidence=0.2, area=9.0))
    rows = seen(store, Crops(), order, limit=3)
    assert sorted(rows) == sorted(store.ids(Kind.CROP))
    assert seen(store, Crops(camera="cam-2"), order, limit=2) == [
        one for one in rows if one in store.ids(camera="cam-2")
    ]
    with store.engine.connect() as connection:
        [first, *_] = page(connection, Crops(), order)
    is_first = {Order.NEWEST: first.id == crop(11, camera="cam-2").id, Order.LEAST_SURE: first.confidence == 0.2}
    assert is_first.get(order, first.area == 32 * 32)


def test_a_choice_narrows(store: Store) -> None:
    fill(store, numbers=range(4))
    fill(store, numbers=range(4, 6), holdout=True)
    reject(store.engine, [crop(0).id], WHO, "")
    with store.engine.begin() as connection:
        connection.execute(update(envelopes).where(envelopes.c.id == crop(1).id).values(held="new device"))
    start = crop(0).envelope.header.captured.utc_us
    found = {
        Crops(state="rejected"): {0},
        Crops(state="held"): {1},
        Crops(state="free", judging=False): {2, 3},
        Crops(since_us=start + 2, until_us=start + 4): {2, 3},
        Crops(track=3, device="walt-test", boot="boot-test"): {3},
        Crops(sure_from=0.95): set(),
        Crops(side_px=33): set(),
        Crops(side_px=32, sure_to=0.95, state="rejected"): {0},
    }
    for choice, numbers in found.items():
        held = {crop(number, holdout=number > 3).id for number in numbers}
        assert set(seen(store, choice)) == held, choice
    with pytest.raises(UsageError, match="is no place in a list"):
        Place.read("bm9uc2Vuc2U")


def test_a_copy_of_before_knows_sizes_again(filled: Store, tmp_path: Path) -> None:
    with filled.engine.connect() as connection:
        rows = [dict(row) for row in connection.execute(select(envelopes)).mappings()]
    areas = {row["id"]: row.pop("area") for row in rows}
    found = list(_as_restored("envelopes", iter(rows), set(), set()))
    assert {row["id"]: row["area"] for row in found} == areas
    assert sorted(map(str, set(areas.values()))) == ["1024.0", "None"]
