"""Rollouts as people and programs see them: create, list, read, pause, resume, abort, roll back.

    rollouts = Rollouts(store.engine)
    rollouts.create(release, devices, by="ada")
    rollouts.pause(7, by="ada")

Each call is one transaction that changes a state only from one that it may be changed from, and leaves a line in the
history. Nothing here speaks to a device: the engine does, when it comes round.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Engine, Row, func, insert, select, update

from walt_edge.contract.topics import DeviceTopics
from walt_train.loop.fleet.state import DeviceState
from walt_train.loop.fleet.tables import fleet_devices
from walt_train.loop.lineage.record import Artifact, chunks, note, release_id
from walt_train.loop.publish.repository import Release
from walt_train.loop.rollout.cohorts import Known, draw
from walt_train.loop.rollout.model import (
    CANARY,
    CONTROL,
    OPEN,
    REST,
    SHARE,
    Cohort,
    Event,
    Evidence,
    Member,
    Plan,
    Rollout,
    RolloutError,
    State,
)
from walt_train.loop.rollout.tables import rollout_events, rollout_members, rollouts
from walt_train.loop.serve.jobs import Clock, now_us
from walt_train.loop.store.database import transaction

HEARD_US: Final = 15 * 60 * 1_000_000
"""A device is online that was heard within this time."""

_COHORTS: Final = (CANARY, SHARE, REST, CONTROL)
_NAME_MOST: Final = 200
_LINE_MOST: Final = 500


class Rollouts:
    """The table of rollouts; any number of processes share it.

    Args:
        engine: The store's database.
        clock: Microseconds UTC.
    """

    def __init__(self, engine: Engine, clock: Clock = now_us) -> None:
        self._engine = engine
        self._clock = clock

    def create(
        self,
        release: Release,
        devices: Sequence[DeviceTopics],
        by: str,
        *,
        plan: Plan | None = None,
        name: str = "",
        camera: str = "",
        generation: int = 0,
        seed: int | None = None,
    ) -> Rollout:
        """Creates the rollout of a release, with its cohorts; repeated, it gives the one that is there.

        Args:
            release: What was published.
            devices: Whom it is for.
            by: Who wants it.
            plan: How it goes out; None: the plan for so many devices.
            name: The model's.
            camera: The camera whose generation it is, or "".
            generation: Which, or 0.
            seed: Of the cohorts; None: the release's number.

        Raises:
            RolloutError: Nobody to tell, somebody twice, or a plan that nobody can follow.
            StoreWriteError: The table cannot be written now.
        """
        plan, seed = plan or Plan.of(len(devices)), release.number if seed is None else seed
        plan.check()
        known, others = self._fleet()
        plan, members = draw(plan, seed, devices, others, known)
        now = self._clock()
        row = {"release": release.number, "target": release.target, "sha256": release.sha256}
        row |= {"name": _line(name or release.target, _NAME_MOST), "camera": camera, "generation": generation}
        row |= {"seed": seed, "plan": msgspec.json.encode(plan).decode(), "state": State.WAITING.value}
        row |= {"detail": "", "by": _line(by, _NAME_MOST), "stage": 0, "stage_us": now, "judged_us": 0}
        row |= {"evidence": "", "created_us": now, "ended_us": None}
        with transaction(self._engine) as connection:
            there = connection.scalar(select(rollouts.c.id).where(rollouts.c.release == release.number))
            if there is None:
                there = connection.execute(insert(rollouts).returning(rollouts.c.id), row).scalar_one()
                for some in chunks([{"rollout": there, **_member_row(one)} for one in members]):
                    connection.execute(insert(rollout_members), list(some))
                made = Artifact(release_id(release.number), "release", release.target, camera, "", now)
                note(connection, made, [release.sha256])
                sizes = ", ".join(f"{_count(members, one)} {one}" for one in _COHORTS if _count(members, one))
                say(connection, there, now, by, "created", f"release {release.number} of {row['name']}: {sizes}")
        return self.read(there)

    def all(self, limit: int = 50, before: int | None = None) -> list[Rollout]:
        """Rollouts, the newest first, without members and events.

        Args:
            limit: At most so many.
            before: Only those with a smaller number.
        """
        query = select(rollouts).order_by(rollouts.c.id.desc()).limit(limit)
        if before is not None:
            query = query.where(rollouts.c.id < before)
        with self._engine.connect() as connection:
            return [_rollout(row) for row in connection.execute(query)]

    def open(self) -> list[Rollout]:
        """Those that are open, the oldest first, without members and events."""
        query = select(rollouts).where(rollouts.c.state.in_([one.value for one in OPEN])).order_by(rollouts.c.id)
        with self._engine.connect() as connection:
            return [_rollout(row) for row in connection.execute(query)]

    def read(self, number: int) -> Rollout:
        """One with all that belongs to it; raises RolloutError if there is none of that number."""
        with self._engine.connect() as connection:
            row = connection.execute(select(rollouts).where(rollouts.c.id == number)).one_or_none()
            if row is None:
                raise RolloutError(f"no rollout {number}: walt-loop rollout list names those that there are")
            members = connection.execute(
                select(rollout_members)
                .where(rollout_members.c.rollout == number)
                .order_by(rollout_members.c.site, rollout_members.c.device)
            )
            events = connection.execute(
                select(rollout_events).where(rollout_events.c.rollout == number).order_by(rollout_events.c.number)
            )
            return _rollout(row, [_member(one) for one in members], [_event(one) for one in events])

    def pause(self, number: int, by: str, reason: str = "") -> None:
        """Nobody further is told until it is resumed; who was told goes on.

        Raises:
            RolloutError: It neither runs nor waits.
        """
        detail = f"paused by {by}{f': {reason}' if reason else ''}"
        self._change(number, by, "paused", detail, State.PAUSED, (State.WAITING, State.RUNNING))

    def resume(self, number: int, by: str, reason: str = "") -> None:
        """Goes on with the stage that was at work; its patience begins anew.

        Raises:
            RolloutError: It is not paused.
        """
        detail = f"resumed by {by}{f': {reason}' if reason else ''}"
        # As waiting: another may have taken its devices in the meantime.
        self._change(number, by, "resumed", detail, State.WAITING, (State.PAUSED,), stage_us=self._clock())

    def abort(self, number: int, by: str, reason: str) -> None:
        """Ends an open rollout: everybody who was told returns to what it ran before.

        Raises:
            RolloutError: It has ended.
        """
        self._change(number, by, "abort", f"aborted by {by}: {reason}", State.ROLLING_BACK, OPEN[:3])

    def rollback(self, number: int, by: str, reason: str) -> None:
        """The same, also of a rollout that is done: devices that have gone on to something newer stay with that.

        Raises:
            RolloutError: It was taken back already.
        """
        detail = f"rolled back by {by}: {reason}"
        self._change(number, by, "rollback", detail, State.ROLLING_BACK, (*OPEN[:3], State.DONE), ended_us=None)

    def _change(
        self, number: int, by: str, what: str, detail: str, state: State, may: Sequence[State], **values: int | None
    ) -> None:
        now, detail = self._clock(), _line(detail, _LINE_MOST)
        if not by.strip():
            raise RolloutError(f"rollout {number}: say who it is that wants it {what}")
        with transaction(self._engine) as connection:
            is_so = (rollouts.c.id == number) & rollouts.c.state.in_([one.value for one in may])
            fields = {"state": state.value, "detail": detail, **values}
            if connection.execute(update(rollouts).where(is_so).values(**fields)).rowcount:
                say(connection, number, now, by, what, detail)
                return
        found = self.read(number).state
        raise RolloutError(f"rollout {number} is {found}: expected {' or '.join(may)} for that")

    def _fleet(self) -> tuple[dict[tuple[str, str], Known], list[DeviceTopics]]:
        """What is known of every device, and who may be compared with."""
        states = device_states(self._engine)
        heard_us = self._clock() - HEARD_US
        known = {
            who: Known(
                state.info.channel if state.info is not None else "",
                state.status == "online" or (state.status == "" and state.newest_us >= heard_us),
            )
            for who, state in states.items()
        }
        return known, [DeviceTopics(site, device) for site, device in sorted(states)]


def device_states(engine: Engine, who: Iterable[tuple[str, str]] | None = None) -> dict[tuple[str, str], DeviceState]:
    """What the fleet's watch wrote last of devices, by site and name; of all where nobody is named."""
    decode = msgspec.json.Decoder(DeviceState).decode
    query = select(fleet_devices.c.site, fleet_devices.c.device, fleet_devices.c.state)
    found: dict[tuple[str, str], DeviceState] = {}
    with engine.connect() as connection:
        if who is None:
            return {(row.site, row.device): decode(row.state) for row in connection.execute(query)}
        wanted = set(who)
        for names in chunks(sorted({device for _, device in wanted})):
            for row in connection.execute(query.where(fleet_devices.c.device.in_(names))):
                if (row.site, row.device) in wanted:
                    found[row.site, row.device] = decode(row.state)
    return found


