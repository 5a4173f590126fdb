"""A drawing comes from a browser: what cannot be is refused, with a word on what."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.walt_train.loop.labels.frames import SIZE_WH, drawing
from walt_edge.contract.labels import Label
from walt_train.loop.labels.drawing import DRAWING_BYTES, DrawingError, encode_drawing, read_drawing, regions_of

SQUARE = [[10, 10], [60, 10], [60, 60], [10, 60]]


def one(**changes: Any) -> str:
    thing: dict[str, Any] = {"label": "person", "track": 1, "amodal": SQUARE, "visible": None}
    return json.dumps({"size_wh": SIZE_WH, "things": [thing | changes]})


def test_it_comes_back_as_it_was_kept() -> None:
    read = read_drawing(drawing(1), SIZE_WH)
    assert read_drawing(encode_drawing(read), SIZE_WH) == read
    assert [thing.label for thing in read.things] == ["vehicle", "person"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("", "not a drawing"),
        ("[]", "not a drawing"),
        ("[" * 10_000, "not a drawing"),
        ('{"size_wh": [640, 360], "things": [], "more": 1}', "unknown field"),
        ('{"size_wh": [320, 180]}', "load the page again"),
        (" " * (DRAWING_BYTES + 1), "above the limit"),
        (one(label="dog"), "not a drawing"),
        (one(track=0), "not a drawing"),
        (one(amodal=SQUARE[:2]), "not a drawing"),
        (one(amodal=[[0, 0]] * 1001), "not a drawing"),
        (one(amodal=[[1e9, 0], *SQUARE]), "too far outside"),
        (one(amodal=[[-400, 0], *SQUARE]), "too far outside"),
        (one(amodal=[[-30, 10], [-10, 10], [-10, 60]]), "fewer than 16 pixels"),
        (one(amodal=[[5, 5], [7, 5], [7, 7]]), "fewer than 16 pixels"),
        (one(visible=[[[100, 100], [200, 100], [200, 200]]]), "lie outside of its whole outline"),
        (one(visible=[SQUARE] * 17), "not a drawing"),
        (one().replace("10, 10", "NaN, 10"), "not a drawing"),
        (one().replace("10, 10", "1e999, 10"), "not a drawing|no place"),
    ],
)
def test_what_cannot_be(data: str, words: str) -> None:
    with pytest.raises(DrawingError, match=words):
        read_drawing(data, SIZE_WH)


def test_too_much_at_once() -> None:
    thing = {"label": "person", "amodal": SQUARE, "visible": None}
    many = [thing | {"track": track + 1} for track in range(201)]
    with pytest.raises(DrawingError, match="length <= 200"):
        read_drawing(json.dumps({"size_wh": SIZE_WH, "things": many}), SIZE_WH)
    twice = json.dumps({"size_wh": SIZE_WH, "things": [many[0], many[0]]})
    with pytest.raises(DrawingError, match="the same object"):
        read_drawing(twice, SIZE_WH)
    points = [thing | {"track": track + 1, "amodal": SQUARE * 100} for track in range(51)]
    with pytest.raises(DrawingError, match="more than 20000 points"):
        read_drawing(json.dumps({"size_wh": SIZE_WH, "things": points}), SIZE_WH)


def test_what_is_nearer_hides_and_what_is_drawn_as_seen_is_seen() -> None:
    pole = {"label": "static", "track": 3, "amodal": [[30, 0], [34, 0], [34, 100], [30, 100]], "visible": None}
    near = {"label": "vehicle", "track": 1, "amodal": [[40, 10], [90, 10], [90, 60], [40, 60]], "visible": None}
    # Behind a hedge that nobody outlined: its feet are not seen.
    far = {"label": "person", "track": 2, "amodal": SQUARE, "visible": [[[10, 10], [60, 10], [60, 40], [10, 40]]]}
    read = read_drawing(json.dumps({"size_wh": SIZE_WH, "things": [pole, near, far]}), SIZE_WH)
    first, second, third = regions_of(read)
    assert [region.label for region in (first, second, third)] == [None, Label.VEHICLE, Label.PERSON]
    assert np.array_equal(second.visible, second.amodal)
    assert third.amodal.sum() == 2500
    assert not (third.visible & (first.amodal | second.amodal)).any()
    assert third.visible.sum() == 30 * (30 - 4)


def test_an_object_may_leave_the_frame() -> None:
    read = read_drawing(one(amodal=[[-100, 10], [60, 10], [60, 60], [-100, 60]]), SIZE_WH)
    assert list(read.things[0].box_xyxy) == [-100, 10, 60, 60]
    [region] = regions_of(read)
    assert region.amodal.sum() == 60 * 50


_NUMBERS = st.floats(-2000, 2000) | st.floats() | st.integers(-(10**30), 10**30) | st.none()


@given(st.lists(st.tuples(_NUMBERS, _NUMBERS), max_size=8))
def test_whatever_comes_is_read_or_refused(points: list[tuple[Any, Any]]) -> None:
    try:
        read = read_drawing(one(amodal=points), SIZE_WH)
    except DrawingError:
        return
    [region] = regions_of(read)
    assert region.amodal.sum() >= 16
