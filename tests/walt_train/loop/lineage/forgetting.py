"""Forgetting in tests: cameras with released generations, and where pictures of their crops are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from tests.walt_train.loop.serve.loop import CROPS, Loop, crop, fill
from walt_train.loop.lineage.carry import Hands, carry_out
from walt_train.loop.lineage.choose import Choice
from walt_train.loop.lineage.forget import Done, Wish, begin

JUDGES = crop(CROPS - 1).id
"""The fake training has the last two crops judge."""


def hands(loop: Loop, **changes: Any) -> Hands:
    defaults: dict[str, Any] = {"home": loop.home, "releases": loop.repository, "tell": loop._note}
    return Hands(store=loop.store, jobs=loop.jobs("forgetter"), **(defaults | changes))


def forget(loop: Loop, choice: Choice, **changes: Any) -> Done:
    begun = begin(loop.store.engine, Wish(choice=choice, **changes), "for a test")
    assert begun is not None
    return carry_out(hands(loop), begun)


def trained(loop: Loop, cameras: tuple[str, ...] = ("cam-1",), generations: int = 1) -> Loop:
    """Cameras with released generations, each of a half more crops."""
    for number in range(generations):
        loop.truths = {name: _better(loop, number) for name in loop.truths}
        for camera in cameras:
            fill(loop.store, camera, range(10 * number, 10 * number + CROPS))
        loop.worker().run()
    return loop


def _better(loop: Loop, number: int) -> Path:
    quality = {"motion": 40.0} | {f"0 {CROPS * (n + 1)}": 60.0 + 5 * n for n in range(9)}
    (loop.folder / "truth" / "quality.json").write_bytes(msgspec.json.encode(quality))
    return loop.folder / "truth"


def pixels(loop: Loop) -> dict[str, list[str]]:
    """Every file below the store and the home that holds the bytes of a crop's picture, by the crop's id."""
    pictures = {crop(n).id: crop(n).envelope.image for n in [*range(CROPS), *range(10, 10 + CROPS)]}
    files = [path for path in loop.folder.rglob("*") if path.is_file()]
    found: dict[str, list[str]] = {}
    for path in files:
        data = path.read_bytes()
        for sha256, picture in pictures.items():
            if picture in data:
                found.setdefault(sha256, []).append(str(path.relative_to(loop.folder)))
    return found
