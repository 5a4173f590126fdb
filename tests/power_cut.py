"""A disk that loses what was not flushed: records what the real SQLite writes, and makes the disk of any moment.

SQLite's own VFS does the work; a copy of its tables, whose functions note each write, truncation and flush before
they pass it on, stands before it while `recording`. `Disk` then plays a prefix of that record: what was flushed is
there, and of the rest nothing, everything, or single sectors in any order. Names of files are durable only once
their folder was flushed, as POSIX has it.
"""

from __future__ import annotations

import ctypes
import os
import random
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import CFUNCTYPE, POINTER, Structure, addressof, c_char_p, c_int, c_int64, c_void_p, cast, string_at
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from unittest import mock

import pytest

Event = tuple[Any, ...]
Loss = Literal["all", "none", "sectors"]

_JOURNALS = 0x00000800 | 0x00080000  # SQLite flushes the folder with the first flush of a rollback journal or a log
_SECTORS = (512, 4096)


class _Vfs(Structure):
    _fields_ = [
        ("version", c_int),
        ("file_bytes", c_int),
        ("path_bytes", c_int),
        ("next", c_void_p),
        ("name", c_char_p),
        ("data", c_void_p),
        ("open", c_void_p),
        ("delete", c_void_p),
        ("rest", c_void_p * 16),
    ]


class _Methods(Structure):
    _fields_ = [
        ("version", c_int),
        ("close", c_void_p),
        ("read", c_void_p),
        ("write", c_void_p),
        ("truncate", c_void_p),
        ("sync", c_void_p),
        ("rest", c_void_p * 13),
    ]


_OPEN = CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p, c_int, POINTER(c_int))
_DELETE = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int)
_WRITE = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_int64)
_TRUNCATE = CFUNCTYPE(c_int, c_void_p, c_int64)
_SYNC = CFUNCTYPE(c_int, c_void_p, c_int)


def _library() -> ctypes.CDLL:
    """The very library that the sqlite3 module uses."""
    maps = Path("/proc/self/maps")
    found = re.search(r"\S*/libsqlite3\.so\S*", maps.read_text()) if maps.exists() else None
    if found is None:
        pytest.skip("Python's sqlite3 is not linked to a shared libsqlite3 here")
    library = ctypes.CDLL(found[0])
    library.sqlite3_vfs_find.restype = POINTER(_Vfs)
    library.sqlite3_vfs_find.argtypes = [c_char_p]
    library.sqlite3_vfs_register.argtypes = [c_void_p, c_int]
    library.sqlite3_vfs_unregister.argtypes = [c_void_p]
    return library


class _Shim:
    """Stands before SQLite's default VFS; tells `note` what passes. With `note` None nothing is ever flushed."""

    def __init__(self, folder: Path, note: Callable[[Event], None] | None) -> None:
        self._library = _library()
        self._real = self._library.sqlite3_vfs_find(None)
        self._folder = str(folder)
        self._note = note
        self._names: dict[int, str] = {}
        self._unnamed: set[str] = set()
        self._methods: dict[int, _Methods] = {}
        self._kept: list[object] = []  # SQLite holds pointers to them.
        self._vfs = _Vfs.from_buffer_copy(self._real.contents)
        self._vfs.name = b"power-cut"
        self._vfs.next = None
        self._real_open = _OPEN(self._vfs.open)
        self._real_delete = _DELETE(self._vfs.delete)
        self._vfs.open = self._pointer(_OPEN(self._open))
        self._vfs.delete = self._pointer(_DELETE(self._delete))

    def register(self) -> None:
        assert self._library.sqlite3_vfs_register(addressof(self._vfs), 1) == 0

    def unregister(self) -> None:
        assert self._library.sqlite3_vfs_unregister(addressof(self._vfs)) == 0
        assert self._library.sqlite3_vfs_register(cast(self._real, c_void_p), 1) == 0

    def _pointer(self, function: Any) -> int:
        self._kept.append(function)
        return cast(function, c_void_p).value or 0

    def _tell(self, *event: Any) -> None:
        if self._note is not None:
            self._note(event)

    def _open(self, vfs: int, name: int | None, file: int, flags: int, out: Any) -> int:
        path = string_at(name).decode() if name else ""
        is_ours = path.startswith(self._folder)
        is_new = is_ours and not Path(path).exists()
        status = self._real_open(cast(self._real, c_void_p), name, file, flags, out)
        if status == 0 and is_ours:
            if is_new:
                self._tell("create", path)
                if flags & _JOURNALS:
                    self._unnamed.add(path)
            self._names[file] = path
            table = c_void_p.from_address(file)
            assert table.value is not None
            table.value = addressof(self._patched(table.value))
        return int(status)

    def _patched(self, table: int) -> _Methods:
        """SQLite's functions for a kind of file, with ours before three of them."""
        if table not in self._methods:
            real = _Methods.from_address(table)
            patched = _Methods.from_buffer_copy(real)
            write, truncate, sync = _WRITE(real.write), _TRUNCATE(real.truncate), _SYNC(real.sync)

            def on_write(file: int, data: int, count: int, offset: int) -> int:
                self._tell("write", self._names[file], offset, string_at(data, count))
                return int(write(file, data, count, offset))

            def on_truncate(file: int, size: int) -> int:
                self._tell("truncate", self._names[file], size)
                return int(truncate(file, size))

            def on_sync(file: int, flags: int) -> int:
                path = self._names[file]
                self._tell("flush", path)
                if path in self._unnamed:
                    self._unnamed.discard(path)
                    self._tell("flush folder")
                return 0  # The machine under the test keeps its power.

            patched.write = self._pointer(_WRITE(on_write))
            patched.truncate = self._pointer(_TRUNCATE(on_truncate))
            patched.sync = self._pointer(_SYNC(on_sync))
            self._kept += [write, truncate, sync]
            self._methods[table] = patched
        return self._methods[table]

    def _delete(self, vfs: int, name: int, flushes: int) -> int:
        path = string_at(name).decode()
        existed = Path(path).exists()
        status = self._real_delete(cast(self._real, c_void_p), name, 0)
        if existed and path.startswith(self._folder):
            self._tell("delete", path)
            if flushes:
                self._tell("flush folder")
        return int(status)


