"""One model for several cameras: everybody gets what was seen in their own frame."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tests.waiting import wait_for
from walt_edge.agent.looking import Looker
from walt_edge.contract.instances import AmodalInstances
from walt_edge.update.holder import Look


class Echo:
    """Answers a frame with a release number that is its first pixel; the first batch lasts until it is let go."""

    def __init__(self, *, is_there: bool = True, most_pictures: int = 0) -> None:
        self.is_there = is_there
        self.most_pictures = most_pictures
        self.batches: list[int] = []
        self.go_on = threading.Event()

    def look_many(self, images_bgr: Sequence[NDArray[np.uint8]], /) -> list[Look] | None:
        self.batches.append(len(images_bgr))
        assert self.go_on.wait(20)
        if not self.is_there:
            return None
        return [Look(int(one[0, 0, 0]), AmodalInstances.empty((4, 4)), 1.0) for one in images_bgr]


def ask(looker: Looker, values: Sequence[int]) -> tuple[list[threading.Thread], dict[int, Look | None]]:
    """One thread for each frame, each frame grey in its value."""
    answers: dict[int, Look | None] = {}

    def one(value: int) -> None:
        answers[value] = looker.look(np.full((4, 4, 3), value, np.uint8))

    threads = [threading.Thread(target=one, args=(value,)) for value in values]
    for thread in threads:
        thread.start()
    return threads, answers


def test_who_waits_is_answered_together_and_everybody_with_their_own() -> None:
    model = Echo()
    looker = Looker(model, most=3)
    first, answer = ask(looker, [7])
    wait_for(lambda: model.batches == [1])
    others, answers = ask(looker, range(10, 15))
    wait_for(lambda: len(looker._waiting) == 5)
    model.go_on.set()
    for thread in [*first, *others]:
        thread.join(20)
    assert model.batches == [1, 3, 2]
    assert {value: look.release for value, look in (answer | answers).items() if look} == {
        value: value for value in (7, 10, 11, 12, 13, 14)
    }


def test_who_came_first_does_not_wait_for_the_others_where_together_is_not_faster() -> None:
    model = Echo(most_pictures=1)
    looker = Looker(model)
    first, answer = ask(looker, [7])
    wait_for(lambda: model.batches == [1])
    others, answers = ask(looker, range(10, 13))
    wait_for(lambda: len(looker._waiting) == 3)
    model.go_on.set()
    for thread in [*first, *others]:
        thread.join(20)
    assert model.batches == [1, 1, 1, 1]
    assert {value: look.release for value, look in (answer | answers).items() if look} == {
        value: value for value in (7, 10, 11, 12)
    }


def test_without_a_model_nobody_sees_anything() -> None:
    model = Echo(is_there=False)
    model.go_on.set()
    assert Looker(model).look(np.zeros((4, 4, 3), np.uint8)) is None


def test_many_threads_many_frames() -> None:
    model = Echo()
    model.go_on.set()
    looker = Looker(model, most=4)
    wrong: list[int] = []

    def camera(value: int) -> None:
        for _ in range(200):
            look = looker.look(np.full((4, 4, 3), value, np.uint8))
            if look is None or look.release != value:
                wrong.append(value)

    threads = [threading.Thread(target=camera, args=(value,)) for value in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong
    assert sum(model.batches) == 1200
