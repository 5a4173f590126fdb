"""The keys that seal what waits on the disk; they never lie in the spool's folder.

A key file holds 32 bytes, or lines of 64 hexadecimal digits: the first line seals, all of them open. A key is changed
by a new first line, which one rename makes durable; what the old keys sealed leaves with the spool's normal turnover.
Sealing is ChaCha20-Poly1305 (RFC 8439): fast on processors without AES instructions too. Each body has a random nonce
of 96 bits and the envelope's id as associated data, so that no body can take another's place.
"""

from __future__ import annotations

import contextlib
import hmac
import logging
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from walt_edge.contract.errors import WaltError
from walt_edge.contract.files import flush, put_in_place
from walt_edge.contract.topics import check_name

LOG = logging.getLogger(__name__)

KEY_BYTES = 32
CREDENTIAL = "spool.key"
_NONCE_BYTES = 12
_MAX_FILE_BYTES = 64 * 1024
_OTHERS = 0o007
_GROUP_AND_OTHERS = 0o077


class SpoolKeyError(WaltError):
    """A key is missing, of the wrong form, or lies where it must not."""


class UnreadableError(WaltError):
    """A body was not sealed by any of the keys, or is damaged."""


class SpoolKey:
    """Seals with its first key, opens with any of them.

    Args:
        keys: 32 random bytes each, the one that seals first.

    Raises:
        SpoolKeyError: None, or one of another length.
    """

    def __init__(self, *keys: bytes) -> None:
        # Here, since counting and settling need no cryptography.
        from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

        if not keys or any(len(key) != KEY_BYTES for key in keys):
            raise SpoolKeyError(f"keys of {[len(key) for key in keys]} bytes: expected one or more of {KEY_BYTES}")
        self._ciphers = {_key_id(key): ChaCha20Poly1305(key) for key in keys}
        self._first = _key_id(keys[0])

    @classmethod
    def make(cls) -> SpoolKey:
        """A new random key, kept nowhere."""
        return cls(secrets.token_bytes(KEY_BYTES))

    @property
    def id(self) -> str:
        """Names the key that seals; tells nothing of it."""
        return self._first

    @property
    def ids(self) -> frozenset[str]:
        """Names of all keys that open."""
        return frozenset(self._ciphers)

    def __repr__(self) -> str:
        return f"SpoolKey({', '.join(self._ciphers)})"

    def seal(self, id_: str, data: bytes) -> bytes:
        """The body of the envelope `id_`, 28 bytes longer: nonce, ciphertext, tag."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._ciphers[self._first].encrypt(nonce, data, id_.encode())

    def open(self, id_: str, key_id: str, body: bytes) -> bytes:
        """What `seal` was given.

        Raises:
            UnreadableError: Sealed by a key that is not among these, for another envelope, or damaged.
        """
        from cryptography.exceptions import InvalidTag

        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise UnreadableError(f"the key {key_id} is not among {', '.join(self._ciphers)}")
        try:
            return cipher.decrypt(body[:_NONCE_BYTES], body[_NONCE_BYTES:], id_.encode())
        except (InvalidTag, ValueError) as error:
            raise UnreadableError(f"the body of {id_[:12]} is damaged") from error


def find_key(
    spool: Path, device: str, named: Path | None = None, environment: Mapping[str, str] = os.environ
) -> SpoolKey:
    """The key of a device's spool: a systemd credential, else the named file, else one made at the first start.

    Args:
        spool: The spool's folder.
        device: The device's id.
        named: A file that the user names; it must exist.
        environment: Where `CREDENTIALS_DIRECTORY`, `XDG_CONFIG_HOME` and `HOME` are looked up.

    Raises:
        SpoolKeyError: The file cannot be read or made, is no key, lies in the spool's folder or is open to others.
    """
    credentials = environment.get("CREDENTIALS_DIRECTORY")
    if credentials and (Path(credentials) / CREDENTIAL).exists():
        # systemd guards the folder; an access list for the service's user shows as bits of the group.
        return read_key(Path(credentials) / CREDENTIAL, spool, _OTHERS)
    if named is not None:
        return read_key(named, spool)
    path = default_path(device, environment)
    if not path.exists():
        _check_place(path, spool)
        _write(path, [secrets.token_bytes(KEY_BYTES)])
        LOG.info("made the spool's key %s: without it, what waits on this device cannot be read", path)
    return read_key(path, spool)


def default_path(device: str, environment: Mapping[str, str] = os.environ) -> Path:
    """Where a device's key lies if nothing else is said; raises SpoolKeyError where there is no home folder."""
    config, home = environment.get("XDG_CONFIG_HOME"), environment.get("HOME")
    if not config and not home:
        raise SpoolKeyError("neither XDG_CONFIG_HOME nor HOME is set: name the spool's key with --spool-key FILE")
    folder = Path(config) if config else Path(home or "") / ".config"
    return folder / "walt" / "keys" / f"{check_name(device, 'device')}.key"


def read_key(path: Path, spool: Path, forbidden_mode: int = _GROUP_AND_OTHERS) -> SpoolKey:
    """Reads a key file; raises SpoolKeyError if it cannot be trusted or used."""
    _check_place(path, spool)
    return SpoolKey(*_read(path, forbidden_mode))


def rotate_key(path: Path, spool: Path) -> SpoolKey:
    """Puts a new key before those of a file; whole or not at all over a kill. It seals from the next start on."""
    _check_place(path, spool)
    _write(path, [secrets.token_bytes(KEY_BYTES), *_read(path, _GROUP_AND_OTHERS)])
    return read_key(path, spool)


def _read(path: Path, forbidden_mode: int) -> list[bytes]:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777
            data = file.read(_MAX_FILE_BYTES)
    except OSError as error:
        raise SpoolKeyError(
            f"cannot read the spool's key {path}: {error.strerror}; make one with: "
            f"(umask 077; head -c {KEY_BYTES} /dev/urandom > {path})"
        ) from error
    if mode & forbidden_mode:
        raise SpoolKeyError(f"the spool's key {path} is open to others (mode {mode:04o}): chmod 600 {path}")
    return _parse(path, data)


def _parse(path: Path, data: bytes) -> list[bytes]:
    if len(data) == KEY_BYTES:
        return [data]
    try:
        keys = [bytes.fromhex(line) for line in data.decode("ascii").split()]
    except ValueError:
        keys = []
    if not keys or any(len(key) != KEY_BYTES for key in keys):
        raise SpoolKeyError(
            f"the spool's key {path} holds {len(data)} bytes: expected {KEY_BYTES}, "
            f"or lines of {2 * KEY_BYTES} hexadecimal digits"
        )
    return keys


def _check_place(path: Path, spool: Path) -> None:
    """A thief of the spool's folder must not get the key with it."""
    if path.resolve().is_relative_to(spool.resolve()):
        raise SpoolKeyError(f"the spool's key {path} lies in the spool's folder {spool}: keep it elsewhere")


def _write(path: Path, keys: list[bytes]) -> None:
    """Durable, whole, and never readable by others, not even for a moment."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        _make_folder(path.parent)
        partial.unlink(missing_ok=True)
        handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(b"".join(f"{key.hex()}\n".encode() for key in keys))
        put_in_place(partial, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise SpoolKeyError(
            f"cannot write the spool's key {path}: {error.strerror}; name another with --spool-key FILE"
        ) from error


def _make_folder(folder: Path) -> None:
    """Makes a folder and those above it, each name durable."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    flush(folder.parent)


def _key_id(key: bytes) -> str:
    return hmac.digest(key, b"walt spool key id", "sha256")[:8].hex()
