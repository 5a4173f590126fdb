"""What is forgotten is gone from everywhere, whatever kills the forgetting, and whoever learned from it is named."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest

from tests.walt_train.loop.lineage.forgetting import JUDGES, forget, hands, pixels, trained
from tests.walt_train.loop.serve.loop import CROPS, Loop, clipart_of, crop, fill, plate
from walt_edge.contract.errors import UsageError
from walt_edge.contract.messages import AckState
from walt_edge.contract.topics import Kind
from walt_train.loop.cli import SCRIPT
from walt_train.loop.lineage.carry import carry_out, take_up
from walt_train.loop.lineage.choose import Choice, chosen, whole_ids
from walt_train.loop.lineage.forget import Wish, begin, pending, plan
from walt_train.loop.lineage.keep import Policy, keep
from walt_train.loop.serve.folder import Folder
from walt_train.loop.serve.jobs import Order, State, StepName
from walt_train.loop.store.store import Refused


def test_what_is_forgotten_is_gone_and_the_rest_is_not(twice: Loop) -> None:
    loop = twice
    gone = crop(0).id
    assert len(pixels(loop)[gone]) == 3  # the store, and two generations' frozen clip art
    done = forget(loop, Choice(crops=(gone,)))
    left = pixels(loop)
    assert gone not in left
    assert {len(places) for places in left.values()} == {2, 3}
    assert (done.blobs, done.erased.clips) == (1, 2)
    assert len(clipart_of(loop, number=2).clips) == 2 * CROPS - 1
    assert loop.store.add_group([crop(0)]) == [AckState.DUPLICATE]
    assert gone not in loop.store.ids()
    [line] = done.remains
    bundle = loop.home / "generations/cam-1/2/bundle.walt"
    assert line == f"cam-1 generation 2: {bundle} learned from 1 and test/walt-test run it"
    assert pending(loop.store.engine) == []


def test_pictures_that_were_drawn_with_it_go_and_those_without_it_stay(once: Loop) -> None:
    loop = once
    drawn = [loop.home / "generations/cam-1/1/train" / name for name in ("golden/many.png", "calibration/0000.jpg")]
    forget(loop, Choice(crops=(crop(0).id,)))
    assert all(path.exists() for path in drawn)
    done = forget(loop, Choice(crops=(JUDGES,)))
    assert not any(path.exists() for path in drawn)
    assert "and its golden pictures show some" in done.remains[0]


def test_a_model_that_learned_from_it_and_runs_nowhere_goes(twice: Loop) -> None:
    loop = twice
    first, second = (Folder.of(loop.home, one) for one in loop.generations)
    done = forget(loop, Choice(crops=(crop(0).id,)))
    assert "cam-1 generation 1: weights and bundle removed, release 1" in done.lines
    assert not first.bundle.exists()
    assert not (first.train / "checkpoint.pt").exists()
    assert second.bundle.exists()
    assert [one.number for one in loop.releases] == [2]


def test_devices_return_to_a_release_that_did_not_learn_from_it(twice: Loop) -> None:
    loop = twice
    old = loop.releases[0] if loop.releases[0].number == 1 else loop.releases[1]
    done = forget(loop, Choice(crops=(crop(10).id,)), withdraw=True)
    assert "cam-1: back to generation 1 as release 3, told to test/walt-test" in done.lines
    devices, desired = loop.told[-1]
    assert (devices, desired.release, desired.sha256) == (["test/walt-test"], 3, old.sha256)
    assert [one.state for one in loop.generations] == [State.DONE, State.REFUSED]
    assert done.remains == []
    assert {one.number for one in loop.releases} == {3}
    assert sorted(path.name[65:] for path in (loop.home / "repository/targets").iterdir()) == [
        "fake-1.walt",
        "fake-3.walt",
    ]
    champion = loop.jobs("reader").champion("cam-1")
    assert champion is not None
    assert champion.number == 1


def test_a_worker_that_is_stopped_while_it_releases_is_not_overlooked(twice: Loop) -> None:
    """Devices know of the release, and the table does not: it is found by its bytes."""
    loop = twice
    with loop.store.engine.begin() as connection:
        for text in (
            "DELETE FROM artifacts WHERE id = 'release:2'",
            "DELETE FROM edges WHERE child = 'release:2'",
            "DELETE FROM wishes WHERE release = 2",
            "UPDATE generations SET state = 'running' WHERE number = 2",
            "UPDATE steps SET state = 'running' WHERE number = 2 AND name = 'publish'",
        ):
            connection.exec_driver_sql(text)
    done = forget(loop, Choice(crops=(crop(10).id,)), withdraw=True)
    assert done.stopped == ["cam-1 generation 2"]
    assert "cam-1: back to generation 1 as release 3, told to test/walt-test" in done.lines
    assert {one.number for one in loop.releases} == {3}


def test_without_such_a_release_that_is_told(once: Loop) -> None:
    loop = once
    done = forget(loop, Choice(crops=(crop(0).id,)), withdraw=True)
    assert "cam-1: no release is without it" in done.lines[0]
    assert loop.told == []


def test_a_device_goes_and_its_cameras_train_without_it(loop: Loop) -> None:
    """One command removes a device's crops and trains again."""
    fill(loop.store)
    loop.store.add_group([crop(number, device="walt-bad") for number in range(30, 34)])
    with loop.store.engine.begin() as connection:  # as if the operator had named both alike on purpose
        connection.exec_driver_sql("UPDATE envelopes SET device = 'walt-test' WHERE device = 'walt-bad'")
        connection.exec_driver_sql("UPDATE envelopes SET device = 'walt-bad' WHERE track_id >= 30")
    order = Order(camera="cam-1", recipe="demo", seed=7, training_steps=9, crops=10, tracks=10)
    made = loop.jobs("first").create(order)
    assert made is not None
    loop.jobs("first").release(made)
    loop.worker().run()
    loop.store.add_group([], [Refused("walt/v1/test/walt-bad/crop/x", b"junk", "no"), Refused("t", b"other", "no")])
    done = forget(loop, Choice(devices=("test/walt-bad",)), retrain=True)
    assert done.blobs == 4
    assert "1 refused envelopes removed from quarantine" in done.lines
    assert loop.store.refused_reasons() == [("t", "no")]
    assert any(line.startswith("cam-1 generation 2 is open, of 6 crops") for line in done.lines)
    loop.worker().run()
    second = loop.generations[1]
    assert (second.state, second.seed, second.training_steps) == (State.DONE, 7, 9)
    assert len(clipart_of(loop, number=2).clips) == CROPS
    assert second.step(StepName.JUDGE).result["against"] == "motion"


