from __future__ import annotations

from pathlib import Path

import pytest

from tests.walt_train.mining.archives import record, street
from walt_edge.contract.clipart import read_clipart
from walt_train.cli import SCRIPT
from walt_train.commands.mine import _name_of


def test_an_archive_is_mined_by_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = record(tmp_path / "2026-05-01_06-00-00", street())
    out = tmp_path / "out"
    assert SCRIPT.main(["mine", str(folder), "--out", str(out), "--fps", "8", "--camera", "street"]) == 0
    said = capsys.readouterr()
    assert "recording from 2026-05-01 06:00:00 UTC (the date in its name, as UTC)" in said.err
    assert "one epoch, from 88 frames" in said.out
    assert read_clipart(out).camera == "street"
    assert (out / "overview.jpg").is_file()


def test_several_sources_are_named_by_the_folder_that_holds_them(tmp_path: Path) -> None:
    paths = [tmp_path / "gate" / name for name in ("monday.mp4", "tuesday.mp4")]
    assert _name_of(paths[:1]) == "monday"
    assert _name_of(paths) == "gate"
    assert _name_of([tmp_path / "gate" / "frames"]) == "gate"
    assert _name_of([Path("/a.mp4"), Path("/b.mp4")]) == "camera"


@pytest.mark.parametrize(
    ("more", "status", "says"),
    [
        (["--teacher", "nowhere.onnx"], 1, "nowhere.onnx"),
        (["--teacher", "eyes"], 2, "give motion, general, a FILE.walt, a FILE.onnx, or mmdet:CONFIG:CHECKPOINT"),
        (["--begin", "yesterday"], 2, "not an ISO 8601 time"),
        (["--camera", "a/b"], 1, "is not a name"),
        ([], 1, "does not exist"),
    ],
)
def test_bad_input_is_one_line(
    more: list[str], status: int, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert SCRIPT.main(["mine", str(tmp_path / "no.mp4"), "--out", str(tmp_path / "out"), *more]) == status
    said = capsys.readouterr().err
    assert says in said
    assert len(said.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()
