"""TUF metadata in a folder: reads what was signed, checks it, and signs what changed or grows old.

Every file but `timestamp.json` and `root.json` is written under a name that no reader knows yet, and the timestamp
comes last: it is the moment at which all of it is so. A kill before it leaves files that the next writing overwrites.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import (
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization import DeserializationError

from walt_edge.contract.errors import WaltError
from walt_edge.contract.files import remove_partial, write_whole
from walt_train.loop.publish.files import held
from walt_train.loop.publish.keys import Keys, KeysError
from walt_train.loop.publish.roles import CHANNELS, LIFE, LISTS, ROLES, delegate, is_due, is_late

TRUST_ROOT: Final = "root.json"
RESTORED: Final = ".restored"
"""Lies in a repository that was restored from a copy: devices may know of newer metadata than it has. Empty: of every
role; else it names the roles of which that still holds."""
_LEAP = 1000
_KEPT = 20
_ROOTS_AFTER_RESTORE = 16
_SIGNED_AT = "signed_at"
_RFC_3339 = "%Y-%m-%dT%H:%M:%SZ"
_VERSIONED = (*LISTS, "snapshot", "timestamp")


class PublishError(WaltError):
    """The repository cannot be read or written."""


@dataclass(slots=True)
class State:
    """What a reader sees at this moment, and what is to be signed next.

    Attributes:
        root: The newest.
        delegations: What `targets` says of the channels; None in a repository of the first form, which has none.
        lists: What each role signs, by the target's name.
        meta: Of the lists, as the snapshot has it.
        versions: 0 where nothing was signed yet.
        expires: Of what was signed.
        signed_at: When the timestamp was.
        changed: Roles whose lists are not signed as they are here.
        without: A role whose key is exchanged now, and may be lost.
        adopted: Roles whose new keys took their place just now: an exchange that was interrupted is complete.
    """

    root: Root
    delegations: Delegations | None = None
    lists: dict[str, dict[str, TargetFile]] = field(default_factory=lambda: {role: {} for role in LISTS})
    meta: dict[str, MetaFile] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_VERSIONED, 0))
    expires: dict[str, datetime] = field(default_factory=dict)
    signed_at: datetime | None = None
    changed: set[str] = field(default_factory=set)
    without: str = ""
    adopted: set[str] = field(default_factory=set)

    def key_ids(self, role: str) -> list[str]:
        """Ids of the keys that sign for a role."""
        if role not in CHANNELS:
            return self.root.roles[role].keyids
        roles = self.delegations.roles if self.delegations is not None else None
        return roles[role].keyids if roles and role in roles else []


class SignedFolder:
    """The metadata of one repository; several processes may try to write it, one at a time does.

    Args:
        folder: What is served; made at the first writing.
        keys: The private keys, outside of `folder`; made at the first writing.
        now: The clock.

    Raises:
        KeysError: Keys would be served with the repository.
    """

    def __init__(self, folder: Path, keys: Keys, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        for one in (keys.folder, keys.offline):
            if one is not None and one.resolve().is_relative_to(folder.resolve()):
                raise KeysError(f"the keys in {one} would be served with {folder}: keep them outside of it")
        self.folder = folder
        self.metadata = folder / "metadata"
        self.keys = keys
        self.now = now

    @property
    def is_begun(self) -> bool:
        """Whether anything was signed."""
        return (self.metadata / "timestamp.json").exists()

    @property
    def leaping(self) -> frozenset[str]:
        """Roles whose versions must go on above all that may have been given after the copy that was restored."""
        path = self.folder / RESTORED
        return frozenset(path.read_text().split() or ROLES) if path.exists() else frozenset()

    def step(self, role: str) -> int:
        """How far a role's numbers go on; of `timestamp`, those of releases too."""
        return _LEAP if role in self.leaping else 1

    def read(self) -> State:
        """What is there; raises PublishError if it is damaged."""
        root, trusted = self.newest_root(), self._and_what_follows(self.newest_root())
        timestamp = self._load("timestamp", Timestamp, trusted).signed
        snapshot = self._load(f"{timestamp.snapshot_meta.version}.snapshot", Snapshot, trusted).signed
        signed: dict[str, Any] = {"root": root, "snapshot": snapshot, "timestamp": timestamp}
        signed["targets"] = self._load_list("targets", snapshot, trusted)
        delegations = signed["targets"].delegations
        if delegations is not None:
            signed |= {role: self._load_list(role, snapshot, signed["targets"]) for role in CHANNELS}
        state = State(root, delegations, meta=snapshot.meta, signed_at=_signed_at(timestamp))
        state.expires = {role: one.expires for role, one in signed.items()}
        state.versions |= {role: one.version for role, one in signed.items() if role != "root"}
        state.lists |= {role: signed[role].targets for role in LISTS if role in signed}
        return state

    @contextmanager
    def writing(self, without: str = "") -> Iterator[State]:
        """Holds the repository, begins it if it is new, brings it to its present form, and renews the root.

        Args:
            without: A role whose key may be missing.

        Raises:
            KeysError: Keys are missing, or another repository's.
            BusyError: Another one is at work.
            PublishError: The repository is damaged or cannot be written.
        """
        try:
            for folder in (self.metadata, self.folder / "targets"):
                folder.mkdir(parents=True, exist_ok=True)
            with held(self.folder / ".lock", str(self.folder)):
                for folder in (self.folder, self.metadata, self.folder / "targets"):
                    remove_partial(folder)
                yield self._begin_writing(without)
        except OSError as error:
            raise PublishError(f"cannot write in {self.folder}: {error.strerror}; free space or mend it") from error

    def _begin_writing(self, without: str) -> State:
        numbers = self._root_versions()
        if not self.is_begun:
            self.keys.make(ROLES)
        new = self.newest_root if numbers else self._new_root
        state = self.read() if self.is_begun else State(new())
        state.without = without
        state.adopted = {role for role in ROLES if self.keys.adopt(role, state.key_ids(role))}
        signer = self.keys.signer("root", state.key_ids("root"))
        is_old = "root" in self.leaping or is_due("root", state.root.expires - self.now())
        if not numbers or (signer is not None and is_old):
            self.write_root(state, [self.needed("root", state)])
        self._copy_root(state.root)
        if state.delegations is None:
            self._delegate(state)
        for role in {"snapshot", "timestamp"} - {without}:
            self.needed(role, state)
        return state

    def _delegate(self, state: State) -> None:
        """Of a new repository, or one of the first form, whose releases go on as `stable` ones."""
        if self.is_begun:
            self.needed("targets", state)
        made = self.keys.make(CHANNELS)
        state.delegations = delegate({role: made[role].public_key for role in CHANNELS})
        state.lists["stable"] = dict(state.lists["targets"])
        state.changed |= set(LISTS)

    def write_root(self, state: State, signers: Collection[CryptoSigner]) -> None:
        """Writes the root as the next version, for a whole life; raises OSError.

        Roots cannot leap. In a restored repository as many follow as there may have been since the copy, so that one
        of them is the next for every device, whichever it knows.
        """
        root = state.root
        root.expires = state.expires["root"] = self.now() + LIFE["root"]
        for _ in range(_ROOTS_AFTER_RESTORE if "root" in self.leaping else 1):
            root.version = max(self._root_versions(), default=0) + 1
            write_whole(self.metadata / f"{root.version}.root.json", _signed(root, signers))
        self._copy_root(root)

    def _copy_root(self, root: Root) -> None:
        """For the agents."""
        data = (self.metadata / f"{root.version}.root.json").read_bytes()
        path = self.folder / TRUST_ROOT
        if not path.exists() or path.read_bytes() != data:
            write_whole(path, data)

    def at_hand(self, state: State) -> list[str]:
        """Roles with lists whose keys are here; raises KeysError if one is another repository's."""
        return [role for role in LISTS if self.keys.signer(role, state.key_ids(role)) is not None]

    def is_due(self, state: State) -> bool:
        """Whether anything that can be signed here should be."""
        keys = {role: self.keys.signer(role, state.key_ids(role)) for role in _VERSIONED}
        left = {role: expires - self.now() for role, expires in state.expires.items()}
        return bool(state.changed) or any(
            keys[role] is not None and (role in self.leaping or (role in left and is_due(role, left[role])))
            for role in _VERSIONED
        )

    def commit(self, state: State, also: Collection[str] = ()) -> None:
        """Signs the lists that changed or are due, the snapshot and, last, the timestamp.

        Args:
            state: As it is to be.
            also: Further roles whose lists are signed anew.

        Raises:
            KeysError: A key that is needed is not at hand; nothing was written.
            OSError: It cannot be written; for readers nothing changed.
        """
        must = state.changed | set(also)
        if state.lists["targets"] and must & {"targets", "stable"} and "targets" in self.at_hand(state):
            # Agents of the first form look nowhere else; without the key they keep what they have.
            state.lists["targets"] = dict(state.lists["stable"])
            must.add("targets")
        signers = {role: self._signers(role, state, is_needed=role in must) for role in LISTS}
        signers |= {role: self._signers(role, state, is_needed=True) for role in ("snapshot", "timestamp")}
        # Devices know that it is later than they were once told: a clock that was ahead is stood by.
        now = max(self.now(), state.signed_at or self.now())
        leaping = self.leaping
        for role in LISTS:
            is_old = role in leaping or (role in state.expires and is_due(role, state.expires[role] - self.now()))
            if signers[role] and (role in must or is_old):
                self._sign_list(role, state, now, signers[role])
                leaping -= {role}
        for role in ("snapshot", "timestamp"):
            state.versions[role] += self.step(role)
            state.expires[role] = now + LIFE[role]
        self._sign_snapshot(state, now, signers)
        is_root_here = self.keys.signer("root", state.key_ids("root")) is not None
        self._note_leaps(leaping - {"snapshot", "timestamp"} - ({"root"} if is_root_here else set()))
        self._prune(state)
        state.changed, state.signed_at = set(), now

    def _sign_list(self, role: str, state: State, now: datetime, signers: Collection[CryptoSigner]) -> None:
        state.versions[role] += self.step(role)
        state.expires[role] = now + LIFE[role]
        delegations = state.delegations if role == "targets" else None
        version, expires = state.versions[role], state.expires[role]
        signed = Targets(version, expires=expires, targets=state.lists[role], delegations=delegations)
        data = _signed(signed, signers)
        write_whole(self.metadata / f"{version}.{role}.json", data)
        state.meta[f"{role}.json"] = MetaFile.from_data(version, data, ["sha256"])

    def _sign_snapshot(self, state: State, now: datetime, signers: dict[str, list[CryptoSigner]]) -> None:
        version = state.versions["snapshot"]
        snapshot = Snapshot(version, expires=state.expires["snapshot"], meta=state.meta)
        data = _signed(snapshot, signers["snapshot"])
        write_whole(self.metadata / f"{version}.snapshot.json", data)
        timestamp = Timestamp(
            state.versions["timestamp"],
            expires=state.expires["timestamp"],
            snapshot_meta=MetaFile.from_data(version, data, ["sha256"]),
            # It is later than this wherever the timestamp is read: a device needs no right clock to know so.
            unrecognized_fields={_SIGNED_AT: now.strftime(_RFC_3339)},
        )
        write_whole(self.metadata / "timestamp.json", _signed(timestamp, signers["timestamp"]))

    def _note_leaps(self, left: Collection[str]) -> None:
        path = self.folder / RESTORED
        if left:
            write_whole(path, " ".join(sorted(left)).encode())
        else:
            path.unlink(missing_ok=True)

    def _prune(self, state: State) -> None:
        """Removes what was replaced so long ago that nobody is in the middle of reading it; every root stays."""
        for role in (*LISTS, "snapshot"):
            for path in self.metadata.glob(f"*.{role}.json"):
                version = path.name.partition(".")[0]
                if version.isdecimal() and int(version) <= state.versions[role] - _KEPT:
                    path.unlink(missing_ok=True)

    def warnings(self, state: State) -> list[str]:
        """What a person must bring a key for, one line each."""
        lines = []
        for role in (role for role in ROLES if self.keys.where(role, state.key_ids(role)) is None):
            left = state.expires.get(role, self.now()) - self.now()
            remedy = self.keys.remedy(role)
            if role in self.leaping:
                lines.append(f"devices may know newer {role} metadata than this restored copy: {remedy}")
            elif is_late(role, left):
                days = max(0, left // timedelta(days=1))
                lines.append(f"{role} expires in {days} days, and then no device takes anything: {remedy}")
        return lines

    def _signers(self, role: str, state: State, is_needed: bool) -> list[CryptoSigner]:
        """The key that the metadata names and, while it is exchanged, the one that is to follow."""
        may_lack = not is_needed or role == state.without
        signer = self.keys.signer(role, state.key_ids(role)) if may_lack else self.needed(role, state)
        if signer is None and role != state.without:
            return []
        return [one for one in (signer, self.keys.pending(role)) if one is not None]

    def needed(self, role: str, state: State) -> CryptoSigner:
        """The key of a role; raises KeysError if it is not at hand."""
        signer = self.keys.signer(role, state.key_ids(role))
        if signer is None:
            raise KeysError(f"the key of {role} is not in {self.keys.folder}: {self.keys.remedy(role)}")
        return signer

    def _new_root(self) -> Root:
        root = Root(consistent_snapshot=True)
        made = self.keys.make(role for role in ROLES if role not in CHANNELS)
        for role, signer in made.items():
            root.add_key(signer.public_key, role)
        return root

    def _root_versions(self) -> list[int]:
        names = (path.name.removesuffix(".root.json") for path in self.metadata.glob("*.root.json"))
        return [int(name) for name in names if name.isdecimal()]

    def newest_root(self) -> Root:
        """What an agent that knows everything trusts; raises PublishError if it is damaged."""
        newest: Root = self._load(f"{max(self._root_versions(), default=1)}.root", Root).signed
        return newest

    def _and_what_follows(self, root: Root) -> Root:
        """A root that names the keys that are to follow too: what they signed before a kill is ours."""
        for role in (role for role in ROLES if role not in CHANNELS):
            pending = self.keys.pending(role)
            if pending is not None:
                root.add_key(pending.public_key, role)
        return root

    def _load_list(self, role: str, snapshot: Snapshot, by: Root | Targets) -> Targets:
        meta = snapshot.meta.get(f"{role}.json")
        version = meta.version if meta is not None else 0
        found: Targets = self._load(f"{version}.{role}", Targets, by, role).signed
        return found

    def _load(self, name: str, kind: type[Any], by: Root | Targets | None = None, role: str = "") -> Metadata[Any]:
        path = self.metadata / f"{name}.json"
        try:
            loaded: Metadata[Any] = Metadata.from_bytes(path.read_bytes())
            if not isinstance(loaded.signed, kind):
                raise RepositoryError(f"it is of type {loaded.signed.type}")
            # A root vouches for itself, and for everything else.
            (by or loaded.signed).verify_delegate(role or kind.type, loaded.signed_bytes, loaded.signatures)
        except (OSError, RepositoryError, DeserializationError) as error:
            raise PublishError(
                f"{path} is missing or damaged ({error}): restore {self.folder} from its copy"
            ) from error
        return loaded


def _signed(signed: Root | Targets | Snapshot | Timestamp, signers: Collection[CryptoSigner]) -> bytes:
    metadata: Metadata[Any] = Metadata(signed)
    for signer in signers:
        metadata.sign(signer, append=True)
    return metadata.to_bytes()


def _signed_at(timestamp: Timestamp) -> datetime | None:
    """When it was signed; None of one that does not tell."""
    text = timestamp.unrecognized_fields.get(_SIGNED_AT)
    return datetime.strptime(text, _RFC_3339).replace(tzinfo=UTC) if text else None
