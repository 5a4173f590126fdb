"""What is done with the keys of a repository, seldom and by a person: moved away, exchanged, brought back to sign.

A device believes the old root until it has read the new one, so what is served must be right for both. Before a root
names a new key, everything is signed by the old and by the new one; the root comes last, and the old key is useless
from then on. A kill in between leaves a repository that every device believes, and the same command completes it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tuf.api.metadata import Targets

from walt_train.loop.publish.keys import Keys, KeysError
from walt_train.loop.publish.roles import CHANNELS, LIFE, OFFLINE, ROLES
from walt_train.loop.publish.signing import TRUST_ROOT, PublishError, SignedFolder, State


@dataclass(frozen=True, slots=True)
class KeyState:
    """One role's key.

    Attributes:
        role: Whose.
        key_id: What the metadata names; "" where it names none yet.
        path: Its file; None if it is not at hand.
        expires: When what it signed does; None if it signed nothing yet.
        is_exchanged: Whether a new one is made, and does not count yet.
    """

    role: str
    key_id: str
    path: Path | None
    expires: datetime | None
    is_exchanged: bool


class Ceremony:
    """The keys of one repository; one process at a time is at work.

    Args:
        folder: The repository.
        keys: Where the keys lie that sign from day to day.
        offline: Where those of `root` and `targets` lie, if not there and if it is at hand.
        now: The clock.

    Raises:
        KeysError: Keys would be served with the repository.
        PublishError: There is no repository.
    """

    def __init__(
        self,
        folder: Path,
        keys: Path,
        offline: Path | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._keys = Keys(keys, offline)
        self._signed = SignedFolder(folder, self._keys, now)
        if not (folder / TRUST_ROOT).exists():
            raise PublishError(f"no repository in {folder}: walt-loop publish makes one, with its keys")

    def show(self) -> list[KeyState]:
        """The key of every role; raises KeysError if one is damaged, PublishError if the repository is."""
        state = self._state()
        return [
            KeyState(
                role,
                next(iter(state.key_ids(role)), ""),
                self._keys.where(role, state.key_ids(role)),
                state.expires.get(role),
                self._keys.pending(role) is not None,
            )
            for role in ROLES
        ]

    def warnings(self) -> list[str]:
        """What a person must bring a key for, one line each; raises as `show` does."""
        return self._signed.warnings(self._state())

    def move_offline(self) -> list[str]:
        """Signs root and targets for a whole life, and moves their keys to `offline`; returns whose it moved.

        From then on agents that know no channels take no more releases.

        Raises:
            KeysError: They are neither here nor there, or cannot be moved; what is here stays until it is there.
            BusyError, PublishError: Another is at work, or the repository is damaged or cannot be written.
        """
        to = self._keys.offline
        assert to is not None
        if to.resolve().is_relative_to(self._keys.folder.resolve()):
            raise KeysError(f"{to} is where the keys lie that a thief of this machine has: give a folder elsewhere")
        here = [role for role in OFFLINE if (self._keys.folder / f"{role}.pem").exists()]
        with self._signed.writing() as state:
            for role in OFFLINE:
                self._signed.needed(role, state)
            if here:
                state.lists["targets"] = {}
                self._renew(state)
                self._keys.move(here, to)
        return here

    def renew(self) -> list[str]:
        """Signs root and targets for another life, with the keys that are at hand; returns whose.

        Raises:
            KeysError: Neither is at hand, or as `move_offline` does.
            BusyError, PublishError: As `move_offline` does.
        """
        with self._signed.writing() as state:
            signed = self._renew(state)
            if not signed:
                self._signed.needed("root", state)
        return signed

    def rotate(self, role: str) -> None:
        """Exchanges a role's key; repeated after a kill it completes what was begun.

        The old key of any role but `root` may be lost.

        Raises:
            KeysError: The key that vouches for it is not at hand: of `targets` for the channels, else of `root`.
            BusyError, PublishError: As `move_offline` does.
        """
        with self._signed.writing(without=role) as state:
            if role in state.adopted:
                return
            if role in CHANNELS:
                self._exchange_delegated(role, state)
            else:
                self._exchange(role, state)

    def _exchange(self, role: str, state: State) -> None:
        root = self._signed.needed("root", state)
        follower = self._keys.make_pending(role)
        if role != "root":
            self._signed.commit(state, ["targets"] if role == "targets" else [])
        for old in list(state.key_ids(role)):
            state.root.revoke_key(old, role)
        state.root.add_key(follower.public_key, role)
        self._signed.write_root(state, [root, follower] if role == "root" else [root])
        self._keys.adopt(role, state.key_ids(role))

    def _exchange_delegated(self, role: str, state: State) -> None:
        """The delegation and what is signed by it appear at once, with the timestamp."""
        self._signed.needed("targets", state)
        follower = self._keys.make_pending(role)
        delegating = Targets(delegations=state.delegations)
        for old in list(state.key_ids(role)):
            delegating.revoke_key(old, role)
        delegating.add_key(follower.public_key, role)
        self._signed.commit(state, ["targets", role])
        self._keys.adopt(role, state.key_ids(role))

    def _renew(self, state: State) -> list[str]:
        at_hand = [role for role in OFFLINE if self._keys.signer(role, state.key_ids(role)) is not None]
        if "root" in at_hand and state.root.expires - self._signed.now() < LIFE["root"] - timedelta(days=1):
            self._signed.write_root(state, [self._signed.needed("root", state)])
        if "targets" in at_hand:
            self._signed.commit(state, ["targets"])
        return at_hand

    def _state(self) -> State:
        return self._signed.read() if self._signed.is_begun else State(self._signed.newest_root())
