"""What serve hands to the real `walt-train mine`, and what comes back."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.walt_train.loop.scene import crop, fill_store, plate
from tests.walt_train.loop.serve.test_real_programs import things
from walt_edge.contract.clipart import read_clipart
from walt_train.loop.serve.programs import Programs
from walt_train.loop.serve.steps import present_pose
from walt_train.loop.store.store import Store
from walt_train.mining.records import read_record


def test_an_export_is_mined_by_the_words_that_serve_says(tmp_path: Path) -> None:
    with Store(tmp_path / "store") as store:
        fill_store(store, [plate(), *(crop(thing, frame) for thing in things() for frame in (2, 5))])
        came = store.export_clipart(tmp_path / "came", "cam-1", holdout=False)
    words = Programs.installed().mine(tmp_path / "came", tmp_path / "mined")
    subprocess.run(words, check=True, timeout=120, capture_output=True)
    present = present_pose(read_record(tmp_path / "mined").epochs)
    mined = read_clipart(tmp_path / "mined" / present.folder)
    assert mined.camera == came.camera
    assert len(mined.clips) >= 0.8 * len(came.clips)
    assert all(clip.object is not None and clip.confidence is not None for clip in mined.clips)
