"""Waiting for a condition, with an end."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

PATIENCE_S: Final = 30.0
"""What takes no second takes longer on a machine that has other work; only what fails waits for so long."""


def wait_for(condition: Callable[[], object], timeout_s: float = PATIENCE_S, what: str = "") -> None:
    """Returns once `condition` holds; fails the test if it does not within the time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_s} s in vain {what or condition}"
        time.sleep(0.01)
