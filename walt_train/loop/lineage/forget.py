"""Forgetting for good: tombstones first, then everything that shows what is forgotten, then the models.

What was asked is written down in the transaction that writes the tombstones and removes the rows. Whatever is killed
after it, the next `walt-loop forget` or `walt-loop serve` takes it up again: every step may be repeated.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from sqlalchemy import Connection, Engine, delete, insert, select, update

from walt_edge.contract.topics import ROOT, DeviceTopics
from walt_train.loop.labels.tables import drop
from walt_train.loop.lineage import graph
from walt_train.loop.lineage.affected import Affected, affected
from walt_train.loop.lineage.choose import Choice, Chosen, chosen
from walt_train.loop.lineage.erase import Erased, erase, erase_half, erase_state
from walt_train.loop.lineage.record import chunks, hold, insert_missing
from walt_train.loop.lineage.tables import forgets, members, tainted
from walt_train.loop.serve.folder import Folder
from walt_train.loop.serve.jobs import ENDED, State, StepName
from walt_train.loop.store.database import transaction
from walt_train.loop.store.store import Store
from walt_train.loop.store.tables import envelopes, generations, quarantine, steps, tombstones

_REASON = "forgotten in "
Wait = Callable[[float], None]
"""Lets so many seconds pass."""
Progress = Callable[[Sequence[Sequence[str]]], Iterator[Sequence[str]]]
"""Goes through pieces of work, and shows how far it is."""


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for.

    Attributes:
        choice: What is to be forgotten.
        retrain: Whether cameras whose models learned from it begin another generation.
        withdraw: Whether devices return to a release that did not learn from it.
        backups: Folders of copies that it is to go from.
        cameras: Whose crops were chosen.
    """

    choice: Choice
    retrain: bool = False
    withdraw: bool = False
    backups: tuple[str, ...] = ()
    cameras: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Forget:
    """Something that was asked to be forgotten.

    Attributes:
        id: Names it.
        asked_us: When.
        words: As it was asked.
        wish: What.
        crops: How many envelopes.
    """

    id: str
    asked_us: int
    words: str
    wish: Wish
    crops: int

    @property
    def reason(self) -> str:
        """What its tombstones say."""
        return f"{_REASON}{self.id}"


@dataclass(frozen=True, slots=True)
class Plan:
    """What would be forgotten.

    Attributes:
        chosen: What is stored of it.
        deleted: Named crops that were deleted before, and may still be seen somewhere.
        affected: Generations that they were frozen for.
    """

    chosen: list[Chosen]
    deleted: tuple[str, ...]
    affected: list[Affected]

    @property
    def ids(self) -> list[str]:
        """Of all."""
        return [*(one.id for one in self.chosen), *self.deleted]


@dataclass(slots=True)
class Done:
    """What became of it.

    Attributes:
        blobs: Blobs of the store that were removed, or found removed.
        erased: What was removed of generations' folders.
        stopped: Generations that were at work on it.
        lines: What else was done, for people.
        remains: Where it can still be seen, or is still learned, for people.
    """

    blobs: int = 0
    erased: Erased = field(default_factory=Erased)
    stopped: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    remains: list[str] = field(default_factory=list)


def plan(connection: Connection, choice: Choice) -> Plan:
    """What would be forgotten; changes nothing."""
    found = chosen(connection, choice)
    stored = {one.id for one in found}
    deleted: list[str] = []
    if choice.is_crops_alone:
        query = select(tombstones.c.id).where(tombstones.c.reason.startswith(_REASON))
        before = set(connection.scalars(query.where(tombstones.c.id.in_(choice.crops))))
        deleted = [one for one in choice.crops if one not in stored | before]
    elif choice.is_cameras_alone:
        deleted = [one for one in _expired(connection, choice.cameras) if one not in stored]
    return Plan(found, tuple(deleted), affected(connection, [*stored, *deleted]))


