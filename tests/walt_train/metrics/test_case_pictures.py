"""Before and after: the same cases under the same names, whatever the model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest

from tests.walt_train.metrics.boards import PERSON, found, truth
from tests.walt_train.metrics.test_evaluate import write_places
from walt_train.cli import SCRIPT
from walt_train.data.sample import AmodalSample
from walt_train.metrics.amodal_iou import MetricsError
from walt_train.metrics.case_pictures import SIZE_WH, CasePictures, ShownCase
from walt_train.metrics.matching import Truth

HIDER = (PERSON, (0, 0, 60, 120))


def board(name: str, shift: int, track: int) -> AmodalSample:
    """A person of whom a nearer one hides `60 - shift` of 60 columns."""
    return truth(HIDER, (PERSON, (shift, 0, shift + 60, 120)), name=name, tracks=(100 * track, 100 * track + 1))


def shown(folder: Path) -> list[ShownCase]:
    return msgspec.json.decode((folder / "cases.json").read_bytes(), type=list[ShownCase])


def collected(boards: Sequence[AmodalSample], count: int, sees: bool) -> CasePictures:
    pictures = CasePictures(count)
    for one in boards:
        pictures.add(found(*[(PERSON, thing.amodal.box_xyxy) for thing in one.objects] if sees else []), one)
    return pictures


def test_the_most_hidden_case_of_each_object(tmp_path: Path) -> None:
    boards = [
        board(f"{n}.jpg", shift, track) for n, (shift, track) in enumerate([(30, 1), (10, 1), (20, 2), (40, 3)])
    ]
    collected(boards, 2, sees=True).write(tmp_path / "seen")
    collected(boards[::-1], 2, sees=False).write(tmp_path / "blind")
    seen, blind = shown(tmp_path / "seen"), shown(tmp_path / "blind")
    assert [(one.file, one.image, one.object) for one in seen] == [
        ("01.jpg", "1.jpg", "board/101"),
        ("02.jpg", "2.jpg", "board/201"),
    ]
    assert [one.occlusion for one in seen] == [pytest.approx(50 / 60, abs=1e-3), pytest.approx(40 / 60, abs=1e-3)]
    assert [one.mask_iou for one in seen] == [1.0, 1.0]
    assert blind == [msgspec.structs.replace(one, mask_iou=0.0) for one in seen]
    for name in ("01.jpg", "02.jpg"):
        one, other = (np.asarray(cv2.imread(str(tmp_path / who / name))) for who in ("seen", "blind"))
        assert one.shape == other.shape == (SIZE_WH[1], SIZE_WH[0], 3)
        assert not np.array_equal(one, other)
        assert (tmp_path / "seen" / name).stat().st_size < 64 << 10


def test_what_an_earlier_run_left_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "09.jpg").write_bytes(b"old")
    collected([board("0.jpg", 30, 1)], 4, sees=True).write(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"01.jpg", "cases.json"}


def test_what_is_not_hidden_is_not_shown(tmp_path: Path) -> None:
    whole = board("0.jpg", 58, 1)
    assert Truth.of(whole).occlusions[1] < 0.1
    collected([whole], 4, sees=True).write(tmp_path)
    assert shown(tmp_path) == []


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MetricsError, match="give another --pictures"):
        CasePictures().write(tmp_path / "file" / "pictures")


def test_the_command(tmp_path: Path) -> None:
    folder = write_places(tmp_path / "places", ((0,), (0, 1)), true=((0, 3), (0,)))
    words = ["evaluate", "--model", "motion", "--data", str(folder), "--out", str(tmp_path / "out.json")]
    assert SCRIPT.main([*words, "--pictures", str(tmp_path / "pictures")]) == 0
    assert shown(tmp_path / "pictures") == []
