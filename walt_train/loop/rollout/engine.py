"""Drives rollouts: tells, looks, passes on, takes back. One process at a time, by a lease.

Everything is decided from the tables and written there before it is done and after: that a device is told, before it
is; that it was told, after the broker has confirmed. Whoever is killed in between does it again, and telling twice is
telling once: wishes are retained messages. A rollback begins in the same step that finds the breach.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy import Connection, Engine, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from walt_edge.contract.errors import WaltError
from walt_edge.contract.messages import Desired
from walt_edge.contract.topics import DeviceTopics
from walt_train.loop.fleet.state import DeviceState
from walt_train.loop.lineage.record import Artifact, chunks, note, note_wishes, release_id
from walt_train.loop.lineage.tables import wishes
from walt_train.loop.publish.repository import Release
from walt_train.loop.rollout.evidence import Case, gather
from walt_train.loop.rollout.model import CANARY, CONTROL, Evidence, Member, Rollout, Stage, State
from walt_train.loop.rollout.queue import blocking, last_event, makes_room
from walt_train.loop.rollout.returning import Releases, befores, newest_wishes, refuse_generation, return_to
from walt_train.loop.rollout.rollouts import Rollouts, device_states, evidence_text, say
from walt_train.loop.rollout.signals import SECOND_US, Who, is_watched
from walt_train.loop.rollout.tables import rollout_lease, rollout_members, rollouts
from walt_train.loop.serve.jobs import Clock, now_us, worker_name
from walt_train.loop.store.database import UNAVAILABLE, cause, transaction

LOGGER = logging.getLogger(__name__)
ENGINE: Final = "rollout"
"""Who does what nobody asked for."""

_NAME: Final = "rollouts"
_TOGETHER: Final = 200
_NAMED_MOST: Final = 5
_DETAIL_MOST: Final = 500
_UNWATCHED: Final = "nobody watches the fleet, so nothing is judged: walt-loop ingest does"

Tell = Callable[[Sequence[DeviceTopics], Desired], None]
"""Makes devices know what they are to run; may be repeated."""


class LeaseLostError(WaltError):
    """Another process drives rollouts now."""


class ChangedError(WaltError):
    """A person, or somebody else, has changed the rollout meanwhile: it is looked at anew."""


class RolloutEngine:
    """Drives all open rollouts of a home.

    Args:
        engine: The store's database.
        releases: The repository.
        tell: How devices learn of a release.
        owner: Names this process and no other.
        lease_s: How long after its last sign of life another takes over.
        clock: Microseconds UTC.
    """

    def __init__(
        self,
        engine: Engine,
        releases: Releases,
        tell: Tell,
        *,
        owner: str | None = None,
        lease_s: float = 30.0,
        clock: Clock = now_us,
    ) -> None:
        self._engine = engine
        self._releases = releases
        self._tell = tell
        self._owner = owner or worker_name()
        self._lease_us = int(lease_s * SECOND_US)
        self._clock = clock
        self._turn = threading.Lock()
        self._said: dict[int, str] = {}
        self.rollouts = Rollouts(engine, clock)

    def run(self, stopping: threading.Event, every_s: float = 1.0) -> None:
        """Drives until `stopping` is set; whatever fails is tried again."""
        while not stopping.is_set():
            self.step()
            stopping.wait(every_s)
        self.release()

    def step(self) -> None:
        """Does what is due now of every open rollout; does nothing while another process has the lease.

        What fails of one is logged and tried again with the next step; the others go on.
        """
        with self._turn:
            try:
                if not self._acquire():
                    return
                for rollout in self.rollouts.open():
                    self._attempt(rollout)
            except LeaseLostError as error:
                LOGGER.warning("%s", error)
            except (WaltError, *UNAVAILABLE) as error:
                self._say(0, f"rollouts cannot be driven: {cause(error)}; tried again")

    def release(self) -> None:
        """Gives the lease back, so that another need not wait for its end."""
        try:
            with transaction(self._engine) as connection:
                mine = (rollout_lease.c.name == _NAME) & (rollout_lease.c.owner == self._owner)
                connection.execute(update(rollout_lease).where(mine).values(until_us=0))
        except (WaltError, *UNAVAILABLE) as error:
            LOGGER.warning("the lease of rollouts runs out by itself: %s", cause(error))

    def _attempt(self, rollout: Rollout) -> None:
        try:
            self._drive(rollout)
            self._said.pop(rollout.id, None)
        except LeaseLostError:
            raise
        except (WaltError, *UNAVAILABLE) as error:
            self._say(rollout.id, f"rollout {rollout.id}: {cause(error)}; tried again")
        except Exception as error:
            # One rollout's boundary: a fault in it must not keep another from being rolled back.
            if self._said.get(rollout.id) != repr(error):
                LOGGER.exception("rollout %d", rollout.id)
            self._said[rollout.id] = repr(error)

    def _drive(self, rollout: Rollout) -> None:
        """One rollout's next piece of work."""
        if rollout.state is State.WAITING:
            self._begin(rollout)
        elif rollout.state is State.ROLLING_BACK:
            self._take_back(self.rollouts.read(rollout.id))
        elif rollout.state is State.RUNNING and self._is_due(rollout):
            self._go_on(self.rollouts.read(rollout.id))

    def _is_due(self, rollout: Rollout) -> bool:
        return self._clock() - rollout.judged_us >= rollout.plan.judge_s * SECOND_US

    # Beginning

    def _begin(self, rollout: Rollout) -> None:
        """Begins once no older rollout has one of its devices; one that waits in vain for devices makes room."""
        with self._writing() as connection:
            older_ones = blocking(connection, rollout)
            for older in [one for one in older_ones if makes_room(connection, one, rollout)]:
                text = f"superseded by rollout {rollout.id}"
                self._supersede(connection, older, text)
                older_ones.remove(older)
            if older_ones:
                return
            now = self._clock()
            self._change(connection, rollout.id, State.WAITING, "began", "", state=State.RUNNING, stage_us=now)
        self._go_on(self.rollouts.read(rollout.id))

    def _supersede(self, connection: Connection, older: int, text: str) -> None:
        found = State(connection.execute(select(rollouts.c.state).where(rollouts.c.id == older)).scalar_one())
        self._change(connection, older, found, "superseded", text, state=State.SUPERSEDED, ended=True)

    # Going on

    def _go_on(self, rollout: Rollout) -> None:
        """Tells who is to be told in this stage, then looks at how the stage does."""
        is_last = rollout.stage >= len(rollout.plan.stages)
        name = CONTROL if is_last else rollout.now.name
        self._tell_all(rollout, [one for one in rollout.cohort(name).members if not one.outside], name)
        if is_last:
            # Also where canaries were all that there was: what has proven itself is for everybody.
            self._releases.promote(Release(rollout.release, rollout.target, rollout.sha256))
            with self._writing() as connection:
                text = f"release {rollout.release} is everywhere it was meant for, or waits for who is offline"
                self._change(connection, rollout.id, State.RUNNING, "done", text, state=State.DONE, ended=True)
            return
        self._look(self.rollouts.read(rollout.id))

    def _tell_all(self, rollout: Rollout, members: Sequence[Member], name: str) -> None:
        left = [one for one in members if one.told_us is None]
        if not left:
            return
        if name != CANARY:
            self._releases.promote(Release(rollout.release, rollout.target, rollout.sha256))
        wish = Desired(release=rollout.release, target=rollout.target, sha256=rollout.sha256)
        for some in chunks(left, _TOGETHER):
            states = device_states(self._engine, [one.who for one in some])
            with self._writing() as connection:
                self._touch(connection, rollout, [one for one in some if one.touched_us is None], states)
            self._tell([DeviceTopics(*one.who) for one in some], wish)
            with self._writing() as connection:
                for one in some:
                    _update_member(connection, rollout, one.who, told_us=self._clock())
        with self._writing() as connection:
            say(connection, rollout.id, self._clock(), ENGINE, "told", f"{name}: {_names(left)}")

    def _touch(
        self, connection: Connection, rollout: Rollout, members: Sequence[Member], states: dict[Who, DeviceState]
    ) -> None:
        """Writes that devices are about to be told, and what they go back to; only while the rollout runs."""
        now = self._clock()
        is_so = (rollouts.c.id == rollout.id) & (rollouts.c.state == State.RUNNING.value)
        if not connection.execute(update(rollouts).where(is_so).values(judged_us=rollouts.c.judged_us)).rowcount:
            raise ChangedError("it was stopped while devices were being told")
        for who, (release, sha256) in befores(connection, rollout, members, states).items():
            _update_member(connection, rollout, who, touched_us=now, before_release=release, before_sha256=sha256)
        note_wishes(connection, rollout.release, [DeviceTopics(*one.who) for one in members], now)

    # Looking

    def _look(self, rollout: Rollout) -> None:
        states = device_states(self._engine, [one.who for one in rollout.members])
        case = Case(self._note_running(rollout, states), states, self._clock())
        with self._engine.connect() as connection:
            if not is_watched(connection, case.now_us):
                self._say(rollout.id, f"rollout {rollout.id}: {_UNWATCHED}")
                return
            evidence = gather(connection, case)
        breach = next((one for one in evidence.findings if one.verdict == "breach"), None)
        with self._writing() as connection:
            values = {"evidence": evidence_text(evidence), "judged_us": case.now_us}
            connection.execute(update(rollouts).where(rollouts.c.id == rollout.id).values(**values))
            if breach is not None:
                text = f"{rollout.now.name}: {breach.line}"
                self._change(connection, rollout.id, State.RUNNING, "breach", text, state=State.ROLLING_BACK)
                refuse_generation(connection, rollout, text, case.now_us)
            elif not lacking(rollout.now, evidence, case.needed):
                self._pass(connection, rollout, evidence)
            elif case.now_us - rollout.stage_us > rollout.now.patience_s * SECOND_US:
                text = f"{rollout.now.name} did not pass in time: {lacking(rollout.now, evidence, case.needed)}"
                LOGGER.warning("rollout %d waits for a person: %s", rollout.id, text)
                self._change(connection, rollout.id, State.RUNNING, "patience", text, state=State.PAUSED)
        if breach is not None:
            LOGGER.error("rollout %d is rolled back: %s", rollout.id, breach.line)
            self._take_back(self.rollouts.read(rollout.id))

    def _note_running(self, rollout: Rollout, states: dict[Who, DeviceState]) -> Rollout:
        """Writes since when devices run the release, as they say."""
        fresh = {}
        for one in rollout.members:
            state = states.get(one.who)
            reported = state.reported if state is not None else None
            runs = reported is not None and reported.release == rollout.release
            if runs and state is not None and one.touched_us is not None and one.running_us is None:
                fresh[one.who] = max(state.reported_us, one.touched_us)
        if not fresh:
            return rollout
        with self._writing() as connection:
            for who, since_us in fresh.items():
                _update_member(connection, rollout, who, running_us=since_us)
        return self.rollouts.read(rollout.id)

    def _pass(self, connection: Connection, rollout: Rollout, evidence: Evidence) -> None:
        known = [one.line for one in evidence.findings if one.verdict != "unknown"]
        text = f"{rollout.now.name} passed: {evidence.active} of {evidence.told} run it; {'; '.join(known)}"
        stage = {"stage": rollout.stage + 1, "stage_us": self._clock()}
        fresh: dict[str, Any] = {**stage, "evidence": "", "judged_us": 0}
        self._change(connection, rollout.id, State.RUNNING, "passed", text, **fresh)

    # Taking back

    def _take_back(self, rollout: Rollout) -> None:
        """Old bytes under a new number for everybody who was told and is not told something newer; nobody else."""
        left = [one for one in rollout.members if one.touched_us is not None and one.undone_us is None]
        with self._engine.connect() as connection:
            newest = newest_wishes(connection, [one.who for one in left])
        mine = [one for one in left if newest.get(one.who, 0) <= rollout.release or one.undo is not None]
        for sha256 in sorted({one.before_sha256 for one in mine} - {rollout.sha256}):
            wish = return_to(self._releases, rollout, sha256)
            some = [one for one in mine if one.before_sha256 == sha256]
            for part in chunks(some, _TOGETHER):
                self._return(rollout, part, wish)
        with self._writing() as connection:
            by_hand = last_event(connection, rollout.id, ("breach", "abort", "rollback")) == "abort"
            text = f"{len(mine)} of {len(rollout.members)} devices were told the way back"
            state = State.ABORTED if by_hand else State.ROLLED_BACK
            self._change(connection, rollout.id, State.ROLLING_BACK, str(state), text, state=state, ended=True)
            refuse_generation(connection, rollout, rollout.detail, self._clock())
        LOGGER.warning("rollout %d: %s", rollout.id, text)

    def _return(self, rollout: Rollout, members: Sequence[Member], wish: Desired) -> None:
        now = self._clock()
        number = 0 if wish.is_nothing else wish.release
        topics = [DeviceTopics(*one.who) for one in members]
        with self._writing() as connection:
            for one in members:
                _update_member(connection, rollout, one.who, undo=number)
            if not number:
                # None of home's runs there: it is no device any more that was last told to run this.
                gone = (wishes.c.release == rollout.release) & wishes.c.device.in_([one.device for one in members])
                connection.execute(delete(wishes).where(gone))
            else:
                made = Artifact(release_id(number), "release", wish.target, rollout.camera, "", now)
                note(connection, made, [wish.sha256])
                note_wishes(connection, number, topics, now)
        self._tell(topics, wish)
        with self._writing() as connection:
            for one in members:
                _update_member(connection, rollout, one.who, undone_us=self._clock())
            what = f"release {number}" if number else "nothing of home's"
            say(connection, rollout.id, self._clock(), ENGINE, "returned", f"to {what}: {_names(members)}")

    # Writing

    def _acquire(self) -> bool:
        now = self._clock()
        mine = {"owner": self._owner, "until_us": now + self._lease_us}
        free = (rollout_lease.c.until_us < now) | (rollout_lease.c.owner == self._owner)
        try:
            with transaction(self._engine) as connection:
                there = update(rollout_lease).where(rollout_lease.c.name == _NAME, free).values(**mine)
                if connection.execute(there).rowcount:
                    return True
                known = connection.scalar(select(rollout_lease.c.owner).where(rollout_lease.c.name == _NAME))
                if known is None:
                    connection.execute(insert(rollout_lease), {"name": _NAME, **mine})
                return known is None
        except IntegrityError:
            return False

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        """A transaction that counts only while the lease is ours."""
        with transaction(self._engine) as connection:
            mine = (rollout_lease.c.name == _NAME) & (rollout_lease.c.owner == self._owner)
            until = self._clock() + self._lease_us
            if not connection.execute(update(rollout_lease).where(mine).values(until_us=until)).rowcount:
                raise LeaseLostError("another process drives rollouts now")
            yield connection

    def _change(
        self,
        connection: Connection,
        number: int,
        expected: State,
        what: str,
        detail: str,
        *,
        state: State | None = None,
        ended: bool = False,
        **values: Any,
    ) -> None:
        """Changes a rollout that still is in the expected state, and says so in its history."""
        now = self._clock()
        if state is not None:
            values |= {"state": state.value, "detail": detail[:_DETAIL_MOST]}
        if ended:
            values["ended_us"] = now
        is_so = (rollouts.c.id == number) & (rollouts.c.state == expected.value)
        if not connection.execute(update(rollouts).where(is_so).values(**values)).rowcount:
            raise ChangedError(f"it is no longer {expected}")
        say(connection, number, now, ENGINE, what, detail)

    def _say(self, rollout: int, line: str) -> None:
        """Once for each trouble, however long it lasts."""
        if self._said.get(rollout) != line:
            LOGGER.warning("%s", line)
        self._said[rollout] = line


def lacking(stage: Stage, evidence: Evidence, needed: int) -> str:
    """What a stage still lacks to be passed, in words; "" when it lacks nothing."""
    missing = []
    if evidence.active < needed:
        missing.append(f"{evidence.active} of {evidence.told} devices run it for good, {needed} are needed")
    if evidence.observed_s < stage.observe_s:
        missing.append(f"observed for {evidence.observed_s:.0f} of {stage.observe_s:.0f} s")
    if evidence.samples < stage.samples:
        missing.append(f"{evidence.samples} of {stage.samples} messages")
    missing += [f"undecided: {one.line}" for one in evidence.findings if one.verdict == "undecided"]
    return "; ".join(missing)


def _update_member(connection: Connection, rollout: Rollout, who: Who, **values: int | str | None) -> None:
    mine = (rollout_members.c.rollout == rollout.id) & (rollout_members.c.site == who[0])
    mine &= rollout_members.c.device == who[1]
    connection.execute(update(rollout_members).where(mine).values(**values))


def _names(members: Sequence[Member]) -> str:
    more = f" and {len(members) - _NAMED_MOST} more" if len(members) > _NAMED_MOST else ""
    return ", ".join(one.name for one in members[:_NAMED_MOST]) + more
