"""Images that came over the wire are decoded apart: hostile ones are left out, and none is handed on as it came."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path
from unittest import mock

import cv2
import numpy as np
import pytest

from tests.walt_train.mining.archives import WH
from tests.walt_train.mining.test_over_the_wire import Mined, export, mine
from tests.walt_train.test_decoding import bomb
from walt_edge.contract.clipart import read_clipart
from walt_edge.contract.errors import WaltError
from walt_train.cli import SCRIPT
from walt_train.decoding import ConfinedDecoder, NoDecoderError
from walt_train.mining import pieces
from walt_train.mining.archive import mine_archive
from walt_train.mining.pieces import ClipPiece, UnreadableError
from walt_train.mining.sources import find_sources


@pytest.fixture
def came(mined: Mined, tmp_path: Path) -> Path:
    export(mined[0], tmp_path / "came")
    return tmp_path / "came"


def test_hostile_images_are_left_out_and_told_in_one_line(
    came: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    clipart = read_clipart(came)
    bomber, cut, empty, *good = [clip.image for clip in clipart.clips]
    (came / bomber).write_bytes(bomb(16384, 16384))
    whole = (came / cut).read_bytes()
    (came / cut).write_bytes(whole[:200])
    (came / empty).write_bytes(b"")
    (came / clipart.plates[0].image).write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 500)
    assert SCRIPT.main(["mine", str(came), "--out", str(tmp_path / "out")]) == 0
    assert "clips of" in capsys.readouterr().out
    said = caplog.text
    assert f"3 of {len(clipart.clips)} images left out, such as this one: {came / bomber} cannot be decoded" in said
    assert f"1 of {len(clipart.plates)} images left out" in said
    found = read_clipart(tmp_path / "out")
    assert found.rejected_by_reason["unreadable"] == 3
    names = {Path(clip.image).name for clip in found.clips}
    assert not names & {bomber, cut, empty}
    assert good
    assert clipart.plates[0].id not in {plate.id for plate in found.plates}


def test_where_no_plate_can_be_decoded_nothing_is_mined(came: Path, tmp_path: Path) -> None:
    for plate in read_clipart(came).plates:
        (came / plate.image).write_bytes(b"rubbish")
    with pytest.raises(WaltError, match="clips and no plate that can be decoded"):
        mine(came, tmp_path / "out")


def test_only_one_process_decodes_and_none_our_own_recordings(mined: Mined, came: Path, tmp_path: Path) -> None:
    with mock.patch("walt_train.decoding.subprocess.Popen", wraps=subprocess.Popen) as begun:
        mine(came, tmp_path / "out")
        assert begun.call_count == 1
        shutil.copytree(mined[0] / "sources", tmp_path / "own" / "sources")
        mine_archive(find_sources(mined[2], fps=8.0), tmp_path / "own", camera="street")
        assert begun.call_count == 1


def test_what_came_is_not_handed_on_byte_by_byte(came: Path, tmp_path: Path) -> None:
    """Appended bytes stand for whatever else than pixels a file may carry."""
    for path in came.glob("*.jpg"):
        path.write_bytes(path.read_bytes() + b"payload")
    # As an earlier version left it: the same file by a second name.
    image = read_clipart(came).clips[5].image
    (tmp_path / "out" / "crops").mkdir(parents=True)
    (tmp_path / "out" / "crops" / image).hardlink_to(came / image)
    before = {path.name: path.read_bytes() for path in came.iterdir()}
    mine(came, tmp_path / "out")
    assert {path.name: path.read_bytes() for path in came.iterdir()} == before
    written = [*(tmp_path / "out").rglob("*.jpg")]
    assert len(written) > 8
    assert not any(b"payload" in path.read_bytes() for path in written)
    same = [path for path in written if path.name in before and path.parent.name == "crops"]
    assert same
    for path in same:
        old, new = (np.asarray(cv2.imread(str(one)), int) for one in (came / path.name, path))
        assert old.shape == new.shape
        assert np.abs(old - new).mean() < 0.5


def test_png_stays_as_it_is(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    name = pieces.encode_again(pixels, tmp_path / "some.png", tmp_path, "crops")
    assert np.array_equal(np.asarray(cv2.imread(str(tmp_path / name))), pixels)


def _kill(decoder: ConfinedDecoder) -> None:
    child = decoder._child
    assert child is not None
    os.kill(child.pid, signal.SIGSEGV)
    child.wait(20)


def test_a_decoder_that_is_killed_once_costs_no_clip_and_twice_that_clip(came: Path) -> None:
    first, second, *_ = read_clipart(came).clips
    decode = ConfinedDecoder.decode
    with ConfinedDecoder() as decoder:
        expected = ClipPiece.read(came, first, WH, decoder).bgr
        _kill(decoder)
        assert (ClipPiece.read(came, first, WH, decoder).bgr == expected).all()

        def killed(self: ConfinedDecoder, data: bytes, size_wh: tuple[int, int]) -> object:
            decode(self, expected_bytes, (expected.shape[1], expected.shape[0]))  # it runs again
            _kill(self)
            return decode(self, data, size_wh)

        expected_bytes = (came / first.image).read_bytes()
        with (
            mock.patch.object(ConfinedDecoder, "decode", killed),
            pytest.raises(UnreadableError, match="cannot be decoded: its decoder was ended by signal 11"),
        ):
            ClipPiece.read(came, second, WH, decoder)
        assert ClipPiece.read(came, second, WH, decoder).strange


def test_without_confinement_nothing_of_strangers_is_decoded(came: Path, tmp_path: Path) -> None:
    with (
        mock.patch("walt_train.decoding.sys.executable", "/bin/false"),
        pytest.raises(NoDecoderError, match="cannot be decoded safely here"),
    ):
        mine(came, tmp_path / "out")
    assert not (tmp_path / "out" / "clipart.json").exists()