def test_the_model_that_learned_from_it_is_removed_once_another_runs(once: Loop) -> None:
    loop = once
    forget(loop, Choice(crops=(crop(0).id,)), retrain=True)
    assert Folder.of(loop.home, loop.generations[0]).bundle.exists()
    loop.worker().run()
    assert take_up(hands(loop)) == ["cam-1 generation 1: weights and bundle removed, release 1"]
    assert take_up(hands(loop)) == []
    assert loop.home.joinpath("generations/cam-1/2/bundle.walt").exists()


@pytest.mark.parametrize("is_frozen", [False, True])
def test_a_generation_at_work_on_it_is_stopped(loop: Loop, is_frozen: bool) -> None:
    fill(loop.store)
    _freeze(loop, is_frozen)
    waits: list[float] = []
    begun = begin(loop.store.engine, Wish(choice=Choice(crops=(crop(0).id,)), retrain=True), "for a test")
    assert begun is not None
    done = carry_out(hands(loop, wait=waits.append), begun)
    assert done.stopped == ["cam-1 generation 1"]
    [waited] = waits
    assert waited > 0
    first = loop.generations[0]
    if is_frozen:
        assert first.state is State.REFUSED
        assert first.reason == "some of its crops were forgotten"
        assert loop.generations[1].state is State.PENDING
    else:
        assert (first.state, first.owner, first.clipart_sha256) == (State.RUNNING, "", "")
    assert crop(0).id not in pixels(loop)


def _freeze(loop: Loop, is_frozen: bool) -> None:
    """Does the first step, or half of it, as a worker that holds the generation for minutes."""
    jobs = loop.jobs("at work", lease_s=600.0)
    order = Order(camera="cam-1", recipe="demo", seed=0, training_steps=None, crops=CROPS, tracks=CROPS)
    made = jobs.create(order)
    assert made is not None
    claimed = jobs.begin(made, StepName.CLIPART)
    if is_frozen:
        outcome = loop.worker()._workshop.do(StepName.CLIPART, claimed, mock.Mock())
        jobs.finish(claimed, StepName.CLIPART, outcome.result, outcome.line, outcome.record)
    else:
        loop.store.export_clipart(Folder.of(loop.home, claimed).partial / "came", "cam-1")


def test_what_is_forgotten_while_it_is_being_frozen_does_not_train(loop: Loop) -> None:
    fill(loop.store)
    export = loop.store.export_clipart

    def slow(*args: Any, **kwargs: Any) -> Any:
        exported = export(*args, **kwargs)
        loop.store.delete([crop(0).id], "meanwhile")
        return exported

    with mock.patch.object(loop.store, "export_clipart", slow):
        loop.worker().run()
    [generation] = loop.generations
    assert (generation.state, generation.step(StepName.CLIPART).failures) == (State.DONE, 1)
    assert len(clipart_of(loop).clips) == CROPS - 1
    assert crop(0).id not in pixels(loop)


