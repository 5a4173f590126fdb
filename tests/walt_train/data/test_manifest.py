from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.clipart import some_things, write_scene
from walt_train.data.ahead import Composites, compose_to_disk
from walt_train.data.coco import CocoSamples
from walt_train.data.manifest import read_manifest, refuse_leakage
from walt_train.data.pictures import DataError
from walt_train.data.sample import Split
from walt_train.data.write import OutputError


def composed(folder: Path, out: Path, split: Split) -> Path:
    assert list(compose_to_disk(Composites(folder, 12, 5, split), out, {}))[-1] == 12
    return out


def test_the_manifest_counts_cameras_classes_and_objects(tmp_path: Path) -> None:
    folder = write_scene(tmp_path / "clipart", some_things(9, 9))
    out = composed(folder, tmp_path / "all", "all")
    samples, manifest = CocoSamples(out), read_manifest(out)
    things = [thing for index in range(12) for thing in samples.sample(0, index).objects]
    assert list(manifest.cameras) == ["cam-1"]
    camera = manifest.cameras["cam-1"]
    assert (manifest.split, camera.pictures) == ("all", 12)
    assert camera.instances == {
        title: sum(thing.label.title == title for thing in things) for title in ("person", "vehicle")
    }
    for title, objects in camera.objects.items():
        assert sum(objects.values()) == camera.instances[title]
        assert set(objects) == {thing.track_id for thing in things if thing.label.title == title}


def test_leakage_is_refused_with_figures(tmp_path: Path) -> None:
    folder = write_scene(tmp_path / "clipart", some_things(9, 9))
    train, judge = (composed(folder, tmp_path / split, split) for split in ("train", "validation"))
    refuse_leakage(train, judge)
    everything = composed(folder, tmp_path / "all", "all")
    with pytest.raises(
        DataError, match=r"^4 of the 4 objects \(100%\) in .*validation are in .*all too: compose"
    ) as told:
        refuse_leakage(everything, judge)
    assert "\n" not in str(told.value)
    other = write_scene(tmp_path / "elsewhere", some_things(8, 9))
    with pytest.raises(DataError, match="of different clip art"):
        refuse_leakage(train, composed(other, tmp_path / "other", "validation"))


def test_bad_manifests_and_places(tmp_path: Path) -> None:
    folder = write_scene(tmp_path / "clipart", some_things())
    out = composed(folder, tmp_path / "out", "all")
    for spoiled, told in (({"split": "test"}, "is no manifest"), (None, r"cannot read .*data.json: No such file")):
        if spoiled is None:
            (out / "data.json").unlink()
        else:
            (out / "data.json").write_text(json.dumps(json.loads((out / "data.json").read_text()) | spoiled))
        with pytest.raises(DataError, match=told):
            read_manifest(out)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write to"):
        list(compose_to_disk(Composites(folder, 2), tmp_path / "file", {}))