@contextmanager
def recording(folder: Path) -> Iterator[list[Event]]:
    """What SQLite, and Python's own renames, do to the files in `folder` within the block, in order."""
    events: list[Event] = []
    rename, unlink = os.rename, os.unlink

    def on_rename(old: Any, new: Any) -> None:
        rename(old, new)
        events.append(("rename", str(old), str(new)))

    def on_unlink(path: Any, **options: Any) -> None:
        unlink(path, **options)
        events.append(("delete", str(path)))

    def on_fsync(handle: int) -> None:
        path = Path(f"/proc/self/fd/{handle}").readlink()
        events.append(("flush folder",) if path == folder else ("flush", str(path)))

    shim = _Shim(folder, events.append)
    shim.register()
    try:
        with (
            mock.patch("os.rename", on_rename),
            mock.patch("os.unlink", on_unlink),
            mock.patch("os.fsync", on_fsync),
        ):
            yield events
    finally:
        shim.unregister()


@contextmanager
def unflushed(folder: Path) -> Iterator[None]:
    """SQLite and Python flush nothing within the block: fast, and all the same while the machine has power."""
    shim = _Shim(folder, None)
    shim.register()
    try:
        with mock.patch("os.fsync"):
            yield
    finally:
        shim.unregister()


@dataclass
class _File:
    durable: bytearray = field(default_factory=bytearray)
    waiting: list[Event] = field(default_factory=list)


@dataclass
class Disk:
    """What the disk holds for certain, and what is still on its way there.

    Attributes:
        start: What the folder held when the record began.
        folder: The folder that was recorded.
    """

    start: Path
    folder: Path

    def __post_init__(self) -> None:
        self._now = {
            str(self.folder / path.name): _File(bytearray(path.read_bytes())) for path in self.start.iterdir()
        }
        self._durable = dict(self._now)
        self._names: list[dict[str, _File]] = []  # what the folder held after each change since it was flushed

    def play(self, event: Event) -> None:
        """One step of the record."""
        match event:
            case ("write" | "truncate", path, *_):
                self._now[path].waiting.append(event)
            case ("flush", path):
                file = self._now[path]
                for waiting in file.waiting:
                    _apply(file.durable, waiting)
                file.waiting.clear()
            case ("flush folder",):
                self._durable = dict(self._now)
                self._names.clear()
            case _:
                self._change_names(event)

    def _change_names(self, event: Event) -> None:
        match event:
            case ("create", path):
                self._now[path] = _File()
            case ("delete", path):
                self._now.pop(path, None)
            case ("rename", old, new):
                self._now[new] = self._now.pop(old)
            case _:
                raise AssertionError(event)
        self._names.append(dict(self._now))

    def write(self, target: Path, loss: Loss, chance: random.Random) -> None:
        """Writes into `target` what a power cut at this moment leaves; folders keep the order of their changes."""
        states = [self._durable, *self._names]
        names = {"all": states[0], "none": states[-1], "sectors": chance.choice(states)}[loss]
        for path, file in names.items():
            content = bytearray(file.durable)
            for event in _survivors(file.waiting, loss, chance):
                _apply(content, event)
            (target / Path(path).name).write_bytes(content)


def _survivors(waiting: list[Event], loss: Loss, chance: random.Random) -> list[Event]:
    if loss != "sectors":
        return [] if loss == "all" else waiting
    parts = [part for event in waiting for part in _sectors(event, chance.choice(_SECTORS))]
    kept = [part for part in parts if chance.random() < 0.5]
    if chance.random() < 0.5:
        chance.shuffle(kept)
    return kept


def _sectors(event: Event, size: int) -> Iterator[Event]:
    if event[0] != "write":
        yield event
        return
    _, path, offset, data = event
    at = 0
    while at < len(data):
        count = size - (offset + at) % size
        yield "write", path, offset + at, data[at : at + count]
        at += count


def _apply(content: bytearray, event: Event) -> None:
    if event[0] == "truncate":
        size = event[2]
        del content[size:]
        content.extend(bytes(size - len(content)))
        return
    _, _, offset, data = event
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data
