"""Who draws on which frame, and what was drawn.

Only frames that were marked at the edge as judging, and that train nothing, are drawn on. A frame that somebody works
on is leased: nobody else is offered it until the lease has run out. What is finished is never written over: a
correction is another version. Every tenth frame is given to a second person, who does not see what the first drew;
how well the two agree tells what the truth is worth.
"""

from __future__ import annotations

import hashlib
import time
from bisect import bisect_left
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from sqlalchemy import ColumnElement, Connection, Engine, Row, Table, and_, delete, func, insert, or_, select
from sqlalchemy.dialects.postgresql import insert as insert_postgresql
from sqlalchemy.dialects.sqlite import insert as insert_sqlite

from walt_edge.contract.errors import UsageError, WaltError
from walt_edge.contract.topics import Kind
from walt_train.loop.labels.choosing import cameras_of
from walt_train.loop.labels.drawing import Drawing, encode_drawing, read_drawing
from walt_train.loop.labels.tables import label_drafts, label_drawings, label_leases
from walt_train.loop.store.database import transaction
from walt_train.loop.store.tables import envelopes

LEASE_S: Final = 900.0
TWICE_EVERY: Final = 10
Done = Literal["done", "skipped"]


class LeaseError(WaltError):
    """Somebody else works on the frame."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A version of what somebody finished.

    Attributes:
        frame: The frame's id.
        camera: Its camera.
        by: Who.
        number: 1 is the first.
        at_us: When.
        state: `done`, or `skipped`.
        drawing: What; nothing of a skipped one.
    """

    frame: str
    camera: str
    by: str
    number: int
    at_us: int
    state: str
    drawing: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a camera is.

    Attributes:
        frames: That judge.
        done: Of them, drawn on by somebody.
        skipped: Of them, skipped and drawn on by nobody.
        twice: Of those done, by two people or more.
    """

    camera: str
    frames: int
    done: int
    skipped: int
    twice: int


class Drawings:
    """The frames to draw on.

    Args:
        engine: Of the store.
        clock: Microseconds UTC.
        lease_s: So long a frame is kept for who works on it.
    """

    def __init__(
        self, engine: Engine, clock: Callable[[], int] = lambda: time.time_ns() // 1000, lease_s: float = LEASE_S
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._lease_us = round(lease_s * 1e6)

    def offer(self, camera: str, by: str, without: str = "") -> str | None:
        """Leases a frame for somebody to draw on next; None when nothing is left.

        First those that are to be drawn by a second person, then what is farthest in time from what is drawn.

        Args:
            camera: Of this camera.
            by: Who will draw.
            without: Not this frame: who has just put it off is not given it again.
        """
        with self._engine.connect() as connection:
            frames = _frames(connection, camera)
            finished = _finished(connection, camera)
            busy = _leased(connection, [frame for frame, _ in frames], by, self._clock()) | {without}
        again = [one for one, people in finished.items() if is_twice(one) and _wants_a_second(people, by)]
        for frame in [*sorted(set(again) - busy), *_spread(frames, finished.keys() | busy)]:
            if self.take(frame, by):
                return frame
        return None

    def take(self, frame: str, by: str) -> bool:
        """Leases a frame, or goes on doing so; False if somebody else works on it."""
        with transaction(self._engine) as connection:
            return self._take(connection, frame, by)

    def leave(self, frame: str, by: str) -> None:
        """Lets others have it; what was begun stays."""
        with transaction(self._engine) as connection:
            mine = (label_leases.c.frame == frame) & (label_leases.c.by == by)
            connection.execute(delete(label_leases).where(mine))

    def frame(self, frame: str) -> tuple[str, int]:
        """Camera and time of capture of a frame that may be drawn on.

        Raises:
            UsageError: It is none.
        """
        with self._engine.connect() as connection:
            row = connection.execute(
                select(envelopes.c.camera, envelopes.c.captured_us).where(envelopes.c.id == frame, _JUDGES)
            ).first()
        if row is None:
            raise UsageError(f"frame {frame[:12]} is not stored, or does not judge: choose another")
        return row.camera, row.captured_us

    def save(self, frame: str, by: str, data: bytes | str, size_wh: tuple[int, int]) -> Drawing:
        """Keeps what somebody has begun, and his lease.

        Raises:
            DrawingError: It cannot be.
            LeaseError: Somebody else works on it by now.
        """
        drawing = read_drawing(data, size_wh)
        row = {"frame": frame, "by": by, "at_us": self._clock(), "drawing": encode_drawing(drawing)}
        with transaction(self._engine) as connection:
            self._lease(connection, frame, by)
            connection.execute(delete(label_drafts).where(_of(label_drafts, frame, by)))
            connection.execute(insert(label_drafts), row)
        return drawing

    def finish(self, frame: str, by: str, data: bytes | str, size_wh: tuple[int, int], state: Done = "done") -> int:
        """Writes a version that counts from now on, and lets others have the frame; returns its number.

        Raises:
            DrawingError: It cannot be.
            LeaseError: Somebody else works on it by now.
            UsageError: The frame was deleted.
        """
        drawing = read_drawing(data, size_wh) if state == "done" else Drawing(size_wh=size_wh)
        camera, _ = self.frame(frame)
        row = {"frame": frame, "by": by, "camera": camera, "at_us": self._clock(), "state": state}
        with transaction(self._engine) as connection:
            self._lease(connection, frame, by)
            last = select(func.max(label_drawings.c.number)).where(_of(label_drawings, frame, by))
            row["number"] = number = int(connection.scalar(last) or 0) + 1
            connection.execute(insert(label_drawings), {**row, "drawing": encode_drawing(drawing)})
            connection.execute(delete(label_drafts).where(_of(label_drafts, frame, by)))
            connection.execute(delete(label_leases).where(_of(label_leases, frame, by)))
        return number

    def begun(self, frame: str, by: str) -> str | None:
        """What somebody drew on a frame so far, as JSON: his draft, or what he finished; None of nothing."""
        with self._engine.connect() as connection:
            draft = connection.scalar(select(label_drafts.c.drawing).where(_of(label_drafts, frame, by)))
            if draft is not None:
                return str(draft)
            newest = select(label_drawings.c.drawing).where(_of(label_drawings, frame, by))
            found = connection.scalar(newest.order_by(label_drawings.c.number.desc()).limit(1))
        return None if found is None else str(found)

    def before(self, camera: str, by: str, frame: str) -> str | None:
        """What somebody finished on the frame of a camera that is nearest in time to this one, as JSON."""
        _, at_us = self.frame(frame)
        with self._engine.connect() as connection:
            states = _finished(connection, camera)
            near = sorted(_frames(connection, camera), key=lambda one: abs(one[1] - at_us))
            found = next((one for one, _ in near if one != frame and states.get(one, {}).get(by) == "done"), None)
        if found is None:
            return None
        return max((one for one in self.history(found) if one.by == by), key=lambda one: one.number).drawing

    def history(self, frame: str) -> list[Drawn]:
        """Every version of a frame, the oldest first."""
        query = select(label_drawings).where(label_drawings.c.frame == frame)
        with self._engine.connect() as connection:
            rows = connection.execute(query.order_by(label_drawings.c.at_us, label_drawings.c.number))
            return [_drawn(row) for row in rows]

    def newest(self, camera: str) -> list[Drawn]:
        """What counts: the newest version of every frame and person of a camera, the first to finish first."""
        with self._engine.connect() as connection:
            return _newest(connection, camera)

    def progress(self, camera: str) -> Progress:
        """How far a camera is."""
        with self._engine.connect() as connection:
            frames = _frames(connection, camera)
            finished = _finished(connection, camera)
        drawn = [people for people in finished.values() if "done" in people.values()]
        twice = sum(list(people.values()).count("done") > 1 for people in drawn)
        return Progress(camera, len(frames), len(drawn), len(finished) - len(drawn), twice)

    def cameras(self) -> list[str]:
        """Cameras that have frames which judge."""
        with self._engine.connect() as connection:
            return cameras_of(connection, _JUDGES)

    def _take(self, connection: Connection, frame: str, by: str) -> bool:
        now_us = self._clock()
        until = {"by": by, "until_us": now_us + self._lease_us}
        free = or_(label_leases.c.by == by, label_leases.c.until_us < now_us)
        make = insert_postgresql if connection.dialect.name == "postgresql" else insert_sqlite
        mine = make(label_leases).values(frame=frame, **until)
        mine = mine.on_conflict_do_update(index_elements=["frame"], set_=until, where=free)
        return connection.execute(mine.returning(label_leases.c.frame)).first() is not None

    def _lease(self, connection: Connection, frame: str, by: str) -> None:
        """Also has the same person's second tab wait until this transaction ends."""
        if not self._take(connection, frame, by):
            raise LeaseError("somebody else works on this frame by now: nothing was saved; go on with the next one")


