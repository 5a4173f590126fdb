from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.walt_train.loop.serve.loop import Loop


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Loop]:
    """An empty store and a home."""
    with Loop(tmp_path) as loop:
        yield loop