def _expired(connection: Connection, cameras: Sequence[str]) -> list[str]:
    """What models of a camera learned from and is stored no more: it may be all that is left of it."""
    cliparts = select(generations.c.clipart_sha256).where(generations.c.camera.in_(cameras))
    forgotten = select(tombstones.c.id).where(tombstones.c.reason.startswith(_REASON))
    query = select(members.c.crop).where(members.c.clipart.in_(cliparts)).distinct()
    return sorted(connection.scalars(query.where(members.c.crop.not_in(forgotten))))


def begin(engine: Engine, wish: Wish, words: str) -> Forget | None:
    """Writes tombstones and what is to be done, and removes the rows, in one transaction; None without any."""
    with transaction(engine) as connection:
        hold(connection)
        found = plan(connection, wish.choice)
        if not found.ids:
            return None
        now_us = time.time_ns() // 1000
        cameras = {one.camera for one in found.chosen} | {one.camera for one in found.affected}
        wish = msgspec.structs.replace(wish, cameras=tuple(sorted(cameras)))
        made = Forget(uuid.uuid4().hex, now_us, words, wish, len(found.ids))
        rows = [{"id": one, "deleted_us": now_us, "reason": made.reason} for one in found.ids]
        insert_missing(connection, tombstones, rows)
        for chunk in chunks(found.ids):
            # What had expired is now forgotten: its tombstone says so.
            connection.execute(update(tombstones).where(tombstones.c.id.in_(chunk)).values(reason=made.reason))
            connection.execute(delete(envelopes).where(envelopes.c.id.in_(chunk)))
            drop(connection, chunk)
        text = msgspec.json.encode(wish).decode()
        row = {"id": made.id, "asked_us": now_us, "words": words, "wish": text, "crops": made.crops, "done_us": None}
        connection.execute(insert(forgets), row)
        _taint(connection, found.affected, now_us)
    return made


def _taint(connection: Connection, found: Sequence[Affected], now_us: int) -> None:
    before = graph.taints(connection)
    for one in found:
        if not one.learned:
            continue
        key = one.camera, one.number
        if key in before:
            mine = (tainted.c.camera == one.camera) & (tainted.c.number == one.number)
            connection.execute(update(tainted).where(mine).values(crops=before[key] + one.learned))
        else:
            row = {"camera": one.camera, "number": one.number, "crops": one.learned, "tainted_us": now_us}
            connection.execute(insert(tainted), row)


def pending(engine: Engine) -> list[Forget]:
    """What was asked for and is not completed, the oldest first."""
    query = select(forgets).where(forgets.c.done_us.is_(None)).order_by(forgets.c.asked_us)
    with engine.connect() as connection:
        rows = connection.execute(query).mappings().all()
    return [
        Forget(row["id"], row["asked_us"], row["words"], msgspec.json.decode(row["wish"], type=Wish), row["crops"])
        for row in rows
    ]


def ids_of(connection: Connection, forget: Forget) -> list[str]:
    """What was forgotten in it."""
    return sorted(connection.scalars(select(tombstones.c.id).where(tombstones.c.reason == forget.reason)))


def remove(
    store: Store,
    home: Path | None,
    forget: Forget,
    *,
    wait: Wait = time.sleep,
    progress: Progress = iter,
) -> Done:
    """Removes from the store and from generations' folders what is forgotten; may be repeated.

    Args:
        store: The store.
        home: Where generations lie; None if there are none.
        forget: What.
        wait: Lets time pass until a worker has let go.
        progress: Goes through pieces of work and shows how far it is.

    Raises:
        EraseError: A folder cannot be cleaned; repeat it when it can.
        StoreWriteError: The store cannot be written now; repeat it when it can.
    """
    done = Done()
    with store.engine.connect() as connection:
        ids = ids_of(connection, forget)
        found = affected(connection, ids)
    done.stopped = stop(store.engine, forget.wish.cameras, found, wait)
    for chunk in progress(list(chunks(ids))):
        store.delete(chunk, forget.reason)
        done.blobs += len(chunk)
    done.lines += _remove_refused(store, forget.wish.choice)
    if home is None:
        return done
    for one in found:
        root = Folder.path(home, one.camera, one.number)
        done.erased += erase(root, ids, pictures=one.pictures)
        if one.learned and State(one.state) is not State.DONE:
            erase_state(root)
    _erase_halves(store.engine, home, forget.wish.cameras)
    return done


