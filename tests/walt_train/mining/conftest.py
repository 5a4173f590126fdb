from __future__ import annotations

from pathlib import Path

import pytest

from tests.walt_train.mining.archives import FPS, record, street
from walt_train.mining.archive import mine_archive
from walt_train.mining.records import ArchiveRecord
from walt_train.mining.sources import find_sources


@pytest.fixture(scope="session")
def mined(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ArchiveRecord, list[Path]]:
    """Three recordings: as it was, moved a little, moved a lot; nobody may change what it gives."""
    folder = tmp_path_factory.mktemp("archive")
    paths = [
        record(folder / "2026-05-01_06-00-00", street()),
        record(folder / "2026-05-01_07-00-00", street(late=True), move_xy=(3.4, -2.3)),
        record(folder / "2026-05-01_08-00-00", street(), move_xy=(40.0, 12.0)),
    ]
    return folder / "out", mine_archive(find_sources(paths, fps=FPS), folder / "out", camera="street"), paths
