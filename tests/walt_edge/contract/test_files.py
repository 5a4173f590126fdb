from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tests.killing import flushed
from walt_edge.contract.errors import UsageError, WaltError
from walt_edge.contract.files import check_out, put_in_place, remove_partial, write_whole


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    assert write_whole(path, b"old") == path
    write_whole(path, b"new")
    assert path.read_bytes() == b"new"
    assert [one.name for one in tmp_path.iterdir()] == ["state.json"]


def test_a_disk_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.json"
    write_whole(path, b"old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert [one.name for one in tmp_path.iterdir()] == ["state.json"]


def test_the_bytes_reach_the_disk_before_the_name_and_then_the_name(tmp_path: Path) -> None:
    half, path = tmp_path / "half", tmp_path / "whole"
    half.write_bytes(b"x")
    with flushed() as paths:
        put_in_place(half, path)
    assert paths == [str(half), str(tmp_path)]


def test_what_a_kill_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".a.json.partial").write_bytes(b"ha")
    (tmp_path / "a.json").write_bytes(b"whole")
    remove_partial(tmp_path)
    assert [one.name for one in tmp_path.iterdir()] == ["a.json"]


def test_a_place_for_the_result_is_looked_at_before_the_work(tmp_path: Path) -> None:
    check_out(tmp_path / "deep" / "out.json")
    assert (tmp_path / "deep").is_dir()
    with pytest.raises(UsageError, match="is a folder: give a file's name"):
        check_out(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(WaltError, match="give another --out"):
        check_out(tmp_path / "file" / "out.json")