def complete(engine: Engine, forget: Forget) -> None:
    """Writes down that nothing of it is left to do."""
    with transaction(engine) as connection:
        mine = forgets.c.id == forget.id
        connection.execute(update(forgets).where(mine).values(done_us=time.time_ns() // 1000))


def stop(engine: Engine, cameras: Sequence[str], found: Sequence[Affected], wait: Wait) -> list[str]:
    """Has generations that are at work with it end, and waits until their workers have let go; returns their names.

    One that was freezing clip art begins to freeze again; one that had frozen some of it is refused.
    """
    learned = {(one.camera, one.number) for one in found if one.held}
    stopped, until_us = [], 0
    with transaction(engine) as connection:
        # A generation that ended is here too while its worker has not noticed: a kill of ours lets nobody off.
        busy = generations.c.camera.in_(cameras) & (
            generations.c.state.not_in(ENDED) | (generations.c.until_us > time.time_ns() // 1000)
        )
        for row in connection.execute(select(generations).where(busy)).mappings().all():
            camera, number = row["camera"], row["number"]
            is_frozen = bool(row["clipart_sha256"])
            if is_frozen and (camera, number) not in learned:
                continue
            until_us = max(until_us, row["until_us"])
            if row["state"] in ENDED:
                continue
            title = f"{camera} generation {number}"
            stopped.append(title)
            _end(connection, camera, number, is_frozen)
    left_s = until_us / 1e6 - time.time()
    if left_s > 0:
        wait(left_s)
    return stopped


def _end(connection: Connection, camera: str, number: int, is_frozen: bool) -> None:
    """Takes the lease away; the worker notices when it renews it, before it runs out."""
    values: dict[str, object] = {"owner": ""}
    if is_frozen:
        reason = "some of its crops were forgotten"
        values |= {"state": State.REFUSED.value, "reason": reason, "ended_us": time.time_ns() // 1000}
        open_steps = steps.c.state != State.DONE.value
        mine = (steps.c.camera == camera) & (steps.c.number == number) & open_steps
        connection.execute(update(steps).where(mine).values(state=State.REFUSED.value, reason=reason))
    else:
        mine = (steps.c.camera == camera) & (steps.c.number == number) & (steps.c.name == StepName.CLIPART.value)
        connection.execute(update(steps).where(mine).values(state=State.PENDING.value))
    mine = (generations.c.camera == camera) & (generations.c.number == number)
    connection.execute(update(generations).where(mine).values(values))


def _erase_halves(engine: Engine, home: Path, cameras: Sequence[str]) -> None:
    """Clip art that was being frozen and never was: of generations that nobody is at work on."""
    now_us = time.time_ns() // 1000
    nobody = (generations.c.owner == "") | (generations.c.until_us <= now_us)
    idle = generations.c.camera.in_(cameras) & nobody
    with engine.connect() as connection:
        rows = connection.execute(select(generations.c.camera, generations.c.number).where(idle)).all()
    for camera, number in rows:
        erase_half(Folder.path(home, camera, number))


def _remove_refused(store: Store, choice: Choice) -> list[str]:
    """What a device sent and was refused: whose camera it was of cannot be read, but its topic names the device."""
    if not choice.devices or choice != Choice(devices=choice.devices):
        return []
    count = 0
    for text in choice.devices:
        device = DeviceTopics.parse(text)
        topics = quarantine.c.topic.startswith(f"{ROOT}/{device.site}/{device.device}/", autoescape=True)
        with transaction(store.engine) as connection:
            gone = connection.scalars(select(quarantine.c.sha256).where(topics)).all()
            connection.execute(delete(quarantine).where(topics))
        for sha256 in gone:
            store.refused_blobs.delete(sha256)
        count += len(gone)
    return [f"{count} refused envelopes removed from quarantine"] if count else []
