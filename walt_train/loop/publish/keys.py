"""The private keys that sign releases: one for each role, readable by their owner alone.

They begin in one folder. A careful home keeps those of `root` and `targets` in another one, on a stick in a drawer.
While a key is exchanged the new one lies beside the old as `ROLE.next.pem`; which of them counts is for the metadata
to say, so a kill in between loses none.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner

from walt_edge.contract.errors import WaltError
from walt_edge.contract.files import flush, write_private
from walt_train.loop.publish.roles import OFFLINE

_NOT_THE_OWNER = 0o077


class KeysError(WaltError):
    """The keys are missing, readable by others, damaged, or another repository's."""


class Keys:
    """The keys of one repository.

    Args:
        folder: Where they lie.
        offline: Where those lie that are not kept there, if that is at hand.
    """

    def __init__(self, folder: Path, offline: Path | None = None) -> None:
        self.folder = folder
        self.offline = offline

    def signer(self, role: str, named: Collection[str]) -> CryptoSigner | None:
        """The key of a role, or None if it is not at hand.

        Args:
            role: Whose.
            named: Ids of the keys that the metadata names for it.

        Raises:
            KeysError: There is one, but another repository's; or it is unreadable, no ed25519 key, or readable by
                others than its owner.
        """
        current = [path for path in self._paths(role) if path.exists()]
        pending = [path for path in self._paths(role, ".next") if path.exists()]
        for path in (*current, *pending):
            signer = self._load(path)
            if signer.public_key.keyid in named:
                return signer
        if current:
            raise KeysError(f"{current[0]} is not the key that the repository names for {role}: give its own --keys")
        return None

    def pending(self, role: str) -> CryptoSigner | None:
        """The key that is to follow, if an exchange was begun; raises KeysError as `signer` does."""
        return next((self._load(path) for path in self._paths(role, ".next") if path.exists()), None)

    def where(self, role: str, named: Collection[str]) -> Path | None:
        """The file of the key that the metadata names, or None; raises KeysError as `signer` does."""
        files = (path for path in (*self._paths(role), *self._paths(role, ".next")) if path.exists())
        return next((path for path in files if self._load(path).public_key.keyid in named), None)

    def make(self, roles: Iterable[str]) -> dict[str, CryptoSigner]:
        """Makes keys that are not there yet; raises KeysError if they cannot be written, or as `signer` does."""
        made = {}
        for role in roles:
            path = next((path for path in self._paths(role) if path.exists()), self.folder / f"{role}.pem")
            if not path.exists():
                _write(path)
            made[role] = self._load(path)
        return made

    def make_pending(self, role: str) -> CryptoSigner:
        """Makes the key that is to follow, where the present one lies or should; raises KeysError as `make` does."""
        pending = self.pending(role)
        if pending is not None:
            return pending
        files = self._paths(role)
        path = next((path for path in files if path.exists()), files[-1])
        _write(path.with_name(f"{role}.next.pem"))
        return self._load(path.with_name(f"{role}.next.pem"))

    def adopt(self, role: str, named: Collection[str]) -> bool:
        """Has the key that is to follow take the old one's place if the metadata names it; returns whether it did.

        Raises:
            KeysError: As `make` does.
        """
        for path in self._paths(role, ".next"):
            if path.exists() and self._load(path).public_key.keyid in named:
                try:
                    path.replace(path.with_name(f"{role}.pem"))
                    flush(path.parent)
                except OSError as error:
                    raise KeysError(f"cannot write keys in {path.parent}: {error.strerror}; repeat it") from error
                return True
        return False

    def move(self, roles: Iterable[str], to: Path) -> None:
        """Copies keys to a folder and, once all of them are on its disk, removes them here.

        Raises:
            KeysError: One cannot be written there, or another key is there by its name.
        """
        paths = [path for role in roles if (path := self.folder / f"{role}.pem").exists()]
        try:
            to.mkdir(parents=True, exist_ok=True, mode=0o700)
            for path in paths:
                data, copy = path.read_bytes(), to / path.name
                if copy.exists() and copy.read_bytes() != data:
                    raise KeysError(f"{copy} is another key than {path}: give an empty folder")
                write_private(copy, data)
                if copy.read_bytes() != data:
                    raise KeysError(f"{copy} is not what was written: give another disk")
            for path in paths:
                path.unlink()
            flush(self.folder)
        except OSError as error:
            raise KeysError(f"cannot move keys to {to}: {error.strerror}; give another folder") from error

    def remedy(self, role: str) -> str:
        """What mends that a key is not at hand: words for people."""
        if role in OFFLINE:
            return "walt-loop keys renew --offline DIR, with the folder to which it was moved"
        return f"give the repository's own --keys, or, if it is lost, walt-loop keys rotate {role}"

    def _paths(self, role: str, which: str = "") -> list[Path]:
        folders = [self.folder, *([self.offline] if self.offline is not None and role in OFFLINE else [])]
        return [folder / f"{role}{which}.pem" for folder in folders]

    def _load(self, path: Path) -> CryptoSigner:
        try:
            # The file systems of most sticks know no owners: there it is the drawer that guards them.
            if path.parent == self.folder and path.stat().st_mode & _NOT_THE_OWNER:
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


def _write(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # A root that names a key which the power took could never be followed by another: it is flushed.
        write_private(path, CryptoSigner.generate_ed25519().private_bytes)
    except OSError as error:
        raise KeysError(f"cannot write keys in {path.parent}: {error.strerror}; give another --keys") from error
