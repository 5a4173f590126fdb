from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.walt_train.engine.shapes import Shapes
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import PatchMask
from walt_train.data.sample import AmodalObject, AmodalSample
from walt_train.engine.golden import CALIBRATION, GOLDEN, golden_pictures, write_calibration, write_golden

WH = (80, 60)
LEVEL = 90

Box = tuple[int, int, int, int]


def picture(name: str, *boxes: Box) -> AmodalSample:
    """Rectangles on grey, the nearest first; a column of the picture says which one it is."""
    image = np.full((WH[1], WH[0], 3), LEVEL, np.uint8)
    objects = []
    for number, (x0, y0, x1, y1) in enumerate(boxes):
        objects.append(AmodalObject(Label.PERSON, PatchMask(x0, y0, np.ones((y1 - y0, x1 - x0), bool)), number))
    for number, (x0, y0, x1, y1) in reversed(list(enumerate(boxes))):
        image[y0:y1, x0:x1] = 150 + 20 * number
    return AmodalSample(image, tuple(objects), name=name, camera="one")


class Given(Shapes):
    """These samples and no others, over and over."""

    def __init__(self, count: int, *samples: AmodalSample) -> None:
        super().__init__(count)
        self._given = samples

    def sample(self, epoch: int, index: int) -> AmodalSample:
        return self._given[index % len(self._given)]


MANY = picture("many", (2, 2, 14, 20), (30, 5, 52, 30), (60, 30, 75, 55))
HIDDEN = picture("hidden", (20, 10, 40, 40), (24, 10, 45, 40))
TINY = picture("tiny", (50, 40, 59, 49))
PLAIN = picture("plain", (10, 10, 40, 50))


def test_there_is_one_for_each_way_in_which_an_export_can_go_wrong() -> None:
    pictures, names = golden_pictures(Given(8, PLAIN, TINY, MANY, HIDDEN))
    for kind, sample in (("many", MANY), ("hidden", HIDDEN), ("tiny", TINY)):
        assert (pictures[kind] == sample.image_bgr).all()
    assert names == {"many", "hidden", "tiny"}
    assert (np.abs(pictures["none"].astype(int) - LEVEL) <= 1).all()
    cut = pictures["border"]
    assert cut.shape[1] < WH[0]
    assert (cut[5:30, 0] == 170).all(), "the border runs through the middlemost object"


def test_what_never_moves_is_painted_over() -> None:
    parked = (50, 30, 70, 45)
    pictures, _ = golden_pictures(Given(2, picture("a", parked), picture("b", parked, (5, 5, 15, 25))))
    assert (np.abs(pictures["none"].astype(int) - LEVEL) <= 3).all()


def test_an_object_of_which_nearly_nothing_shows_is_none_to_look_for() -> None:
    buried = picture("buried", (20, 10, 40, 40), (20, 10, 41, 40))
    pictures, _ = golden_pictures(Given(4, MANY, buried, HIDDEN, PLAIN))
    assert (pictures["hidden"] == HIDDEN.image_bgr).all()


def test_few_pictures_serve_several_kinds() -> None:
    pictures, names = golden_pictures(Given(4, PLAIN))
    assert set(pictures) == {"many", "hidden", "tiny", "border", "none"}
    assert names == {"plain"}


def test_pictures_without_objects_are_golden_too() -> None:
    pictures, _ = golden_pictures(Given(2, picture("bare")))
    assert all((one == LEVEL).all() for one in pictures.values())


def test_what_an_earlier_training_left_goes(tmp_path: Path) -> None:
    (tmp_path / GOLDEN).mkdir()
    (tmp_path / GOLDEN / "0.png").write_bytes(b"old")
    write_golden(Given(4, PLAIN, TINY), tmp_path)
    names = sorted(path.name for path in (tmp_path / GOLDEN).iterdir())
    assert names == ["border.png", "hidden.png", "many.png", "none.png", "tiny.png"]
    tiny = cv2.imread(str(tmp_path / GOLDEN / "tiny.png"))
    assert tiny is not None
    assert (tiny == TINY.image_bgr).all()


@pytest.mark.parametrize(("count", "expected"), [(1, 0), (4, 1), (200, 32)])
def test_golden_pictures_calibrate_nothing_and_none_calibrates_twice(
    tmp_path: Path, count: int, expected: int
) -> None:
    varied = [picture(str(index), (10 + index % 60, 10, 19 + index % 60, 40)) for index in range(max(4, count))]
    samples = Given(count, *varied)
    write_calibration(samples, tmp_path, (40, 30), without={"0", "1", "2"})
    found = sorted((tmp_path / CALIBRATION).iterdir())
    assert len(found) == expected
    for path in found:
        assert int(path.stem) > 2
        read = cv2.imread(str(path))
        assert read is not None
        assert read.shape == (30, 40, 3)
