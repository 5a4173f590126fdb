"""Copies of crops in generations' folders, where they are not needed any more.

A generation that is over keeps the record of its clip art, by which it can be frozen again from the store; its
pictures go, but for the newest and the one that runs. Of these, pictures go whose crops have expired.
"""

from __future__ import annotations

import time
from pathlib import Path

from sqlalchemy import Connection, Engine, and_, select

from walt_train.loop.lineage.erase import Erased, erase, erase_pictures, erase_sheet
from walt_train.loop.lineage.tables import members
from walt_train.loop.serve.folder import COMPOSITES, Folder
from walt_train.loop.serve.jobs import ENDED, Generation, Jobs
from walt_train.loop.store.tables import envelopes


def thin(engine: Engine, jobs: Jobs, home: Path) -> Erased:
    """Removes what is not needed; to be called after a pass of `keep`. May be killed and repeated.

    Raises:
        EraseError: A folder cannot be cleaned.
    """
    erased = Erased()
    needed = {_key(one) for one in _needed(jobs)}
    for generation in jobs.all():
        if generation.state not in ENDED or generation.until_us > time.time_ns() // 1000:
            continue
        root = Folder.of(home, generation).root
        if not root.is_dir():
            continue
        if _key(generation) not in needed:
            erased += erase_pictures(root / "clipart")
            if (root / COMPOSITES).exists() and _expired(engine, generation):
                erased += erase_sheet(root)
            continue
        gone = _expired(engine, generation)
        if gone:
            erased += erase(root, gone.keys(), pictures=bool({"validate", "plate", "clip"} & set(gone.values())))
    return erased


def _expired(engine: Engine, generation: Generation) -> dict[str, str]:
    with engine.connect() as connection:
        return _gone(connection, generation.clipart_sha256)


def _needed(jobs: Jobs) -> list[Generation]:
    cameras = sorted({one.camera for one in jobs.all()})
    pairs = ((jobs.latest(camera), jobs.champion(camera)) for camera in cameras)
    return [one for pair in pairs for one in pair if one is not None]


def _key(generation: Generation) -> tuple[str, int]:
    return generation.camera, generation.number


def _gone(connection: Connection, clipart: str) -> dict[str, str]:
    """Roles of those in a clip art that are stored no more."""
    stored = members.outerjoin(envelopes, members.c.crop == envelopes.c.id)
    query = (
        select(members.c.crop, members.c.role)
        .select_from(stored)
        .where(and_(members.c.clipart == clipart, envelopes.c.id.is_(None), members.c.role != "left"))
    )
    return dict(iter(connection.execute(query)))