def end_withdrawn(connection: Connection, releases: Sequence[int], reason: str, now: int) -> None:
    """Ends open rollouts of releases that somebody else takes back from all devices, so that no more are told."""
    may = [one.value for one in OPEN]
    mine = rollouts.c.release.in_(releases) & rollouts.c.state.in_(may)
    for number in connection.scalars(select(rollouts.c.id).where(mine)).all():
        fields = {"state": State.ABORTED.value, "detail": _line(reason, _LINE_MOST), "ended_us": now}
        connection.execute(update(rollouts).where(rollouts.c.id == number).values(**fields))
        say(connection, number, now, "walt-loop forget", "withdrawn", reason)


def say(connection: Connection, rollout: int, now: int, by: str, what: str, detail: str) -> None:
    """Adds a line to a rollout's history, in the transaction that makes it true."""
    # A person and the engine may both say something now; the second waits, and has the next number.
    connection.execute(select(rollouts.c.id).where(rollouts.c.id == rollout).with_for_update())
    number = select(func.coalesce(func.max(rollout_events.c.number), 0) + 1).where(
        rollout_events.c.rollout == rollout
    )
    row = {"rollout": rollout, "number": connection.scalar(number), "at_us": now}
    row |= {"by": _line(by, _NAME_MOST), "what": what, "detail": _line(detail, _LINE_MOST)}
    connection.execute(insert(rollout_events), row)


