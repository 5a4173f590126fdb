"""Clip-art folders: whole or not at all, and complete when read."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tests.walt_edge.contract.test_messages import CROP, PLATE
from walt_edge.contract.clipart import Clip, ClipArt, ClipArtError, Plate, read_clipart, write_clipart

CLIPART = ClipArt(
    camera="cam-1",
    frame_wh=(64, 48),
    plates=[Plate(id="p", header=PLATE, image="p.jpg")],
    clips=[Clip(header=CROP, image="c.jpg")],
    rejected_by_reason={"border": 2},
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    (tmp_path / "p.jpg").touch()
    (tmp_path / "c.jpg").touch()
    write_clipart(tmp_path, CLIPART)
    assert read_clipart(tmp_path) == CLIPART
    assert not list(tmp_path.glob("*.partial"))


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "p.jpg").touch()
    write_clipart(tmp_path, CLIPART)
    with pytest.raises(ClipArtError, match=r"c\.jpg, which is missing"):
        read_clipart(tmp_path)


def test_an_empty_folder_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ClipArtError, match="walt-edge mine"):
        read_clipart(tmp_path)


@pytest.mark.parametrize("name", ["../c.jpg", "/c.jpg", "crops/../../c.jpg"])
def test_an_image_outside_the_folder_is_not_looked_at(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "clipart"
    folder.mkdir()
    (tmp_path / "c.jpg").touch()
    (folder / "p.jpg").touch()
    write_clipart(folder, msgspec.structs.replace(CLIPART, clips=[Clip(header=CROP, image=name)]))
    with pytest.raises(ClipArtError, match="lies outside its folder"):
        read_clipart(folder)


def test_junk_is_refused(tmp_path: Path) -> None:
    for junk in (b"[1, 2", b'{"camera":"\xff"}'):
        (tmp_path / "clipart.json").write_bytes(junk)
        with pytest.raises(ClipArtError, match="malformed"):
            read_clipart(tmp_path)
    with pytest.raises(ClipArtError, match=r"cannot read .*: Not a directory; give a folder"):
        read_clipart(tmp_path / "clipart.json")
