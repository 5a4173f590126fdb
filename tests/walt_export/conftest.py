"""One export for all tests: tracing takes seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

from walt_export.cli import SCRIPT

from tests.checkpoints import write_small_checkpoint
from walt_edge.contract.bundle import MODEL, Bundle


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a checkpoint and its golden pictures."""
    return write_small_checkpoint(tmp_path_factory.mktemp("export") / "fit")


@pytest.fixture(scope="session")
def bundle(checkpoint: Path) -> Path:
    """What `walt-export` makes of it."""
    out = checkpoint.parent / "small.walt"
    assert SCRIPT.main([str(checkpoint), "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="session")
def model(bundle: Path) -> bytes:
    """The small network as an ONNX file."""
    return Bundle.read(bundle).files[MODEL]