def _line(text: str, most: int) -> str:
    """One clean line: it is shown, and written by people."""
    return "".join(letter if letter.isprintable() else " " for letter in " ".join(text.split()))[:most]


def _count(members: Sequence[Member], cohort: str) -> int:
    return sum(one.cohort == cohort for one in members)


def _member_row(member: Member) -> dict[str, Any]:
    return msgspec.structs.asdict(member)


def _member(row: Row[Any]) -> Member:
    return Member(**{name: getattr(row, name) for name in Member.__struct_fields__})


def _event(row: Row[Any]) -> Event:
    return Event(at_us=row.at_us, by=row.by, what=row.what, detail=row.detail)


_encode_evidence: Callable[[Evidence], bytes] = msgspec.json.encode


def evidence_text(evidence: Evidence) -> str:
    """As the table holds it."""
    return _encode_evidence(evidence).decode()


def _rollout(row: Row[Any], members: Sequence[Member] = (), events: Sequence[Event] = ()) -> Rollout:
    plain = {str(name): value for name, value in row._mapping.items()}
    plain["state"] = State(row.state)
    plain["plan"] = msgspec.json.decode(row.plan, type=Plan)
    plain["evidence"] = msgspec.json.decode(row.evidence, type=Evidence) if row.evidence else Evidence()
    cohorts = {name: tuple(one for one in members if one.cohort == name) for name in _COHORTS}
    made = tuple(Cohort(name=name, members=some) for name, some in cohorts.items() if some)
    return Rollout(**plain, cohorts=made, events=tuple(events))
