"""Two slots for models on disk: what is committed, what is on probation or was before it, and what was refused.

```
DIR/state.json       which slot is committed, which on probation; the only truth
DIR/a.walt, b.walt   bundles that the state names
DIR/candidate.walt   on its way; forgotten at the next start
```

Whenever the power goes, the state names only bundles that are whole on the disk, and what was committed still is
until something else has stood its probation.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import msgspec

from walt_edge.contract.files import flush, remove_partial, write_whole
from walt_edge.contract.messages import Desired
from walt_edge.update.errors import NotNowError, RefusedError
from walt_edge.update.probation import Figures

LOG = logging.getLogger(__name__)

_STATE = "state.json"
_CANDIDATE = "candidate.walt"
_MAX_REASON = 500
_TRIALS = 3
_STARTS = 3
_MOST_REFUSALS = 16

Name = Literal["a", "b"]


class Refusal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was refused, and why."""

    wish: Desired
    reason: str


class Trial(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is being tried for the first time, and how often it was begun."""

    wish: Desired
    times: int


class OnProbation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What looks, but is not committed yet.

    Attributes:
        slot: Where it lies.
        wish: What it is.
        starts: How many times the agent began with it.
        before: How the model before it did; None if there was none.
    """

    slot: Name
    wish: Desired
    starts: int = 1
    before: Figures | None = None


class State(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of `state.json`.

    Attributes:
        active: The committed slot, or None: no model.
        slots: What lies in which slot.
        highest: The newest release ever committed; nothing older is taken.
        refused: The last refusal.
        unfit: The refusal of `highest`, if it was put down here; later refusals do not make it forgotten.
        trial: What was being tried when this was written: the process may have died of it.
        probation: What took over without being committed.
        rolled_back: What did not stand its probation, and is newer than what was ever committed.
    """

    active: Name | None = None
    slots: dict[Name, Desired] = {}
    highest: Desired | None = None
    refused: Refusal | None = None
    unfit: Refusal | None = None
    trial: Trial | None = None
    probation: OnProbation | None = None
    rolled_back: list[Refusal] = []


class Slots:
    """The slots of one agent; used by one thread at a time.

    Args:
        folder: Made if need be.

    Raises:
        NotNowError: The folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with self._writing():
            folder.mkdir(parents=True, exist_ok=True)
            self._state = self._read()
            self._sweep()

    @property
    def active(self) -> Desired | None:
        """What is committed."""
        return self._state.slots[self._state.active] if self._state.active else None

    @property
    def active_path(self) -> Path | None:
        """Its bundle."""
        return self._path(self._state.active) if self._state.active else None

    @property
    def on_probation(self) -> OnProbation | None:
        """What looks, but is not committed yet."""
        return self._state.probation

    @property
    def probation_path(self) -> Path | None:
        """Its bundle."""
        return self._path(self._state.probation.slot) if self._state.probation else None

    @property
    def candidate(self) -> Path:
        """Where a bundle goes that is not committed yet."""
        return self._folder / _CANDIDATE

    @property
    def refused(self) -> Refusal | None:
        """The last refusal."""
        return self._state.refused

    def check(self, wish: Desired) -> None:
        """Raises RefusedError if the wish was refused, ended the agent, or is not newer than what was committed."""
        highest, trial = self._state.highest, self._state.trial
        for refused in (self._state.refused, self._state.unfit, *self._state.rolled_back):
            if refused is not None and refused.wish == wish:
                raise RefusedError(refused.reason)
        if trial is not None and trial.wish == wish and trial.times >= _TRIALS:
            raise RefusedError(f"the agent ended {trial.times} times while it tried release {wish.release}")
        # The same release again mends a damaged slot.
        if highest is not None and wish.release <= highest.release and wish != highest:
            raise RefusedError(f"release {wish.release} is not above {highest.release}, which was committed here")

    def begin_trial(self, wish: Desired) -> None:
        """Notes that the candidate is opened now, whatever that does; raises NotNowError if the disk fails."""
        trial = self._state.trial
        times = trial.times if trial is not None and trial.wish == wish else 0
        with self._writing():
            self._write(msgspec.structs.replace(self._state, trial=Trial(wish, times + 1)))

    def admit(self, wish: Desired, before: Figures | None = None) -> None:
        """Puts the candidate on probation, in place of what was committed before the committed bundle.

        Args:
            wish: What it is.
            before: How the model before it did.

        Raises:
            NotNowError: The disk fails; what was committed still is.
        """
        state = self._state
        slot: Name = "b" if state.active == "a" else "a"
        kept = {name: one for name, one in state.slots.items() if name != slot}
        with self._writing():
            if slot in state.slots:
                self._write(msgspec.structs.replace(state, slots=kept, probation=None))
            self.candidate.replace(self._path(slot))
            flush(self._folder)
            probation = OnProbation(slot, wish, 1, before)
            slots = {**kept, slot: wish}
            self._write(msgspec.structs.replace(state, slots=slots, probation=probation, trial=None))

    def commit(self, wish: Desired) -> None:
        """Makes what is on probation, or else the candidate, the committed bundle; falls back to the one before it.

        Raises:
            NotNowError: The disk fails; what was committed still is.
        """
        if self._state.probation is None or self._state.probation.wish != wish:
            self.admit(wish)
        state = self._state
        assert state.probation is not None
        newer = [one for one in state.rolled_back if one.wish.release > wish.release]
        with self._writing():
            self._write(State(active=state.probation.slot, slots=state.slots, highest=wish, rolled_back=newer))

    def roll_back(self, reason: str) -> None:
        """Gives up what is on probation, for good; raises NotNowError if the disk fails."""
        state = self._state
        assert state.probation is not None
        refused = Refusal(state.probation.wish, reason[:_MAX_REASON])
        kept = {name: one for name, one in state.slots.items() if name != state.probation.slot}
        rolled_back = [*state.rolled_back, refused][-_MOST_REFUSALS:]
        with self._writing():
            self._write(
                msgspec.structs.replace(
                    state, probation=None, slots=kept, refused=refused, rolled_back=rolled_back, trial=None
                )
            )
            self._sweep()

    def begin_again(self) -> None:
        """Notes that the agent begins anew with what is on probation.

        Raises:
            RefusedError: It has begun with it too often; it is given up.
            NotNowError: The disk fails.
        """
        probation = self._state.probation
        assert probation is not None
        if probation.starts >= _STARTS:
            reason = (
                f"the agent began {probation.starts} times while release {probation.wish.release} was on probation"
            )
            self.roll_back(reason)
            raise RefusedError(reason)
        self._count_start(1)

    def end_well(self) -> None:
        """Notes that the agent was asked to end: this start says nothing against what is on probation."""
        if self._state.probation is not None:
            with contextlib.suppress(NotNowError):
                self._count_start(-1)

    def _count_start(self, more: int) -> None:
        probation = self._state.probation
        assert probation is not None
        probation = msgspec.structs.replace(probation, starts=probation.starts + more)
        with self._writing():
            self._write(msgspec.structs.replace(self._state, probation=probation))

    def refuse(self, wish: Desired, reason: str) -> None:
        """Notes that a release is not to be tried again; raises NotNowError if the disk fails."""
        refused = Refusal(wish, reason[:_MAX_REASON])
        unfit = refused if wish == self._state.highest else self._state.unfit
        with self._writing():
            self._write(msgspec.structs.replace(self._state, refused=refused, unfit=unfit))

    def fall_back(self) -> None:
        """Gives up the committed bundle for the one before it, or for none; raises NotNowError if the disk fails."""
        lost, probation = self._state.active, self._state.probation
        kept = {name: one for name, one in self._state.slots.items() if name != lost}
        proven = (name for name in kept if probation is None or name != probation.slot)
        with self._writing():
            self._write(msgspec.structs.replace(self._state, active=next(proven, None), slots=kept))
            self._sweep()

    def stand_down(self, wish: Desired) -> None:
        """Gives up everything of home's, since home wants nothing up to `wish.release` to run here.

        Raises:
            RefusedError: Something newer than that was committed: the wish is an old one.
            NotNowError: The disk fails.
        """
        highest = self._state.highest
        if highest is not None and highest.release > wish.release:
            raise RefusedError(f"release {highest.release} was committed here, and the wish is of {wish.release}")
        rolled_back = self._state.rolled_back
        with self._writing():
            if self._state.slots or self._state.trial is not None:
                self._write(State(highest=highest, rolled_back=rolled_back))
            self._sweep()

    def drop_candidate(self) -> None:
        """Removes what was not taken, and notes that its trial was survived."""
        with contextlib.suppress(OSError):
            self.candidate.unlink(missing_ok=True)
            if self._state.trial is not None:
                self._write(msgspec.structs.replace(self._state, trial=None))

    def _path(self, name: Name) -> Path:
        return self._folder / f"{name}.walt"

    def _read(self) -> State:
        path = self._folder / _STATE
        try:
            state = msgspec.json.decode(path.read_bytes(), type=State)
        except FileNotFoundError:
            return State()
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            LOG.error("%s is damaged (%s): beginning without a model", path, error)
            return State()
        if state.active is not None and state.active not in state.slots:
            LOG.error("%s names no bundle for slot %s: beginning without a model", path, state.active)
            state = msgspec.structs.replace(state, active=None)
        if state.probation is not None and state.slots.get(state.probation.slot) != state.probation.wish:
            LOG.error("%s names no bundle that is on probation: forgetting it", path)
            state = msgspec.structs.replace(state, probation=None)
        return state

    def _write(self, state: State) -> None:
        write_whole(self._folder / _STATE, msgspec.json.format(msgspec.json.encode(state), indent=1) + b"\n")
        self._state = state

    def _sweep(self) -> None:
        """Removes what a crash left, and bundles that the state does not name."""
        self.candidate.unlink(missing_ok=True)
        remove_partial(self._folder)
        names: tuple[Name, ...] = ("a", "b")
        for name in names:
            if name not in self._state.slots:
                self._path(name).unlink(missing_ok=True)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise NotNowError(f"cannot write in {self._folder}: {error.strerror}; free space or mend it") from error
