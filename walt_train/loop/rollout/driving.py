"""The engine in a thread of its own, so that no other duty of home's delays a rollback."""

from __future__ import annotations

import threading
from types import TracebackType

from walt_train.loop.rollout.engine import RolloutEngine

_END_S = 30.0


class Driving:
    """Drives rollouts while the block lasts; a context manager.

    Args:
        engine: What drives.
        every_s: Between two rounds.
    """

    def __init__(self, engine: RolloutEngine, every_s: float = 1.0) -> None:
        self._stopping = threading.Event()
        self._thread = threading.Thread(
            target=engine.run, args=(self._stopping, every_s), name="rollouts", daemon=True
        )

    def __enter__(self) -> Driving:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        # Whatever it is in the middle of may be killed, and is done again at the next start.
        self._thread.join(_END_S if kind is None else 0.0)
