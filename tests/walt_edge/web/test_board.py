"""The board: the newest frame for who looks, and nothing kept for nobody."""

from __future__ import annotations

import weakref
from dataclasses import replace

import numpy as np

from tests.envelopes import image, moment
from tests.waiting import wait_for
from walt_edge.web.board import LiveBoard
from walt_edge.web.status import LiveFrame


def frame(number: int = 1, camera: str = "gate") -> LiveFrame:
    return LiveFrame(camera, image(np.zeros((8, 8, 3), np.uint8)), moment(1000 * number))


def test_nothing_is_kept_until_somebody_looks() -> None:
    board = LiveBoard(["gate", "yard"])
    board.show(frame())
    assert not board.is_watched("gate")
    assert board.live("gate") is None
    assert board.is_watched("gate")
    assert not board.is_watched("yard")
    newest = frame(2)
    board.show(frame(1))
    board.show(newest)
    assert board.live("gate") is newest
    board.clear("gate")
    assert board.live("gate") is None


def test_what_an_earlier_viewer_left_is_not_shown_to_the_next() -> None:
    board = LiveBoard(["gate"], watched_s=0.05)
    board.live("gate")
    old = frame()
    board.show(old)
    wait_for(lambda: not board.is_watched("gate"))
    assert board.live("gate") is None


def test_a_replaced_frame_is_let_go() -> None:
    board = LiveBoard(["gate"])
    board.live("gate")
    picture = np.zeros((8, 8, 3), np.uint8)
    first = LiveFrame("gate", image(picture), moment(1))
    pixels = weakref.ref(first.image.bgr)
    board.show(first)
    del first
    board.show(frame(2))
    assert pixels() is None


def test_unknown_cameras_are_neither_shown_nor_remembered() -> None:
    board = LiveBoard(["gate"])
    for number in range(100):
        assert board.live(f"made up {number}") is None
    board.show(replace(frame(), camera="made up 1"))
    assert board.live("made up 1") is None
    assert board.cameras == ("gate",)
    assert not board.is_watched("made up 1")
