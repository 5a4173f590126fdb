"""A TUF repository in a folder: what a release is, and what an agent may trust.

```
DIR/root.json                          what an agent is given to trust, once
DIR/metadata/N.root.json ... timestamp.json
DIR/targets/SHA256.NAME-N.walt
```

A release is signed by `canary`, which devices may be told to leave alone, by `stable`, or by both: a promoted release
keeps its number, its name and its bytes. Numbers rise over both; none is ever given twice.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tuf.api.metadata import TargetFile

from walt_edge.contract.bundle import SUFFIX, Bundle
from walt_edge.contract.files import write_whole
from walt_train.loop.publish.keys import Keys
from walt_train.loop.publish.roles import CHANNELS, LIFE, LISTS, Channel
from walt_train.loop.publish.signing import RESTORED, TRUST_ROOT, PublishError, SignedFolder, State

__all__ = ["LIFE", "RESTORED", "PublishError", "Release", "Repository"]

LOGGER = logging.getLogger(__name__)
_WARN_EVERY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Release:
    """What was published.

    Attributes:
        number: Monotonic.
        target: The bundle's name in the repository.
        sha256: Of the bundle.
        roles: Who signed it: `stable`, `canary`, or both.
    """

    number: int
    target: str
    sha256: str
    roles: frozenset[str] = field(default=frozenset({"stable"}), compare=False)


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
        self._signed = SignedFolder(folder, Keys(keys), now)
        self._targets = folder / "targets"
        self._now = now
        self._warned: datetime | None = None

    @property
    def trust_root(self) -> Path:
        """The file that every agent is given once."""
        return self._signed.folder / TRUST_ROOT

    def begin(self) -> Path:
        """Makes keys and root if they are not there, so that agents can be given the root; returns `trust_root`.

        Raises:
            KeysError, BusyError, PublishError: As `publish` does.
        """
        with self._signed.writing():
            return self.trust_root

    def releases(self, role: Channel | None = None) -> list[Release]:
        """Every release that a role signed, or that any did, the newest first.

        Raises:
            PublishError: The repository is damaged.
        """
        found = _releases(self._signed.read()) if self._signed.is_begun else []
        return [one for one in found if role is None or role in one.roles]

    def newest(self, role: Channel | None = None) -> Release | None:
        """The newest release, or the newest that a role signed; None before the first; raises PublishError."""
        return next(iter(self.releases(role)), None)

    def find(self, sha256: str, role: Channel | None = None) -> Release | None:
        """The newest release of these bytes, or the newest that a role signed; None if none; raises PublishError."""
        return next((one for one in self.releases(role) if one.sha256 == sha256), None)

    def publish(self, bundle: Path, role: Channel = "stable") -> Release:
        """Signs a bundle under the next number; one that is the newest already keeps its number.

        Args:
            bundle: Its file.
            role: Who signs it. `canary`: for devices that try first; `promote` makes it a release for all.

        Raises:
            BundleError: It is no bundle.
            KeysError: The keys are missing or another repository's.
            BusyError: Another publisher is at work.
            PublishError: The repository is damaged or cannot be written; what was published before still is.
        """
        checked = Bundle.read(bundle)
        with self._signed.writing() as state:
            return self._again(state, checked.sha256, role) or self._release(
                state, bundle, checked.sha256, checked.manifest.name, role
            )

    def promote(self, release: Release) -> Release:
        """Has `stable` sign a release too, as it is: same number, same name, same bytes.

        It may be older than the newest of all, and repeated it changes nothing.

        Raises:
            PublishError: There is no such release (any more), or as `publish` does.
            KeysError, BusyError: As `publish` does.
        """
        with self._signed.writing() as state:
            found = next((one for one in _releases(state) if one == release), None)
            if found is None:
                raise PublishError(f"{release.target} is no release of {self._signed.folder}: publish it first")
            return self._sign_too(state, found, "stable")

    def undo(self, release: Release | str, role: Channel = "stable") -> Release:
        """Releases old bytes under the next number, so that devices take them; the newest again keeps its number.

        Args:
            release: What to go back to, or the sha256 of its bundle.
            role: Who signs the new number, whoever signed the old one.

        Raises:
            PublishError: There is no release of these bytes (any more), or as `publish` does.
            KeysError, BusyError: As `publish` does.
        """
        sha256 = release if isinstance(release, str) else release.sha256
        with self._signed.writing() as state:
            old = next((one for one in _releases(state) if one.sha256 == sha256), None)
            if old is None:
                raise PublishError(f"no release has the sha256 {sha256[:12]}...: publish its bundle")
            name = old.target.removesuffix(SUFFIX).removesuffix(f"-{old.number}")
            path = self._targets / f"{old.sha256}.{old.target}"
            return self._again(state, sha256, role) or self._release(state, path, sha256, name, role)

    def remove(self, sha256s: Sequence[str]) -> list[int]:
        """Takes releases of these bytes back, but for the newest of all: its number must never be given again.

        Their bundles are removed, once nothing that is signed names them.

        Returns:
            The numbers of what was taken back.

        Raises:
            KeysError, BusyError, PublishError: As `publish` does.
        """
        if not self._signed.is_begun:
            return []
        with self._signed.writing() as state:
            gone = [one for one in _releases(state)[1:] if one.sha256 in sha256s]
            for release in gone:
                for role in (role for role in LISTS if state.lists[role].pop(release.target, None)):
                    state.changed.add(role)
            if gone:
                self._signed.commit(state)
            self._sweep(state)
        return [release.number for release in gone]

    def refresh(self) -> None:
        """Signs anew all that can be, so that agents go on trusting it; to be called well within 30 days.

        Raises:
            PublishError: Nothing was published yet, or as `publish` does.
        """
        if not self._signed.is_begun:
            raise PublishError(f"no release in {self._signed.folder} yet: publish a bundle first")
        with self._signed.writing() as state:
            self._signed.commit(state, self._signed.at_hand(state))

    def keep(self) -> bool:
        """Signs anew what has lived half of its life; to be called now and then. Returns whether there was need.

        Once a day it logs what it could not sign, because the key is elsewhere and must be brought.

        Raises:
            KeysError, BusyError, PublishError: As `publish` does.
        """
        if not self._signed.is_begun:
            return False
        with self._signed.writing() as state:
            is_due = self._renew(state)
            lines = self._signed.warnings(state)
        if lines and (self._warned is None or self._now() - self._warned >= _WARN_EVERY):
            self._warned = self._now()
            for line in lines:
                LOGGER.error("%s", line)
        return is_due

    def warnings(self) -> list[str]:
        """What a person must bring a key for before it expires, one line each; raises PublishError, KeysError."""
        return self._signed.warnings(self._signed.read()) if self._signed.is_begun else []

    def _again(self, state: State, sha256: str, role: Channel) -> Release | None:
        """The newest release if it has these bytes, signed by the role too; None where a number must follow."""
        newest = next(iter(_releases(state)), None)
        if newest is None or newest.sha256 != sha256 or self._signed.step("timestamp") > 1:
            return None
        return self._sign_too(state, newest, role)

    def _sign_too(self, state: State, release: Release, role: Channel) -> Release:
        """A release as it is, under another role."""
        if role in release.roles:
            self._renew(state)
            return release
        by = next(one for one in LISTS if release.target in state.lists[one])
        state.lists[role][release.target] = state.lists[by][release.target]
        state.changed.add(role)
        self._signed.commit(state)
        return _released(release.number, release.target, release.sha256, {*release.roles, role})

    def _release(self, state: State, bundle: Path, sha256: str, name: str, role: Channel) -> Release:
        """Signs bytes under the next number."""
        data = bundle.read_bytes()
        if hashlib.sha256(data).hexdigest() != sha256:
            raise PublishError(f"{bundle} changed while it was read, or is damaged: publish it again")
        newest = next(iter(_releases(state)), None)
        number = (newest.number if newest else 0) + self._signed.step("timestamp")
        target = f"{name}-{number}{SUFFIX}"
        write_whole(self._targets / f"{sha256}.{target}", data)
        custom = {"custom": {"release": number}}
        state.lists[role][target] = TargetFile(len(data), {"sha256": sha256}, target, custom)
        state.changed.add(role)
        self._signed.commit(state)
        return _released(number, target, sha256, {role})

    def _renew(self, state: State) -> bool:
        is_due = self._signed.is_due(state)
        if is_due:
            self._signed.commit(state)
        return is_due

    def _sweep(self, state: State) -> None:
        """Removes bundles that nothing names: of releases that were taken back, or that a kill left."""
        named = {f"{one.hashes['sha256']}.{name}" for role in LISTS for name, one in state.lists[role].items()}
        for path in self._targets.glob(f"*{SUFFIX}"):
            if path.name not in named:
                path.unlink(missing_ok=True)


def _releases(state: State) -> list[Release]:
    """What any role signed, the newest first."""
    found: dict[str, TargetFile] = {}
    for role in reversed(LISTS):
        found |= state.lists[role]
    made = [_released(_number(one), name, one.hashes["sha256"], _signers(state, name)) for name, one in found.items()]
    return sorted(made, key=lambda release: release.number, reverse=True)


def _signers(state: State, name: str) -> Iterable[str]:
    """Which channels signed a target; one that `targets` lists is for all, as in the first form."""
    signed: Collection[str] = {role for role in CHANNELS if name in state.lists[role]}
    return signed or {"stable"}


def _released(number: int, target: str, sha256: str, roles: Iterable[str]) -> Release:
    return Release(number, target, sha256, frozenset(roles))


def _number(target: TargetFile) -> int:
    number = (target.custom or {}).get("release", 0)
    return number if isinstance(number, int) else 0
