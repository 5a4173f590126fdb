"""Keys are made once, kept elsewhere, refused where others could take them, changed without losing what waits."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.killing import flushed
from walt_edge.spool.key import (
    KEY_BYTES,
    SpoolKey,
    SpoolKeyError,
    UnreadableError,
    default_path,
    find_key,
    read_key,
    rotate_key,
)

RAW = bytes(range(KEY_BYTES))
OTHER = bytes(reversed(RAW))


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    folder = tmp_path / "spool"
    folder.mkdir()
    return folder


def written(path: Path, data: bytes, mode: int = 0o600) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.chmod(mode)
    return path


def test_what_is_sealed_opens_for_its_id_alone_and_differs_each_time() -> None:
    key = SpoolKey(RAW)
    one, two = key.seal("a", b"body"), key.seal("a", b"body")
    assert one != two
    assert b"body" not in one
    assert key.open("a", key.id, one) == key.open("a", key.id, two) == b"body"
    damaged = bytes([one[0] ^ 1]) + one[1:]
    for id_, key_id, body in (("b", key.id, one), ("a", "0" * 16, one), ("a", key.id, damaged), ("a", key.id, b"")):
        with pytest.raises(UnreadableError):
            key.open(id_, key_id, body)
    with pytest.raises(UnreadableError):
        SpoolKey(OTHER).open("a", key.id, one)


def test_nothing_that_is_printed_tells_the_key() -> None:
    assert RAW.hex() not in repr(SpoolKey(RAW)) + str(SpoolKey(RAW).ids)


def test_the_first_start_makes_a_key_that_later_ones_find(tmp_path: Path, spool: Path) -> None:
    environment = {"HOME": str(tmp_path / "me")}
    path = default_path("walt-1", environment)
    assert path == tmp_path / "me/.config/walt/keys/walt-1.key"
    with flushed() as paths:
        made = find_key(spool, "walt-1", environment=environment)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert {str(folder) for folder in (tmp_path, *list(path.parents)[:3])} <= set(paths)  # every new name is durable
    assert find_key(spool, "walt-1", environment=environment).id == made.id
    assert find_key(spool, "walt-2", environment=environment).id != made.id
    assert default_path("walt-1", environment | {"XDG_CONFIG_HOME": "/x"}) == Path("/x/walt/keys/walt-1.key")


def test_a_credential_goes_before_a_named_file_and_that_before_one_of_our_own(tmp_path: Path, spool: Path) -> None:
    credential = written(tmp_path / "credentials" / "spool.key", RAW, 0o440)
    named = written(tmp_path / "named.key", OTHER.hex().encode() + b"\n")
    environment = {"HOME": str(tmp_path), "CREDENTIALS_DIRECTORY": str(credential.parent)}
    assert find_key(spool, "walt-1", named, environment).id == SpoolKey(RAW).id
    credential.unlink()
    assert find_key(spool, "walt-1", named, environment).id == SpoolKey(OTHER).id
    assert not default_path("walt-1", environment).exists()


@pytest.mark.parametrize(
    ("data", "mode", "line"),
    [
        (RAW[:-1], 0o600, "holds 31 bytes: expected 32"),
        (RAW.hex().encode()[:-2], 0o600, "lines of 64 hexadecimal digits"),
        (b"", 0o600, "holds 0 bytes"),
        (b"z" * 64, 0o600, "hexadecimal"),
        (RAW, 0o644, "open to others (mode 0644): chmod 600"),
        (RAW, 0o640, "open to others"),
    ],
)
def test_a_file_that_is_no_key_or_no_secret_is_refused(
    tmp_path: Path, spool: Path, data: bytes, mode: int, line: str
) -> None:
    with pytest.raises(SpoolKeyError) as told:
        read_key(written(tmp_path / "some.key", data, mode), spool)
    assert line in str(told.value)
    assert "\n" not in str(told.value)


def test_a_named_file_that_is_absent_is_not_made(tmp_path: Path, spool: Path) -> None:
    # A disk that is not mounted must not look like a device that starts for the first time.
    with pytest.raises(SpoolKeyError, match="umask 077"):
        find_key(spool, "walt-1", tmp_path / "absent.key", {"HOME": str(tmp_path)})


def test_a_key_beside_the_spool_is_refused_through_links_too(tmp_path: Path, spool: Path) -> None:
    inside = written(spool / "below" / "spool.key", RAW)
    link = tmp_path / "link.key"
    link.symlink_to(inside)
    folder = tmp_path / "folder"
    folder.symlink_to(spool)
    for path, where in ((inside, spool), (link, spool), (inside, folder), (folder / "below/spool.key", spool)):
        with pytest.raises(SpoolKeyError, match="lies in the spool's folder"):
            read_key(path, where)
    with pytest.raises(SpoolKeyError, match="lies in the spool's folder"):
        find_key(spool, "walt-1", environment={"XDG_CONFIG_HOME": str(spool)})
    assert not (spool / "walt").exists()


def test_where_no_key_can_be_made_one_line_says_what_to_do(tmp_path: Path, spool: Path) -> None:
    (tmp_path / "file").write_text("")
    for environment in ({}, {"HOME": str(tmp_path / "file")}):
        with pytest.raises(SpoolKeyError, match="--spool-key FILE"):
            find_key(spool, "walt-1", environment=environment)


def test_a_new_key_seals_and_the_old_ones_still_open(tmp_path: Path, spool: Path) -> None:
    path = written(tmp_path / "some.key", RAW)
    old = read_key(path, spool)
    new = rotate_key(path, spool)
    assert new.id != old.id
    assert new.open("a", old.id, old.seal("a", b"body")) == b"body"
    assert rotate_key(path, spool).ids > new.ids
    assert path.stat().st_mode & 0o777 == 0o600
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("keys", [(), (b"short",), (RAW, b"short")])
def test_keys_of_another_length_are_refused(keys: tuple[bytes, ...]) -> None:
    with pytest.raises(SpoolKeyError, match="expected one or more of 32"):
        SpoolKey(*keys)
