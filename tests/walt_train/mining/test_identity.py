from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from tests.walt_train.mining.archives import crop_header
from walt_edge.contract.labels import Label
from walt_edge.contract.messages import CropHeader
from walt_train.mining.identity import Appearance, describe, physical_objects
from walt_train.mining.recordings import Trail

MASK = np.zeros((50, 90), bool)
MASK[10:42, 12:80] = True
RED, BLUE, WHITE = (40, 40, 200), (190, 60, 40), (225, 225, 225)
DAY_US = 86_400_000_000


@dataclass(frozen=True)
class Sight:
    """One clip: which track, where, in which colour and light, when."""

    track: int
    xy: tuple[int, int]
    colour: tuple[int, int, int]
    time_us: int = 0
    light: float = 1.0
    standing: bool = True
    label: Label = Label.VEHICLE
    boot: str = "boot"

    def header(self) -> CropHeader:
        return crop_header(
            MASK,
            self.xy,
            track_id=self.track,
            time_us=1_780_000_000_000_000 + self.time_us,
            standing=self.standing,
            label=self.label,
            boot=self.boot,
        )

    def appearance(self) -> Appearance:
        bgr = np.full((*MASK.shape, 3), 100.0)
        bgr[MASK] = self.colour
        bgr[14:22, 30:60] = 45
        seen = bgr * self.light + np.random.default_rng(self.track + self.time_us % 97).normal(0, 2, bgr.shape)
        return describe(self.header(), np.clip(seen, 0, 255).astype(np.uint8), MASK, np.ones(MASK.shape, bool))


HERE, THERE = (100, 100), (300, 120)


@pytest.mark.parametrize(
    ("sights", "objects"),
    [
        pytest.param([Sight(1, HERE, RED), Sight(1, THERE, RED, 10)], [1, 1], id="one track"),
        pytest.param([Sight(1, HERE, RED), Sight(2, HERE, RED, 60_000_000)], [1, 1], id="found again at its place"),
        pytest.param([Sight(1, HERE, RED), Sight(2, (102, 101), RED, DAY_US, 0.6)], [1, 1], id="dusk, a pixel aside"),
        pytest.param([Sight(1, HERE, RED), Sight(2, HERE, BLUE, DAY_US)], [1, 2], id="another colour"),
        pytest.param([Sight(1, HERE, RED), Sight(2, HERE, WHITE, DAY_US)], [1, 2], id="red, then white"),
        pytest.param([Sight(1, HERE, RED), Sight(2, THERE, RED, DAY_US)], [1, 2], id="another place"),
        pytest.param([Sight(1, HERE, RED), Sight(1, HERE, RED, DAY_US, boot="b")], [1, 1], id="another recording"),
        pytest.param([Sight(1, HERE, RED, standing=False), Sight(2, HERE, RED, 60_000_000, standing=False)], [1, 2]),
        pytest.param([Sight(2, HERE, RED, 50), Sight(1, THERE, BLUE, 5)], [2, 1], id="numbered by time"),
    ],
)
def test_one_physical_object_counts_once(sights: list[Sight], objects: list[int]) -> None:
    found = physical_objects([s.header() for s in sights], [s.appearance() for s in sights], {})
    assert found == objects


def box(xy: tuple[int, int]) -> tuple[float, float, float, float]:
    return (xy[0] + 12.0, xy[1] + 10.0, xy[0] + 80.0, xy[1] + 42.0)


@pytest.mark.parametrize(
    ("began_s", "at_xy", "colour", "joined"),
    [
        (11.5, (175, 100), RED, True),  # where it should be after 1.5 s behind a truck
        (11.5, (175, 100), BLUE, False),
        (11.5, (300, 100), RED, False),
        (18.0, (500, 100), RED, False),  # too long ago to say
        (9.0, (50, 100), RED, False),  # both were there at once
    ],
)
def test_a_track_that_goes_on_where_another_was_lost_is_the_same_object(
    began_s: float, at_xy: tuple[int, int], colour: tuple[int, int, int], joined: bool
) -> None:
    sights = [Sight(1, HERE, RED, standing=False), Sight(2, at_xy, colour, 10, standing=False)]
    trails = {
        ("boot", 1): Trail(5.0, 10.0, box((0, 100)), box(HERE), (50.0, 0.0)),
        ("boot", 2): Trail(began_s, began_s + 5, box(at_xy), box(at_xy)),
    }
    found = physical_objects([s.header() for s in sights], [s.appearance() for s in sights], trails)
    assert (found[0] == found[1]) == joined
