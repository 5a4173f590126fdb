from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from walt_export.errors import ExportError
from walt_export.quantize import halves, read_calibration


def test_pictures_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name, level in (("b.png", 20), ("a.JPG", 10), ("c.jpeg", 30)):
        ending = Path(name).suffix.lower()
        (tmp_path / name).write_bytes(cv2.imencode(ending, np.full((8, 12, 3), level, np.uint8))[1].tobytes())
    (tmp_path / "notes.txt").write_text("not a picture")
    pictures = read_calibration(tmp_path)
    assert list(pictures) == ["a.JPG", "b.png", "c.jpeg"]
    assert [round(float(picture.mean())) for picture in pictures.values()] == [10, 20, 30]
    assert pictures["b.png"].shape == (8, 12, 3)


def test_a_folder_without_pictures_is_refused_with_the_remedy(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(ExportError, match=r"no pictures to calibrate .*give --calibrate FOLDER"):
            read_calibration(folder)


@pytest.mark.parametrize("data", [b"", b"no picture"])
def test_a_picture_that_is_none_is_refused_by_name(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "torn.jpg").write_bytes(data)
    with pytest.raises(ExportError, match=r"torn\.jpg cannot be decoded"):
        read_calibration(tmp_path)


@pytest.mark.parametrize(("count", "judging"), [(1, []), (3, []), (4, [3]), (32, list(range(3, 32, 4)))])
def test_of_four_pictures_one_judges(count: int, judging: list[int]) -> None:
    pictures = {str(index): index for index in range(count)}
    calibrating, judges = halves(pictures)
    assert list(judges.values()) == judging
    assert {**calibrating, **judges} == pictures
    assert not calibrating.keys() & judges.keys()
