"""The private keys that sign releases: one for each role, in a folder of their own, readable by their owner alone."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner

from walt_edge.contract.errors import WaltError
from walt_edge.contract.files import flush

ROLES = ("root", "targets", "snapshot", "timestamp")
_NOT_THE_OWNER = 0o077


class KeysError(WaltError):
    """The keys are missing, readable by others, damaged, or another repository's."""


def load_keys(folder: Path) -> Mapping[str, CryptoSigner]:
    """Reads the key of every role.

    Raises:
        KeysError: One is missing, unreadable, no ed25519 key, or readable by others than its owner.
    """
    return {role: _load(folder / f"{role}.pem") for role in ROLES}


def make_keys(folder: Path) -> Mapping[str, CryptoSigner]:
    """Makes the keys that are not there yet, and reads all.

    Raises:
        KeysError: They cannot be written, or `load_keys` refuses them.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for role in ROLES:
            if not (folder / f"{role}.pem").exists():
                _write(folder / f"{role}.pem", CryptoSigner.generate_ed25519().private_bytes)
    except OSError as error:
        raise KeysError(f"cannot write keys in {folder}: {error.strerror}; give another --keys") from error
    return load_keys(folder)


def _load(path: Path) -> CryptoSigner:
    try:
        if path.stat().st_mode & _NOT_THE_OWNER:
            raise KeysError(
                f"{path} can be read by others than its owner: chmod 600 it, or make new keys if it leaked"
            )
        private = load_pem_private_key(path.read_bytes(), None)
    except OSError as error:
        raise KeysError(f"cannot read {path}: {error.strerror}; give the repository's own --keys") from error
    except (ValueError, TypeError) as error:
        raise KeysError(f"{path} is no unencrypted PEM key: restore it from where its copy is kept") from error
    if not isinstance(private, Ed25519PrivateKey):
        raise KeysError(f"{path} is no ed25519 key: restore it from where its copy is kept")
    return CryptoSigner(private)


def _write(path: Path, data: bytes) -> None:
    partial = path.with_name(f".{path.name}.partial")
    with contextlib.suppress(FileNotFoundError):
        partial.unlink()
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    # A root that names a key which the power took could never be followed by another.
    flush(path.parent)