@pytest.mark.parametrize(
    ("choice", "numbers"),
    [
        (Choice(), []),
        (Choice(cameras=("cam-1",)), [0, 1, 2, 3]),
        (Choice(devices=("test/walt-test",)), [0, 1, 2, 3]),
        (Choice(devices=("other/walt-test",)), []),
        (Choice(since_us=1_700_000_000_000_002), [2, 3]),
        (Choice(until_us=1_700_000_000_000_002), [0, 1]),
        (Choice(since_us=1_700_000_000_000_001, until_us=1_700_000_000_000_003, cameras=("cam-1",)), [1, 2]),
        (Choice(crops=(crop(3).id,), until_us=1_700_000_000_000_002), []),
        (Choice(crops=(crop(3).id,), cameras=("cam-1",)), [3]),
        (Choice(crops=(crop(9).id,)), []),
    ],
)
def test_several_conditions_mean_what_all_of_them_mean(loop: Loop, choice: Choice, numbers: list[int]) -> None:
    loop.store.add_group([crop(number) for number in range(4)] + [crop(8, camera="cam-2", device="walt-2")])
    with loop.store.engine.connect() as connection:
        found = [one.id for one in chosen(connection, choice) if one.camera == "cam-1"]
    assert found == [crop(number).id for number in numbers]


def test_a_clock_that_nobody_set_does_not_hide_a_crop_from_an_interval(loop: Loop) -> None:
    loop.store.add_group([crop(0), crop(1)])
    with loop.store.engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE envelopes SET clock = 'unsynchronised', captured_us = 5 WHERE track_id = 1"
        )
    since_us = 1_750_000_000_000_000
    with loop.store.engine.connect() as connection:
        assert [one.id for one in chosen(connection, Choice(since_us=since_us))] == [crop(1).id]


def test_nothing_of_another_camera_is_touched(loop: Loop) -> None:
    trained(loop, ("cam-1", "cam-2"))
    done = forget(loop, Choice(cameras=("cam-2",)))
    assert loop.store.cameras() == ["cam-1"]
    assert (loop.home / "generations/cam-1/1/train/golden/many.png").exists()
    assert not list((loop.home / "generations/cam-2/1").rglob("*.png"))
    assert done.erased.clips == CROPS + 1


def test_a_camera_whose_crops_have_expired_is_still_forgotten(once: Loop) -> None:
    loop = once
    keep(loop.store, Policy(days=dict.fromkeys(Kind, 1.0)), do=True)
    assert loop.store.ids() == []
    done = forget(loop, Choice(cameras=("cam-1",)))
    assert "learned from 7" in done.remains[0]
    assert pixels(loop) == {}
    assert begin(loop.store.engine, Wish(choice=Choice(cameras=("cam-1",))), "again") is None


def test_a_second_time_there_is_nothing_to_do(once: Loop) -> None:
    loop = once
    wish = Wish(choice=Choice(crops=(crop(0).id,)))
    assert begin(loop.store.engine, wish, "a") is not None
    take_up(hands(loop))
    assert begin(loop.store.engine, wish, "b") is None


def test_what_is_asked_for_changes_nothing_before_it_is_begun(once: Loop) -> None:
    loop = once
    before = sorted(str(path) for path in loop.folder.rglob("*"))
    with loop.store.engine.connect() as connection:
        found = plan(connection, Choice(cameras=("cam-1",)))
    assert len(found.ids) == CROPS + 1
    assert found.affected[0].line == "cam-1 generation 1 (done) learned from 7, release 1, which test/walt-test run"
    assert sorted(str(path) for path in loop.folder.rglob("*")) == before


@pytest.mark.parametrize("words", ["", "zz", "0123456", "g" * 64, "0" * 65, "01234567"])
def test_ids_that_are_none_are_refused(loop: Loop, words: str) -> None:
    with loop.store.engine.connect() as connection, pytest.raises(UsageError, match="--crop"):
        whole_ids(connection, [words])


def test_the_command(once: Loop, capsys: pytest.CaptureFixture[str]) -> None:
    loop = once
    place = ["--store", str(loop.folder / "store"), "--home", str(loop.home)]
    words = ["forget", *place, "--crop", crop(0).id[:16]]
    assert SCRIPT.main(words) == 0
    told = capsys.readouterr().out
    assert told.startswith("1 would be deleted for good (0.0 MB); nothing is done without --yes\n  cam-1: 1 crops\n")
    assert "cam-1 generation 1 (done) learned from 1, release 1, which test/walt-test run\n" in told
    assert crop(0).id in loop.store.ids()
    assert SCRIPT.main([*words, "--yes", "--retrain"]) == 0
    told = capsys.readouterr().out
    assert "1 deleted for good; a resend is not stored again\n" in told
    assert "cam-1 generation 2 is open, of 5 crops: walt-loop serve trains it\n" in told
    assert "REMAINS cam-1 generation 1: " in told
    assert crop(0).id not in loop.store.ids()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "what is to be forgotten?"),
        (["--crop", "0123"], "--crop '0123' is no id"),
        (["--crop", "0" * 64], "no such crop was ever stored here"),
        (["--camera", "cam-1", "--withdraw"], "--withdraw needs --broker"),
        (["--device", "no-slash"], "is not SITE/DEVICE"),
        (["--since", "2026-01-02", "--until", "2026-01-01"], "is not before"),
        (["--until", "tomorrow"], "--until 'tomorrow' is no time"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(
    loop: Loop, words: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    loop.store.add_group([plate(), crop(0)])
    assert SCRIPT.main(["forget", "--store", str(loop.folder / "store"), *words]) in (1, 2)
    [told] = capsys.readouterr().err.strip().splitlines()
    assert line in told
