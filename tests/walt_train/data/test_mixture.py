from pathlib import Path

import numpy as np
import pytest

from tests.walt_train.engine.shapes import Shapes
from walt_train.data import open_samples
from walt_train.data.coco import DataError
from walt_train.data.mixture import MixedSamples
from walt_train.data.sample import Split
from walt_train.data.write import write_samples


def other(count: int = 8) -> Shapes:
    found = Shapes(count, offset=100)
    found.sha256 = "6" * 64
    return found


def test_they_take_turns_and_none_is_left_out() -> None:
    mixed = MixedSamples([Shapes(), other()])
    names = [mixed.sample(0, index).name for index in range(len(mixed))]
    assert names[::2] == [f"{Shapes().sample(0, index).name} of data set 1" for index in range(8)]
    assert names[1::2] == [f"{other().sample(0, index).name} of data set 2" for index in range(8)]
    assert mixed.sample(2, 1).name == f"{other().sample(2, 0).name} of data set 2"
    with pytest.raises(IndexError, match="sample 16 of 16"):
        mixed.sample(0, 16)


def test_pictures_of_several_data_sets_never_share_a_name() -> None:
    """Who judges takes a name that comes again for the end of the data."""
    mixed = MixedSamples([Shapes(), Shapes(), Shapes()])
    assert len({mixed.sample(0, index).name for index in range(len(mixed))}) == len(mixed)


def test_the_name_tells_parts_and_their_order() -> None:
    names = {MixedSamples(parts).sha256 for parts in ([Shapes()], [Shapes(), other()], [other(), Shapes()])}
    assert len(names) == 3


def test_parts_of_unlike_length_are_refused() -> None:
    with pytest.raises(DataError, match=r"\[8, 4\] pictures cannot take 6 turns"):
        MixedSamples([Shapes(), other(4)])


def test_an_epoch_may_end_before_everybody_had_a_turn() -> None:
    mixed = MixedSamples([Shapes(), other()], 3)
    assert len(mixed) == 3
    assert mixed.sample(1, 2).name == f"{Shapes().sample(1, 1).name} of data set 1"
    with pytest.raises(IndexError, match="sample 3 of 3"):
        mixed.sample(0, 3)


def test_folders_in_a_folder_share_its_turns(tmp_path: Path) -> None:
    for seed in (1, 2):
        _write_street(tmp_path / "streets" / f"s{seed}", seed)
    _write_street(tmp_path / "streets" / ".unfinished", 3)
    (tmp_path / "streets" / "sources").mkdir()
    found = open_samples(tmp_path / "streets", split="train", per_epoch=5)
    assert len(found) == 5
    own = [open_samples(tmp_path / "streets" / f"s{seed}", split="train", per_epoch=3) for seed in (1, 2)]
    for index in range(5):
        np.testing.assert_array_equal(
            found.sample(2, index).image_bgr, own[index % 2].sample(2, index // 2).image_bgr
        )
    with pytest.raises(DataError, match=r"neither clipart\.json nor"):
        open_samples(tmp_path / "streets", split="train")


def test_of_many_folders_some_judge_as_a_whole(tmp_path: Path) -> None:
    for seed in range(10):
        _write_street(tmp_path / f"s{seed}", seed)

    def shown(split: Split) -> set[bytes]:
        found = open_samples(tmp_path, split=split, per_epoch=50)
        return {found.sample(0, index).image_bgr.tobytes() for index in range(len(found))}

    last = open_samples(tmp_path / "s9", split="all")
    judging = {last.sample(0, index).image_bgr.tobytes() for index in range(len(last))}
    assert shown("validation") == judging
    assert not shown("train") & judging
    assert len(shown("train")) == 45
    assert len(shown("all")) == 50


def _write_street(folder: Path, seed: int) -> None:
    for _ in write_samples(folder, Shapes(5, offset=10 * seed), {}):
        pass


def test_one_size_is_told_and_several_are_refused() -> None:
    small = other()
    small.frame_wh = (96, 64)
    assert MixedSamples([Shapes(), other()]).frame_wh == Shapes.frame_wh
    with pytest.raises(DataError, match=r"several sizes \(96x64, 192x128\)"):
        _ = MixedSamples([Shapes(), small]).frame_wh
    assert list(MixedSamples([Shapes(), small]).labels) == list(Shapes.labels)
    assert isinstance(MixedSamples([small]).sample(0, 0).image_bgr, np.ndarray)
