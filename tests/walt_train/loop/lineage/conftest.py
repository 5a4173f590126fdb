from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.walt_train.loop.lineage.forgetting import trained
from tests.walt_train.loop.serve.loop import Loop, truth


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Loop]:
    """An empty store and a home; models are judged as good."""
    with Loop(tmp_path) as loop:
        loop.truths = dict.fromkeys(("cam-1", "cam-2"), truth(tmp_path / "truth"))
        yield loop


def _prepared(folder: Path, generations: int) -> Path:
    with Loop(folder) as loop:
        loop.truths = {"cam-1": truth(folder / "truth")}
        trained(loop, generations=generations)
    return folder


@pytest.fixture(scope="module")
def prepared_twice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store and a home with two released generations, to be copied."""
    return _prepared(tmp_path_factory.mktemp("prepared"), 2)


@pytest.fixture(scope="module")
def prepared_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with one."""
    return _prepared(tmp_path_factory.mktemp("prepared"), 1)


def _copied(folder: Path, to: Path) -> Loop:
    shutil.copytree(folder, to)
    return Loop(to, truths={"cam-1": to / "truth"})


@pytest.fixture
def twice(prepared_twice: Path, tmp_path: Path) -> Iterator[Loop]:
    """A camera with two released generations."""
    with _copied(prepared_twice, tmp_path / "loop") as loop:
        yield loop


@pytest.fixture
def once(prepared_once: Path, tmp_path: Path) -> Iterator[Loop]:
    """A camera with one released generation."""
    with _copied(prepared_once, tmp_path / "loop") as loop:
        yield loop
