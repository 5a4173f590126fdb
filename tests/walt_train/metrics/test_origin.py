"""Who may be judged on which truth."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.detectors import write_colour_bundle
from tests.walt_train.metrics.test_swalt import passed, write_timeline
from walt_edge.contract.bundle import Bundle
from walt_edge.contract.errors import UsageError, WaltError
from walt_train.cli import SCRIPT
from walt_train.metrics.origin import (
    Origin,
    OriginError,
    SwaltOrigin,
    must_be_holdout,
    must_not_have_trained,
    must_not_judge_itself,
    read_origin,
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
