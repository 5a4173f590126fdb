"""What weights learned from is named crop by crop."""

from __future__ import annotations

from pathlib import Path

import pytest

from walt_edge.contract.errors import WaltError
from walt_train.engine.learned import FILE_NAME, Learned, Part, read_learned, write_learned

PARTS = (
    Part(role="train", data_sha256="1" * 64, camera="a", clipart_sha256="2" * 64, crops=("3", "4"), plates=("5",)),
    Part(role="train", data_sha256="6" * 64),
    Part(role="validation", data_sha256="7" * 64, camera="a", clipart_sha256="2" * 64, crops=("8",), unnamed=2),
)


def test_it_is_written_the_same_every_time_and_read_back(tmp_path: Path) -> None:
    learned = Learned(data_sha256="9" * 64, seed=5, parts=PARTS, started=("0" * 64,))
    sha256 = write_learned(tmp_path, learned)
    assert write_learned(tmp_path, learned) == sha256
    assert read_learned(tmp_path / FILE_NAME) == (learned, sha256)
    assert (sorted(learned.crops("train")), sorted(learned.crops("validation"))) == (["3", "4"], ["8"])


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"\xff", b'{"data_sha256": "x", "seed": 1, "parts": [{"role": "spy"}]}']
)
def test_what_is_none_is_told(tmp_path: Path, data: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(data)
    with pytest.raises(WaltError, match="malformed"):
        read_learned(tmp_path / FILE_NAME)
    with pytest.raises(WaltError, match="cannot read"):
        read_learned(tmp_path / "none.json")
