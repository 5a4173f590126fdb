"""Who may be judged on which truth."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.clipart import some_things, write_scene
from tests.detectors import write_colour_bundle
from tests.walt_train.metrics.test_swalt import passed, write_timeline
from walt_edge.contract.bundle import Bundle
from walt_edge.contract.errors import UsageError, WaltError
from walt_train.cli import SCRIPT
from walt_train.data.ahead import Composites, compose_to_disk
from walt_train.data.pictures import DataError
from walt_train.data.sample import Split
from walt_train.metrics.origin import (
    Contestant,
    Origin,
    OriginError,
    SwaltOrigin,
    must_be_holdout,
    must_not_have_trained,
    must_not_judge_itself,
    read_origin,
    refuse_unfair,
)

MADE = SwaltOrigin(detector="eyes", detector_sha256="a" * 64, timeline_sha256="b" * 64, objects=1, whole_frames_min=5)


@pytest.mark.parametrize(
    ("made", "model", "sha256", "refused"),
    [
        (MADE, "other", "a" * 64, True),
        (MADE, "eyes", "c" * 64, False),
        (MADE, "eyes", "", True),
        (MADE, "other", "", False),
        (None, "eyes", "a" * 64, False),
    ],
)
def test_a_detector_is_not_judged_by_its_own_truth(
    made: SwaltOrigin | None, model: str, sha256: str, refused: bool
) -> None:
    origin = Origin(swalt=made)
    assert origin.complete == (made is None)
    if refused:
        with pytest.raises(OriginError, match="made this truth"):
            must_not_judge_itself(origin, model, sha256)
    else:
        must_not_judge_itself(origin, model, sha256)


def test_a_holdout_is_named_by_its_content() -> None:
    origin = Origin(content_sha256="0123456789abcdef" * 4)
    must_be_holdout(origin, "0123456789AB", Path("street"))
    must_be_holdout(origin, origin.content_sha256, Path("street"))
    with pytest.raises(OriginError, match="is not the holdout"):
        must_be_holdout(origin, "f" * 64, Path("street"))
    with pytest.raises(OriginError, match="nameless"):
        must_be_holdout(Origin(), "f" * 64, Path("street"))
    with pytest.raises(UsageError, match="12 digits"):
        must_be_holdout(origin, "0123", Path("street"))


def test_what_trained_a_model_does_not_judge_it() -> None:
    must_not_have_trained({"a", "b"}, "c", "m", Path("street"))
    with pytest.raises(OriginError, match="m was trained on street"):
        must_not_have_trained({"a", "b"}, "b", "m", Path("street"))


@pytest.mark.parametrize("text", ["[]", '{"info": {"swalt": {}}}', "{"])
def test_malformed_origins(tmp_path: Path, text: str) -> None:
    (tmp_path / "annotations.json").write_text(text)
    with pytest.raises(OriginError):
        read_origin(tmp_path)
    with pytest.raises(WaltError, match="none"):
        read_origin(tmp_path / "none")


def test_the_command_refuses_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = write_colour_bundle(tmp_path / "colours.walt")
    lineage = Bundle.read(bundle).manifest.lineage
    path, folder = write_timeline(tmp_path, passed()), tmp_path / "truth"
    frames = ["--frames", str(tmp_path / "frames"), "--fps", "0.5"]
    assert SCRIPT.main(["swalt", "--timeline", str(path), *frames, "--out", str(folder)]) == 0
    words = ["evaluate", "--model", str(bundle), "--data", str(folder), "--out", str(tmp_path / "out.json")]
    name = read_origin(folder).content_sha256
    assert SCRIPT.main([*words, "--holdout", name]) == 0
    capsys.readouterr()
    assert SCRIPT.main([*words, "--holdout", "f" * 64]) == 1
    assert "is not the holdout" in capsys.readouterr().err
    content = json.loads((folder / "annotations.json").read_text())
    content["info"]["data_sha256"] = lineage.data_sha256  # as if composed from what the model was trained on
    (folder / "annotations.json").write_text(json.dumps(content))
    assert SCRIPT.main(words) == 1
    error = capsys.readouterr().err
    assert "was trained on" in error
    assert error.count("\n") == 1


ONE = Contestant("one", "a" * 64, ["b" * 64])


def composed(clipart: Path, out: Path, split: Split) -> Path:
    assert list(compose_to_disk(Composites(clipart, 6, 5, split), out, {}))[-1] == 6
    return out


def test_what_trained_is_recognised_in_what_judges(tmp_path: Path) -> None:
    clipart = write_scene(tmp_path / "clipart", some_things(9, 9))
    other = write_scene(tmp_path / "other", some_things(8, 9))
    train, judge, everything = (
        composed(clipart, tmp_path / split, split) for split in ("train", "validation", "all")
    )
    assert refuse_unfair(ONE, judge).content_sha256
    refuse_unfair(ONE, judge, training=[clipart, train])
    refuse_unfair(ONE, judge, training=[other])
    with pytest.raises(DataError, match="compose one with --split train"):
        refuse_unfair(ONE, judge, training=[everything])
    for judging in (train, everything):
        with pytest.raises(OriginError, match=r"one was trained on: compose it with --split validation$"):
            refuse_unfair(ONE, judging, training=[clipart])
    (tmp_path / "epochs").mkdir()
    clipart.rename(tmp_path / "epochs" / "epoch-1")
    with pytest.raises(OriginError, match="was trained on: compose it"):
        refuse_unfair(ONE, everything, training=[tmp_path / "epochs"])


def test_the_same_pictures_are_recognised_whatever_their_folder(tmp_path: Path) -> None:
    path = write_timeline(tmp_path, passed(), model="eyes")
    words = ["swalt", "--timeline", str(path), "--frames", str(tmp_path / "frames"), "--fps", "0.5", "--out"]
    for name in ("here", "there"):
        assert SCRIPT.main([*words, str(tmp_path / name)]) == 0
    refuse_unfair(ONE, tmp_path / "here")
    with pytest.raises(OriginError, match="one was trained on"):
        refuse_unfair(ONE, tmp_path / "here", training=[tmp_path / "there"])
    with pytest.raises(OriginError, match="made this truth"):
        refuse_unfair(Contestant("eyes"), tmp_path / "here")
    name = read_origin(tmp_path / "here").content_sha256
    with pytest.raises(OriginError, match="one was trained on"):
        refuse_unfair(Contestant("one", "", [name]), tmp_path / "here")


def test_evaluate_asks_what_a_model_was_trained_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clipart = write_scene(tmp_path / "clipart", some_things(9, 9))
    train, judge = (composed(clipart, tmp_path / split, split) for split in ("train", "validation"))
    model = ["--model", str(write_colour_bundle(tmp_path / "colours.walt")), "--out", str(tmp_path / "out.json")]
    words = ["evaluate", *model, "--trained-on", str(clipart), "--data"]
    assert SCRIPT.main([*words, str(judge)]) == 0
    capsys.readouterr()
    (tmp_path / "out.json").unlink()
    assert SCRIPT.main([*words, str(train)]) == 1
    error = capsys.readouterr().err
    assert "compose it with --split validation" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out.json").exists()
