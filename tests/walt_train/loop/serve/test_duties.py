"""What is to be done now and then is done, and what fails stops nobody."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

import pytest

from tests.waiting import wait_for
from tests.walt_train.loop.serve.loop import Loop, crop, fill, truth
from walt_edge.contract.errors import WaltError
from walt_edge.contract.topics import Kind
from walt_train.loop.lineage.carry import Hands
from walt_train.loop.lineage.choose import Choice
from walt_train.loop.lineage.forget import Wish, begin, pending
from walt_train.loop.lineage.keep import Policy
from walt_train.loop.serve.duties import Duties, Duty, duties_of


def hands(loop: Loop) -> Hands:
    return Hands(loop.store, loop.jobs("serve"), loop.home, loop.repository, loop._note)


def test_what_a_killed_forgetting_left_is_completed(loop: Loop) -> None:
    loop.truths["cam-1"] = truth(loop.folder / "truth")
    fill(loop.store)
    loop.worker().run()
    picture = loop.home / "generations/cam-1/1/clipart"
    before = len(list(picture.rglob("*.jpg")))
    assert begin(loop.store.engine, Wish(choice=Choice(crops=(crop(0).id,)), retrain=True), "for a test")
    with Duties(duties_of(hands(loop), Policy())):
        wait_for(lambda: not pending(loop.store.engine), 30, "for it to be completed")
    assert len(list(picture.rglob("*.jpg"))) == before - 1
    assert len(loop.generations) == 2


def test_what_is_too_old_goes_by_itself(loop: Loop) -> None:
    fill(loop.store)
    with Duties(duties_of(hands(loop), Policy(days={Kind.CROP: 90.0}))):
        wait_for(lambda: len(loop.store.ids()) == 1, 30, "for crops of 2023 to expire")


@pytest.mark.parametrize("error", [WaltError("no luck"), OSError(28, "No space left on device"), KeyError("a bug")])
def test_a_duty_that_fails_is_tried_again_and_stops_no_other(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    tries, done = [], threading.Event()
    caplog.set_level(logging.INFO)

    def fail() -> Sequence[str]:
        tries.append(1)
        raise error

    def work() -> Sequence[str]:
        done.set()
        return ["worked"]

    with Duties([Duty("failing", 0.01, fail), Duty("working", 3600.0, work)]):
        wait_for(lambda: len(tries) > 2 and done.is_set(), 30, "for both")
    assert "failing" in caplog.text
    assert "working: worked" in caplog.text
