from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.clipart import moved, some_things, write_scene
from walt_edge.contract.clipart import ClipArtError
from walt_edge.contract.errors import UsageError
from walt_edge.contract.labels import Label
from walt_train.clipart.settings import JUDGING, TRAINING
from walt_train.data import open_samples
from walt_train.data.composites import CompositeSamples
from walt_train.data.sample import Split


def opened(folder: Path, split: Split, seed: int = 1) -> CompositeSamples:
    return CompositeSamples(folder, split=split, per_epoch=20, seed=seed)


def objects(samples: CompositeSamples) -> dict[Label, list[int]]:
    return {
        label: sorted({cutout.object_id for cutout in samples.material.cutouts if cutout.label is label})
        for label in samples.labels
    }


@pytest.mark.parametrize(
    ("people", "cars", "judging"),
    [(20, 10, (4, 2)), (4, 9, (2, 2)), (3, 8, (0, 2)), (40, 0, (8, 0))],
)
def test_the_last_objects_of_each_class_judge(
    tmp_path: Path, people: int, cars: int, judging: tuple[int, int]
) -> None:
    folder = write_scene(tmp_path, some_things(people, cars))
    everything, train, judge = (objects(opened(folder, split)) for split in ("all", "train", "validation"))
    for label, count in zip(Label, judging, strict=True):
        ids = everything.get(label, [])
        assert judge.get(label, []) == ids[len(ids) - count :]
        assert train.get(label, []) == ids[: len(ids) - count]


def test_nothing_trains_that_was_seen_after_what_judges_of_its_class(tmp_path: Path) -> None:
    people, cars = some_things(8, 0), [thing for thing in some_things(8, 4) if thing.label is Label.VEHICLE]
    late = [moved(people[0], x=60), moved(cars[0], x=60)]  # seen again at the end, when others already judge
    folder = write_scene(tmp_path, [*people, *late[:1], *cars, *late[1:]])
    train, judge = opened(folder, "train"), opened(folder, "validation")
    for label in Label:
        begins_us = min(cutout.seen_us for cutout in judge.material.cutouts if cutout.label is label)
        seen_us = [cutout.seen_us for cutout in train.material.cutouts if cutout.label is label]
        assert max(seen_us) < begins_us
    counts = [len(samples.material.cutouts) for samples in (train, judge, opened(folder, "all"))]
    assert counts == [8, 4, 14], "the two that were seen again too late are in neither"


def test_no_object_of_one_split_is_pasted_in_the_other(tmp_path: Path) -> None:
    folder = write_scene(tmp_path, some_things(20, 10))
    shown = [
        {thing.track_id for index in range(20) for thing in samples.sample(0, index).objects}
        for samples in (opened(folder, "train"), opened(folder, "validation"))
    ]
    assert shown[0]
    assert shown[1]
    assert not shown[0] & shown[1]


def test_a_small_class_and_a_single_class_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        opened(write_scene(tmp_path / "a", some_things(3, 8)), "train")
        opened(write_scene(tmp_path / "b", some_things(0, 8)), "train")
    assert [record.getMessage().rpartition("/")[2] for record in caplog.records] == [
        "3 objects of class person only: they train, none is left to judge",
        "b has clips of one class only (vehicle): nothing else will be learned from it",
    ]


def test_names_follow_what_is_composed(tmp_path: Path) -> None:
    folder = write_scene(tmp_path / "a", some_things())
    names = {
        opened(folder, "train").sha256,
        opened(folder, "validation").sha256,
        opened(folder, "train", seed=2).sha256,
        opened(write_scene(tmp_path / "b", some_things(9, 8)), "train").sha256,
        CompositeSamples(folder, split="train", per_epoch=20, seed=1, settings=TRAINING).sha256,
    }
    assert len(names) == 5
    assert opened(folder, "train").sha256 in names


def test_one_door(tmp_path: Path) -> None:
    folder = write_scene(tmp_path, some_things(20, 10))
    train = open_samples(folder, split="train", per_epoch=7, seed=3)
    assert isinstance(train, CompositeSamples)
    assert (len(train), train.settings) == (7, TRAINING)
    judge = open_samples(folder, split="validation", per_epoch=7, seed=3)
    assert isinstance(judge, CompositeSamples)
    assert judge.settings == JUDGING
    assert all(judge.sample(0, index).image_bgr.shape[1::-1] == judge.frame_wh for index in range(7))
    ours = replace(TRAINING, crop_chance=0.0)
    chosen = open_samples(folder, split="train", per_epoch=7, seed=3, settings=ours)
    assert all(chosen.sample(0, index).image_bgr.shape[1::-1] == chosen.frame_wh for index in range(7))
    assert not np.array_equal(train.sample(0, 0).image_bgr, train.sample(1, 0).image_bgr)


def test_too_little_and_out_of_range(tmp_path: Path) -> None:
    folder = write_scene(tmp_path, some_things(3, 2))
    with pytest.raises(ClipArtError, match="clips of 5 objects, too few to judge on: mine at least 4 of a class"):
        opened(folder, "validation")
    with pytest.raises(UsageError, match="0 samples an epoch"):
        CompositeSamples(folder, split="train", per_epoch=0, seed=1)
    with pytest.raises(UsageError, match="split 'test'"):
        opened(folder, "test")  # type: ignore[arg-type]
    with pytest.raises(IndexError):
        opened(folder, "train").sample(0, 20)
    with pytest.raises(UsageError, match="seed -1 is out of range"):
        opened(folder, "train", seed=-1).sample(0, 0)
