"""Carrying out what was asked to be forgotten, from wherever it was left."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from walt_edge.contract.errors import UsageError
from walt_train.loop.labels.tables import shown_in
from walt_train.loop.lineage.affected import Affected, affected
from walt_train.loop.lineage.copies import forget_in, known_copies
from walt_train.loop.lineage.erase import erase_pictures
from walt_train.loop.lineage.forget import Done, Forget, Progress, Wait, complete, ids_of, pending, remove
from walt_train.loop.lineage.withdraw import Releases, Tell, adopt, retire, retrain, spoilt_cameras, withdraw
from walt_train.loop.publish.files import BusyError, held
from walt_train.loop.serve.folder import REPORTS, Folder
from walt_train.loop.serve.jobs import Jobs
from walt_train.loop.store.store import Store

_LOCK = ".forget.lock"
_PATIENCE_S = 600.0
_BUSY_S = 0.2


@dataclass(frozen=True, slots=True)
class Hands:
    """What it takes.

    Attributes:
        store: The store.
        jobs: Its table of generations.
        home: Where generations lie; None if there are none.
        releases: The repository; None without a home.
        tell: How devices learn of a release; None if nobody said where the broker is.
        wait: Lets time pass until a worker has let go.
    """

    store: Store
    jobs: Jobs
    home: Path | None = None
    releases: Releases | None = None
    tell: Tell | None = None
    wait: Wait = time.sleep


def carry_out(hands: Hands, forget: Forget, progress: Progress = iter) -> Done:
    """Does everything that is left to do of it, and writes down that it is done.

    Raises:
        UsageError: Devices are to be told, and nobody said where the broker is.
        WaltError: Something cannot be written or reached now; what was done stays done, the rest is done later.
    """
    if forget.wish.withdraw and hands.tell is None:
        raise UsageError(f"'{forget.words}' is to withdraw models: give --broker, which tells the devices")
    with _alone(hands.home):
        return _carry_out(hands, forget, progress)


def _carry_out(hands: Hands, forget: Forget, progress: Progress) -> Done:
    engine = hands.store.engine
    done = remove(hands.store, hands.home, forget, wait=hands.wait, progress=progress)
    with engine.connect() as connection:
        ids = ids_of(connection, forget)
        found = [one for one in affected(connection, ids) if one.learned]
    if hands.home is not None and hands.releases is not None:
        for one in found:
            adopt(hands.jobs, engine, hands.home, hands.releases, one.camera, one.number)
    done.remains += _copies(hands.store, forget, ids, done.lines)
    done.lines += _models(hands, forget)
    with engine.connect() as connection:
        found = [one for one in affected(connection, ids) if one.learned]
        shown = shown_in(connection, ids)
    done.lines += _drawn(hands) if shown else []
    done.remains += [
        f"truth {place} shows {count} of the frames: delete the folder, and export what is left"
        for place, count in shown.items()
    ]
    done.remains += _remains(hands, found)
    complete(engine, forget)
    return done


def take_up(hands: Hands) -> list[str]:
    """Completes what a kill has left, and removes models that run nowhere any more; to be called now and then.

    Raises:
        WaltError: As `carry_out` does.
    """
    lines = []
    for forget in pending(hands.store.engine):
        done = carry_out(hands, forget)
        lines += [f"completed: {forget.words}", *done.lines, *done.remains]
    if hands.home is not None and hands.releases is not None:
        with _alone(hands.home):
            lines += retire(hands.jobs, hands.store.engine, hands.home, hands.releases)
    return lines


@contextmanager
def _alone(home: Path | None) -> Iterator[None]:
    """One process at a time removes something of a home: `walt-loop forget` and every `walt-loop serve` may try."""
    if home is None:
        yield
        return
    home.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        give_up_s = time.monotonic() + _PATIENCE_S
        while True:
            try:
                stack.enter_context(held(home / _LOCK, str(home)))
                break
            except BusyError:
                # What the other one does is done for us too.
                if time.monotonic() > give_up_s:
                    raise
                time.sleep(_BUSY_S)
        yield


def _models(hands: Hands, forget: Forget) -> list[str]:
    lines = []
    engine = hands.store.engine
    cameras = spoilt_cameras(hands.jobs, engine, forget.wish.cameras)
    if forget.wish.withdraw and hands.home is not None and hands.releases is not None and hands.tell is not None:
        home, releases, tell = hands.home, hands.releases, hands.tell
        lines += [withdraw(hands.jobs, engine, home, releases, tell, camera) for camera in forget.wish.cameras]
    if forget.wish.retrain:
        lines += [retrain(hands.jobs, engine, camera, forget.asked_us) for camera in cameras]
    if hands.home is not None and hands.releases is not None:
        lines += retire(hands.jobs, engine, hands.home, hands.releases)
    return lines


def _drawn(hands: Hands) -> list[str]:
    """Removes what evaluations drew: which of the frames that judged are in it, nobody wrote down."""
    if hands.home is None:
        return []
    roots = [Folder.of(hands.home, one).root / REPORTS for one in hands.jobs.all()]
    count = sum(erase_pictures(root).files for root in roots)
    return [f"{count} pictures of evaluations removed, which may show some of the frames"] if count else []


def _copies(store: Store, forget: Forget, ids: Sequence[str], lines: list[str]) -> list[str]:
    """Removes it from the copies that can be reached; returns those that cannot."""
    remains = []
    for place in sorted({*forget.wish.backups, *known_copies(store.engine)}):
        if forget_in(Path(place), ids, forget.asked_us, forget.reason):
            lines.append(f"backup {place}: removed there too; models leave it with the next walt-loop backup")
        else:
            remains.append(
                f"backup {place} is not there now: repeat with --backup when it is, or back up into it again"
            )
    return remains


def _remains(hands: Hands, found: Sequence[Affected]) -> list[str]:
    remains = []
    for one in found:
        bundle = None if hands.home is None else Folder.path(hands.home, one.camera, one.number) / "bundle.walt"
        runs = f" and {', '.join(one.devices)} run it" if one.devices else ""
        if bundle is None or not bundle.exists():
            continue
        shown = ", and its golden pictures show some" if one.pictures else ""
        remains.append(f"{one.title}: {bundle} learned from {one.learned}{shown}{runs}")
    return remains
