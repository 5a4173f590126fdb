"""A TUF repository in a folder: what a release is, and what an agent may trust.

```
DIR/root.json                          what an agent is given to trust, once
DIR/metadata/N.root.json ... timestamp.json
DIR/targets/SHA256.NAME-N.walt
```

Every file but `timestamp.json` and `root.json` is written under a name that no reader knows yet, and the timestamp
comes last: it is the moment of the release. A kill before it leaves files that the next publishing overwrites.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp
from tuf.api.serialization import DeserializationError

from walt_edge.contract.bundle import SUFFIX, Bundle
from walt_edge.contract.errors import WaltError
from walt_edge.contract.files import remove_partial, write_whole
from walt_train.loop.publish.files import held
from walt_train.loop.publish.keys import ROLES, KeysError, load_keys, make_keys

TRUST_ROOT = "root.json"
LIFE: Final[Mapping[str, timedelta]] = {
    "root": timedelta(days=365),
    "targets": timedelta(days=90),
    "snapshot": timedelta(days=30),
    "timestamp": timedelta(days=30),
}
RESTORED = ".restored"
"""Lies in a repository that was restored from a copy: devices may know of newer releases than it does."""
_LEAP = 1000
_SIGNED_AT = "signed_at"
_RFC_3339 = "%Y-%m-%dT%H:%M:%SZ"


class PublishError(WaltError):
    """The repository cannot be read or written."""


@dataclass(frozen=True, slots=True)
class Release:
    """What was published.

    Attributes:
        number: Monotonic.
        target: The bundle's name in the repository.
        sha256: Of the bundle.
    """

    number: int
    target: str
    sha256: str


@dataclass(slots=True)
class _State:
    """What a reader sees at this moment; versions are 0 where nothing was published yet."""

    root: Root
    targets: dict[str, TargetFile]
    versions: dict[str, int]
    expires: dict[str, datetime]
    signed_at: datetime | None = None

    @property
    def releases(self) -> list[Release]:
        """The newest first."""
        found = [Release(_number(one), name, one.hashes["sha256"]) for name, one in self.targets.items()]
        return sorted(found, key=lambda release: release.number, reverse=True)

    @property
    def newest(self) -> Release | None:
        return next(iter(self.releases), None)


class Repository:
    """Publishes into one folder; several processes may try, one at a time does.

    Args:
        folder: What is served; made at the first publishing.
        keys: Where the private keys lie, outside of `folder`; made at the first publishing.
        now: The clock.

    Raises:
        KeysError: The keys would be served with the repository.
    """

    def __init__(self, folder: Path, keys: Path, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        if keys.resolve().is_relative_to(folder.resolve()):
            raise KeysError(f"the keys in {keys} would be served with {folder}: give --keys outside of it")
        self._folder = folder
        self._metadata = folder / "metadata"
        self._targets = folder / "targets"
        self._keys_folder = keys
        self._now = now

    @property
    def trust_root(self) -> Path:
        """The file that every agent is given once."""
        return self._folder / TRUST_ROOT

    def begin(self) -> Path:
        """Makes keys and root if they are not there, so that agents can be given the root; returns `trust_root`.

        Raises:
            KeysError, BusyError, PublishError: As `publish` does.
        """
        with self._writing():
            return self.trust_root

    def newest(self) -> Release | None:
        """The newest release, or None before the first; raises PublishError if the repository is damaged."""
        return self._read(self._newest_root()).newest if self._is_begun else None

    def find(self, sha256: str) -> Release | None:
        """The newest release of these bytes, or None; raises PublishError if the repository is damaged."""
        releases = self._read(self._newest_root()).releases if self._is_begun else []
        return next((release for release in releases if release.sha256 == sha256), None)

    def publish(self, bundle: Path) -> Release:
        """Signs a bundle under the next number; one that is the newest already keeps its number.

        Raises:
            BundleError: It is no bundle.
            KeysError: The keys are missing or another repository's.
            BusyError: Another publisher is at work.
            PublishError: The repository is damaged or cannot be written; what was published before still is.
        """
        checked = Bundle.read(bundle)
        with self._writing() as (state, keys):
            newest = state.newest
            if newest is not None and newest.sha256 == checked.sha256 and self._step == 1:
                self._renew(state, keys)
                return newest
            data = bundle.read_bytes()
            if hashlib.sha256(data).hexdigest() != checked.sha256:
                raise PublishError(f"{bundle} changed while it was read: publish it again")
            number = (newest.number if newest else 0) + self._step
            name = f"{checked.manifest.name}-{number}{SUFFIX}"
            write_whole(self._targets / f"{checked.sha256}.{name}", data)
            custom = {"custom": {"release": number}}
            state.targets[name] = TargetFile(len(data), {"sha256": checked.sha256}, name, custom)
            self._commit(state, keys)
        return Release(number, name, checked.sha256)

    def remove(self, sha256s: Sequence[str]) -> list[int]:
        """Takes releases of these bytes back, but for the newest of all: its number must never be given again.

        Their bundles are removed, once nothing that is signed names them.

        Returns:
            The numbers of what was taken back.

        Raises:
            KeysError, BusyError, PublishError: As `publish` does.
        """
        if not self._is_begun:
            return []
        with self._writing() as (state, keys):
            gone = [one for one in state.releases[1:] if one.sha256 in sha256s]
            for release in gone:
                del state.targets[release.target]
            if gone:
                self._commit(state, keys)
            self._sweep(state)
        return [release.number for release in gone]

    def _sweep(self, state: _State) -> None:
        """Removes bundles that nothing names: of releases that were taken back, or that a kill left."""
        named = {f"{target.hashes['sha256']}.{name}" for name, target in state.targets.items()}
        for path in self._targets.glob(f"*{SUFFIX}"):
            if path.name not in named:
                path.unlink(missing_ok=True)

    def refresh(self) -> None:
        """Signs what is there anew, so that agents go on trusting it; to be called well within 30 days.

        Raises:
            PublishError: Nothing was published yet, or as `publish` does.
        """
        if not self._is_begun:
            raise PublishError(f"no release in {self._folder} yet: publish a bundle first")
        with self._writing() as (state, keys):
            self._commit(state, keys)

    def keep(self) -> bool:
        """Signs anew what has lived half of its life; to be called now and then. Returns whether there was need.

        Raises:
            KeysError, BusyError, PublishError: As `publish` does.
        """
        if not self._is_begun:
            return False
        with self._writing() as (state, keys):
            return self._renew(state, keys)

    @property
    def _is_begun(self) -> bool:
        return (self._metadata / "timestamp.json").exists()

    @contextmanager
    def _writing(self) -> Iterator[tuple[_State, Mapping[str, CryptoSigner]]]:
        """Holds the repository, begins it if it is new, and checks that the keys are its own."""
        try:
            for folder in (self._metadata, self._targets):
                folder.mkdir(parents=True, exist_ok=True)
            with held(self._folder / ".lock", str(self._folder)):
                for folder in (self._folder, self._metadata, self._targets):
                    remove_partial(folder)
                keys = load_keys(self._keys_folder) if self._is_begun else make_keys(self._keys_folder)
                root = self._own_root(keys)
                yield self._read(root) if self._is_begun else _new_state(root), keys
        except OSError as error:
            raise PublishError(f"cannot write in {self._folder}: {error.strerror}; free space or mend it") from error

    def _own_root(self, keys: Mapping[str, CryptoSigner]) -> Root:
        """The newest root, made or renewed if need be, with its copy for the agents."""
        numbers = self._root_versions()
        root = self._newest_root() if numbers else _new_root(keys)
        if any(keys[role].public_key.keyid not in root.roles[role].keyids for role in ROLES):
            raise KeysError(f"the keys in {self._keys_folder} are not those of {self._folder}: give its own --keys")
        if not numbers or self._is_due("root", root.expires):
            root.version = max(numbers, default=0) + 1
            root.expires = self._now() + LIFE["root"]
            write_whole(self._metadata / f"{root.version}.root.json", _signed(root, keys))
        data = (self._metadata / f"{root.version}.root.json").read_bytes()
        if not self.trust_root.exists() or self.trust_root.read_bytes() != data:
            write_whole(self.trust_root, data)
        return root

    def _root_versions(self) -> list[int]:
        names = (path.name.removesuffix(".root.json") for path in self._metadata.glob("*.root.json"))
        return [int(name) for name in names if name.isdecimal()]

    def _newest_root(self) -> Root:
        newest: Root = self._load(f"{max(self._root_versions(), default=1)}.root.json", Root).signed
        return newest

    def _read(self, root: Root) -> _State:
        timestamp = self._load("timestamp.json", Timestamp, root).signed
        version = timestamp.snapshot_meta.version
        snapshot = self._load(f"{version}.snapshot.json", Snapshot, root).signed
        targets = self._load(f"{snapshot.meta['targets.json'].version}.targets.json", Targets, root).signed
        signed = (timestamp, snapshot, targets)
        versions = {one.type: one.version for one in signed}
        expires = {one.type: one.expires for one in signed}
        return _State(root, targets.targets, versions, expires, _signed_at(timestamp))

    def _load(self, name: str, role: type[Any], root: Root | None = None) -> Metadata[Any]:
        try:
            loaded: Metadata[Any] = Metadata.from_bytes((self._metadata / name).read_bytes())
            if not isinstance(loaded.signed, role):
                raise RepositoryError(f"it is of type {loaded.signed.type}")
            # A root vouches for itself, and for everything else.
            (root or loaded.signed).verify_delegate(loaded.signed.type, loaded.signed_bytes, loaded.signatures)
        except (OSError, RepositoryError, DeserializationError) as error:
            raise PublishError(
                f"{self._metadata / name} is missing or damaged ({error}): restore {self._folder} from its copy"
            ) from error
        return loaded

    def _renew(self, state: _State, keys: Mapping[str, CryptoSigner]) -> bool:
        is_due = self._step > 1 or any(self._is_due(role, expires) for role, expires in state.expires.items())
        if is_due:
            self._commit(state, keys)
        return is_due

    def _commit(self, state: _State, keys: Mapping[str, CryptoSigner]) -> None:
        """Signs and writes targets, snapshot and, last, the timestamp."""
        # Devices know that it is later than they were once told: a clock that was ahead is stood by.
        now = max(self._now(), state.signed_at or self._now())
        version = {role: state.versions[role] + self._step for role in ("targets", "snapshot", "timestamp")}
        targets = Targets(version["targets"], expires=now + LIFE["targets"], targets=state.targets)
        targets_meta = self._write(targets, keys)
        meta = {"targets.json": targets_meta}
        snapshot = Snapshot(version["snapshot"], expires=now + LIFE["snapshot"], meta=meta)
        snapshot_meta = self._write(snapshot, keys)
        # It is later than this wherever the timestamp is read: a device needs no right clock to know so.
        signed_at = {_SIGNED_AT: now.strftime(_RFC_3339)}
        expires = now + LIFE["timestamp"]
        timestamp = Timestamp(
            version["timestamp"], expires=expires, snapshot_meta=snapshot_meta, unrecognized_fields=signed_at
        )
        write_whole(self._metadata / "timestamp.json", _signed(timestamp, keys))
        (self._folder / RESTORED).unlink(missing_ok=True)

    @property
    def _step(self) -> int:
        """How far numbers go on: over all that may have been given after the copy that this was restored from."""
        return _LEAP if (self._folder / RESTORED).exists() else 1

    def _write(self, signed: Targets | Snapshot, keys: Mapping[str, CryptoSigner]) -> MetaFile:
        data = _signed(signed, keys)
        write_whole(self._metadata / f"{signed.version}.{signed.type}.json", data)
        return MetaFile.from_data(signed.version, data, ["sha256"])

    def _is_due(self, role: str, expires: datetime) -> bool:
        """Whether half of its life is over."""
        return expires - self._now() < LIFE[role] / 2


def _new_root(keys: Mapping[str, CryptoSigner]) -> Root:
    root = Root(consistent_snapshot=True)
    for role in ROLES:
        root.add_key(keys[role].public_key, role)
    return root


def _new_state(root: Root) -> _State:
    return _State(root, {}, dict.fromkeys(("targets", "snapshot", "timestamp"), 0), {})


def _signed(signed: Root | Targets | Snapshot | Timestamp, keys: Mapping[str, CryptoSigner]) -> bytes:
    metadata: Metadata[Any] = Metadata(signed)
    metadata.sign(keys[signed.type])
    return metadata.to_bytes()


def _signed_at(timestamp: Timestamp) -> datetime | None:
    """When it was signed; None of one that does not tell."""
    text = timestamp.unrecognized_fields.get(_SIGNED_AT)
    return datetime.strptime(text, _RFC_3339).replace(tzinfo=UTC) if text else None


def _number(target: TargetFile) -> int:
    number = (target.custom or {}).get("release", 0)
    return number if isinstance(number, int) else 0
