"""The way back: what each device ran before, and the release that gives it that again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from sqlalchemy import Connection, func, select, update

from walt_edge.contract.messages import Desired
from walt_train.loop.fleet.state import DeviceState
from walt_train.loop.lineage import graph
from walt_train.loop.lineage.record import chunks, release_id
from walt_train.loop.lineage.tables import wishes
from walt_train.loop.publish.repository import Release
from walt_train.loop.rollout.model import Member, Rollout, State
from walt_train.loop.rollout.signals import Who
from walt_train.loop.rollout.tables import rollout_members, rollouts
from walt_train.loop.serve import jobs
from walt_train.loop.store.tables import generations

NOTHING = (0, "")
"""No release of home's."""

_UNPROVEN = (State.SUPERSEDED.value, State.ROLLED_BACK.value, State.ABORTED.value)


class Releases(Protocol):
    """What is done with releases here; `Repository` does it."""

    def find(self, sha256: str, /) -> Release | None:
        """The newest release of these bytes, or None."""

    def promote(self, release: Release, /) -> Release:
        """Makes a canary's release one for all; repeated, it changes nothing."""

    def undo(self, release: Release | str, /) -> Release:
        """Releases old bytes under the next number."""


def newest_wishes(connection: Connection, who: Sequence[Who]) -> dict[Who, int]:
    """The newest release that each was ever told to run; who was told none is not in it."""
    wanted = set(who)
    found: dict[Who, int] = {}
    query = select(wishes.c.site, wishes.c.device, func.max(wishes.c.release).label("newest"))
    for names in chunks(sorted({device for _, device in wanted})):
        some = query.where(wishes.c.device.in_(names)).group_by(wishes.c.site, wishes.c.device)
        found |= {(row.site, row.device): int(row.newest) for row in connection.execute(some)}
    return {one: newest for one, newest in found.items() if one in wanted}


def befores(
    connection: Connection, rollout: Rollout, members: Sequence[Member], states: dict[Who, DeviceState]
) -> dict[Who, tuple[int, str]]:
    """Release and sha256 that each returns to if this release fails; `NOTHING` where it had none of home's.

    It is what home told last, unless the device has said since that it runs something else. What home told last in a
    rollout that was taken back, or that another took over from, is not good: then it is what came before that.
    """
    newest = newest_wishes(connection, [one.who for one in members])
    known: dict[int, str] = {}
    found = {}
    for one in members:
        told = newest.get(one.who, 0)
        if told and told not in known:
            known[told] = sha256_of(connection, told)
        found[one.who] = _unproven(connection, one, told) or _before(states.get(one.who), told, known.get(told, ""))
    return found


def sha256_of(connection: Connection, release: int) -> str:
    """Of a release's bundle, by what was written down of it; "" where nothing was."""
    return next(iter(graph.parents(connection, release_id(release))), "")


def return_to(releases: Releases, rollout: Rollout, sha256: str) -> Desired:
    """The wish that brings these bytes back under a number above the rollout's; done again, it is the same.

    Raises:
        PublishError, KeysError, BusyError: The repository cannot be written; try again.
    """
    old = releases.find(sha256) if sha256 else None
    if old is None:
        return Desired.nothing(rollout.release)
    back = old if old.number > rollout.release else releases.undo(old)
    return Desired(release=back.number, target=back.target, sha256=back.sha256)


def refuse_generation(connection: Connection, rollout: Rollout, reason: str, now_us: int) -> None:
    """Has the generation be no champion any more: what is trained next has to beat what devices run."""
    if not rollout.generation:
        return
    mine = (generations.c.camera == rollout.camera) & (generations.c.number == rollout.generation)
    mine &= generations.c.state == jobs.State.DONE.value
    fields = {"state": jobs.State.REFUSED.value, "reason": f"rolled back: {reason}"[:500], "ended_us": now_us}
    connection.execute(update(generations).where(mine).values(**fields))


def _before(state: DeviceState | None, told: int, told_sha256: str) -> tuple[int, str]:
    reported = state.reported if state is not None else None
    if reported is None or reported.desired < told:
        return (told, told_sha256) if told_sha256 else NOTHING
    if reported.state == "updating" and reported.release != reported.desired and told_sha256:
        return (told, told_sha256)  # On its way there.
    return (reported.release, reported.sha256)


def _unproven(connection: Connection, member: Member, told: int) -> tuple[int, str] | None:
    """What came before a release whose rollout did not end well; None where it did."""
    query = (
        select(rollout_members.c.before_release, rollout_members.c.before_sha256)
        .join(rollouts, rollouts.c.id == rollout_members.c.rollout)
        .where(rollouts.c.release == told, rollouts.c.state.in_(_UNPROVEN))
        .where(rollout_members.c.site == member.site, rollout_members.c.device == member.device)
    )
    row = connection.execute(query).first()
    return (row.before_release, row.before_sha256) if row is not None else None
