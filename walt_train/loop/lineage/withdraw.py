"""What becomes of models that learned from what was forgotten: devices go back, cameras train again, models go."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from sqlalchemy import Engine, update

from walt_edge.contract.messages import Desired
from walt_edge.contract.topics import DeviceTopics
from walt_train.loop.lineage import graph
from walt_train.loop.lineage.affected import releases_of, runners
from walt_train.loop.lineage.erase import erase_model
from walt_train.loop.lineage.made import Maker, published
from walt_train.loop.lineage.record import note, note_wishes, release_id
from walt_train.loop.publish.repository import Release
from walt_train.loop.rollout.rollouts import end_withdrawn
from walt_train.loop.serve.folder import Folder
from walt_train.loop.serve.jobs import Generation, Jobs, Order, State, StepName
from walt_train.loop.serve.triggers.reading import devices_of, harvest_of
from walt_train.loop.store.database import transaction
from walt_train.loop.store.tables import generations

Tell = Callable[[Sequence[DeviceTopics], Desired], None]


class Releases(Protocol):
    """What is done with releases here."""

    def publish(self, bundle: Path) -> Release:
        """Releases a bundle under a new number, unless it is the newest."""

    def find(self, sha256: str) -> Release | None:
        """The newest release of these bytes, or None."""

    def remove(self, sha256s: Sequence[str]) -> list[int]:
        """Takes releases of these bytes back, but for the newest of all; returns their numbers."""


def adopt(jobs: Jobs, engine: Engine, home: Path, releases: Releases, camera: str, number: int) -> None:
    """Writes down a release that its worker made and could not write down any more, since it was stopped.

    Raises:
        PublishError: The repository is damaged.
    """
    generation = jobs.read(camera, number)
    bundle = str(generation.step(StepName.EXPORT).result.get("sha256", ""))
    release = releases.find(bundle) if bundle else None
    if release is None:
        return
    with transaction(engine) as connection:
        if graph.artifact(connection, release_id(release.number)) is None:
            maker = Maker(camera, number, Folder.of(home, generation).root, home)
            published(maker, bundle, release.number, release.target, devices_of(engine, camera))(connection)


def withdraw(jobs: Jobs, engine: Engine, home: Path, releases: Releases, tell: Tell, camera: str) -> str:
    """Has a camera's devices return to a release that did not learn from it; returns a line for people.

    Old bytes go out under a new number, as every undo does. A kill in between has it done again.

    Raises:
        PublishError, KeysError, BusyError: The repository cannot be written; what was published before still is.
        BrokerError: The release stands, and the devices do not know of it: repeat it.
    """
    every = jobs.all(camera)
    done = [one for one in every if one.state is State.DONE]
    with transaction(engine) as connection:
        spoilt = graph.taints(connection)
        numbers = [one.number for one in every if (camera, one.number) in spoilt]
        released = [release for number in numbers for release in releases_of(connection, camera, number)]
        # Before anybody is told the way back: a rollout that went on would tell the next of its devices.
        end_withdrawn(connection, released, "some of its crops were forgotten", time.time_ns() // 1000)
        devices = [DeviceTopics.parse(text) for text in runners(connection, released)]
    if not devices and (not done or done[-1].number not in numbers):
        return f"{camera}: the model that runs did not learn from it"
    clean = [one for one in done if (camera, one.number) not in spoilt and Folder.of(home, one).bundle.is_file()]
    if not clean:
        return f"{camera}: no release is without it, so the devices go on with the one they have: --retrain makes one"
    back = clean[-1]
    folder = Folder.of(home, back)
    release = releases.publish(folder.bundle)
    if devices:
        tell(devices, Desired(release=release.number, target=release.target, sha256=release.sha256))
    maker = Maker(camera, back.number, folder.root, home)
    with transaction(engine) as connection:
        made = maker.artifact(release_id(release.number), "release", release.target)
        note(connection, made, [release.sha256])
        note_wishes(connection, release.number, devices, made.created_us)
        for one in done:
            if one.number > back.number:
                mine = (generations.c.camera == camera) & (generations.c.number == one.number)
                reason = f"withdrawn for generation {back.number}: some of its crops were forgotten"
                connection.execute(update(generations).where(mine).values(state=State.REFUSED.value, reason=reason))
    names = ", ".join(f"{one.site}/{one.device}" for one in devices) or "no device"
    return f"{camera}: back to generation {back.number} as release {release.number}, told to {names}"


def retrain(jobs: Jobs, engine: Engine, camera: str, asked_us: int) -> str:
    """Opens a camera's next generation, of what is left, for `walt-loop serve` to work on; returns a line for people.

    Raises:
        StoreWriteError: The table cannot be written now.
    """
    last = jobs.latest(camera)
    if last is None:
        return f"{camera}: nothing was trained, so nothing is trained again"
    if last.created_us >= asked_us:
        return f"{last.title} is without it ({last.state})"
    harvest = harvest_of(engine, camera)
    if not harvest.crops:
        return f"{camera}: no crop is left to train on"
    order = Order(
        camera=camera,
        recipe=last.recipe,
        seed=last.seed,
        training_steps=last.training_steps,
        crops=harvest.crops,
        tracks=harvest.tracks,
        why="some of its last one's crops were forgotten",
        cells=harvest.cells,
    )
    made = jobs.create(order)
    if made is None:
        return f"{last.title} is at work and did not hold it"
    jobs.release(made)
    return f"{made.title} is open, of {harvest.crops} crops: walt-loop serve trains it"


def spoilt_cameras(jobs: Jobs, engine: Engine, cameras: Sequence[str]) -> list[str]:
    """Those of the cameras whose newest generation is not free of what was forgotten."""
    with engine.connect() as connection:
        spoilt = graph.taints(connection)
    newest = ((camera, jobs.latest(camera)) for camera in cameras)
    return [camera for camera, last in newest if last is not None and (camera, last.number) in spoilt]


def retire(jobs: Jobs, engine: Engine, home: Path, releases: Releases) -> list[str]:
    """Removes weights, bundles and releases that learned from what was forgotten and that nobody is told to run.

    To be called now and then; returns lines for people.

    Raises:
        PublishError, KeysError, BusyError: The repository cannot be written.
        EraseError: A folder cannot be cleaned.
    """
    lines = []
    with engine.connect() as connection:
        spoilt = graph.taints(connection)
    for generation in (one for one in jobs.all() if (one.camera, one.number) in spoilt):
        if not _is_over(jobs, engine, generation):
            continue
        bundle = generation.step(StepName.EXPORT).result.get("sha256")
        gone = releases.remove([str(bundle)]) if bundle else []
        if erase_model(Folder.of(home, generation).root) or gone:
            also = f", release {', '.join(map(str, gone))}" if gone else ""
            lines.append(f"{generation.title}: weights and bundle removed{also}")
    return lines


def _is_over(jobs: Jobs, engine: Engine, generation: Generation) -> bool:
    """Whether nobody works on it, it is not the one that runs, and no device was last told to run it."""
    if generation.state in (State.PENDING, State.RUNNING) or generation.until_us > time.time_ns() // 1000:
        return False
    with engine.connect() as connection:
        released = releases_of(connection, generation.camera, generation.number)
        if runners(connection, released):
            return False
    newest = [one for one in jobs.all(generation.camera) if one.state is State.DONE][-1:]
    return generation not in newest