_JUDGES = and_(envelopes.c.kind == Kind.FRAME.value, envelopes.c.holdout, envelopes.c.held.is_(None))


def is_twice(frame: str) -> bool:
    """Whether two people are to draw on a frame: by its id alone, so that nobody chooses."""
    return int.from_bytes(hashlib.sha256(frame.encode()).digest()[:4]) % TWICE_EVERY == 0


def _wants_a_second(people: dict[str, str], by: str) -> bool:
    return by not in people and list(people.values()).count("done") == 1


def _frames(connection: Connection, camera: str) -> list[tuple[str, int]]:
    query = select(envelopes.c.id, envelopes.c.captured_us).where(_JUDGES, envelopes.c.camera == camera)
    return [(frame, at_us) for frame, at_us in connection.execute(query.order_by(envelopes.c.captured_us))]


def _newest(connection: Connection, camera: str) -> list[Drawn]:
    query = select(label_drawings).where(label_drawings.c.camera == camera).order_by(label_drawings.c.number)
    found = {(row.frame, row.by): _drawn(row) for row in connection.execute(query)}
    return sorted(found.values(), key=lambda one: (one.at_us, one.by))


def _finished(connection: Connection, camera: str) -> dict[str, dict[str, str]]:
    """States by person, by frame."""
    found: dict[str, dict[str, str]] = {}
    columns = (label_drawings.c.frame, label_drawings.c.by, label_drawings.c.state)
    query = select(*columns).where(label_drawings.c.camera == camera).order_by(label_drawings.c.number)
    for frame, by, state in connection.execute(query):
        found.setdefault(frame, {})[by] = state
    return found


def _leased(connection: Connection, frames: Collection[str], by: str, now_us: int) -> set[str]:
    """Frames that others work on."""
    query = select(label_leases.c.frame).where(label_leases.c.by != by, label_leases.c.until_us >= now_us)
    return set(connection.scalars(query)) & set(frames)


def _spread(frames: Sequence[tuple[str, int]], taken: Collection[str]) -> list[str]:
    """What is left, the farthest in time from what is taken first."""
    times = sorted(at_us for frame, at_us in frames if frame in taken)
    left = [(frame, at_us) for frame, at_us in frames if frame not in taken]

    def distance_us(at_us: int) -> int:
        place = bisect_left(times, at_us)
        around = times[max(0, place - 1) : place + 1]
        return min((abs(at_us - other) for other in around), default=0)

    return [frame for frame, at_us in sorted(left, key=lambda one: (-distance_us(one[1]), one[1], one[0]))]


def _of(table: Table, frame: str, by: str) -> ColumnElement[bool]:
    return and_(table.c.frame == frame, table.c.by == by)


def _drawn(row: Row[Any]) -> Drawn:
    return Drawn(row.frame, row.camera, row.by, row.number, row.at_us, row.state, row.drawing)
