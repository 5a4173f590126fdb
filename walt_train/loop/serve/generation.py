"""What the table of jobs holds: generations, their steps, and what a new one is made of."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any

import msgspec


class State(enum.StrEnum):
    """Of a generation and of a step."""

    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    REFUSED = "refused"


class StepName(enum.StrEnum):
    """The steps of a generation, in order."""

    CLIPART = "clipart"
    TRAIN = "train"
    EXPORT = "export"
    JUDGE = "judge"
    PUBLISH = "publish"


OPEN = (State.PENDING, State.RUNNING)
ENDED = (State.DONE, State.FAILED, State.REFUSED)


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a generation.

    Attributes:
        name: Which.
        state: How far it is.
        attempts: How often it was begun.
        failures: How often it failed; a worker that died is no failure.
        started_us: When it was last begun.
        ended_us: When it was done or failed for good.
        result: What it gave, by name.
        reason: Why it failed or was refused, one line.
    """

    name: StepName
    state: State
    attempts: int
    failures: int
    started_us: int | None
    ended_us: int | None
    result: dict[str, Any]
    reason: str


class Generation(msgspec.Struct, frozen=True, kw_only=True):
    """One training of one camera's model, and what became of it.

    Attributes:
        camera: The camera's name.
        number: 1, 2, ... for each camera.
        recipe: Of the training.
        seed: Of the training.
        training_steps: Optimiser steps; None = what the recipe says.
        state: `done` is published, `refused` has a bundle and is not.
        reason: The verdict, or why it failed, one line.
        created_us: When its clip art was enough.
        ended_us: When it ended.
        crops: Crops that might train, held by the store when it was created.
        tracks: Tracks that they show.
        clipart_sha256: Of its frozen `clipart.json`; "" before that is there.
        owner: The worker that has it, or "".
        until_us: When the lease runs out.
        due_us: When a failed step may be tried again.
        steps: In order.
        why: Which trigger began it, one line; "" where nobody knows.
    """

    camera: str
    number: int
    recipe: str
    seed: int
    training_steps: int | None
    state: State
    reason: str
    created_us: int
    ended_us: int | None
    crops: int
    tracks: int
    clipart_sha256: str
    owner: str
    until_us: int
    due_us: int
    steps: tuple[Step, ...]
    why: str = ""

    @property
    def title(self) -> str:
        """How people are told of it."""
        return f"{self.camera} generation {self.number}"

    def step(self, name: StepName) -> Step:
        """The step of that name."""
        return next(step for step in self.steps if step.name is name)

    def following(self) -> StepName | None:
        """The first step that is not done."""
        return next((step.name for step in self.steps if step.state is not State.DONE), None)


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What a new generation is made of; the attributes are those of `Generation`.

    Attributes:
        cells: What the camera's clip art covers when it begins, by cell (`triggers.coverage`); None: nobody looked.
    """

    camera: str
    recipe: str
    seed: int
    training_steps: int | None
    crops: int
    tracks: int
    why: str = ""
    cells: Mapping[int, int] | None = None
