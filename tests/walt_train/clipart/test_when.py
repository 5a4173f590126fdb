from __future__ import annotations

import msgspec
import pytest

from tests.clipart import origin
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import Rle
from walt_edge.contract.messages import Clock, CropHeader, Moment
from walt_train.clipart.objects import physical_objects
from walt_train.clipart.when import believed_times


def clip(utc_s: float, monotonic_s: float, *, sure: bool, boot: str = "a", track: int = 1) -> CropHeader:
    clock = Clock.SYNCHRONISED if sure else Clock.UNSYNCHRONISED
    moment = Moment(
        utc_us=round(utc_s * 1e6), boot_id=boot, monotonic_ns=round(monotonic_s * 1e9), clock=clock, media_time_s=0.0
    )
    return CropHeader(
        origin=origin(),
        captured=moment,
        box_xyxy=(0, 0, 1, 1),
        label=Label.PERSON,
        score=1.0,
        unoccluded_confidence=1.0,
        confidence_parts={},
        track_id=track,
        stationary_us=None,
        ground_xy=(0, 1),
        crop_xy=(0, 0),
        mask=Rle(size=(1, 1), counts="01"),
        plate="",
        holdout=False,
    )


SET_FORWARD = [clip(100, 10, sure=False), clip(130, 40, sure=False), clip(9050, 60, sure=True)]
SET_BACK = [clip(900, 10, sure=False), clip(500, 20, sure=False)]
TWO_FILES = [clip(700, 2, sure=True), clip(300, 8, sure=True)]


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        pytest.param([], [], id="nothing"),
        pytest.param(TWO_FILES, [700, 300], id="dated recordings, the later one read first"),
        pytest.param(SET_FORWARD, [9000, 9030, 9050], id="the clock is set after a while: all are moved along"),
        pytest.param(SET_BACK, [490, 500], id="a clock that jumps back turns no order round"),
        pytest.param([*SET_BACK, clip(5, 1, sure=True, boot="b")], [490, 500, 5], id="boots are told apart"),
    ],
)
def test_nobody_sets_the_clock_that_orders(headers: list[CropHeader], seconds: list[int]) -> None:
    assert believed_times(headers) == [second * 1_000_000 for second in seconds]


def test_objects_are_numbered_in_the_order_they_were_truly_seen() -> None:
    headers = [msgspec.structs.replace(header, track_id=7 - place) for place, header in enumerate(SET_BACK)]
    assert physical_objects(headers, believed_times(headers)) == [1, 2]
