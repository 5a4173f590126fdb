"""A data set is made again, bit by bit, from its manifest and the store: with the real mining and compositing."""

from __future__ import annotations

import subprocess
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from tests.walt_train.loop.scene import crop, fill_store, plate
from tests.walt_train.loop.serve.loop import Loop
from tests.walt_train.loop.serve.test_real_programs import things
from walt_edge.contract.clipart import read_clipart
from walt_edge.contract.errors import WaltError
from walt_train.data.composites import CompositeSamples
from walt_train.engine.sources import parts_of
from walt_train.loop.cli import SCRIPT
from walt_train.loop.gate.judging import Judging
from walt_train.loop.lineage import graph
from walt_train.loop.lineage.again import export_again
from walt_train.loop.serve.attempt import Watch
from walt_train.loop.serve.folder import Folder
from walt_train.loop.serve.jobs import Order, StepName
from walt_train.loop.serve.programs import Programs
from walt_train.loop.serve.steps import Workshop
from walt_train.mining.records import read_record


def test_the_same_crops_and_seed_give_the_same_pixels(loop: Loop, tmp_path: Path) -> None:
    fill_store(loop.store, [plate(), *(crop(thing, frame) for thing in things() for frame in (2, 5))])
    jobs = loop.jobs("worker")
    made = jobs.create(Order(camera="cam-1", recipe="demo", seed=5, training_steps=None, crops=48, tracks=24))
    assert made is not None
    workshop = Workshop(loop.store, loop.home, jobs, Programs.installed(), mock.Mock(), Judging())
    generation = jobs.begin(made, StepName.CLIPART)
    outcome = workshop.do(StepName.CLIPART, generation, Watch())
    generation = jobs.finish(generation, StepName.CLIPART, outcome.result, outcome.line, outcome.record)
    frozen = Folder.of(loop.home, generation).clipart
    # What came later is no part of it.
    fill_store(loop.store, [crop(thing, 9) for thing in things()])

    sha256 = generation.clipart_sha256
    words = ["trace", sha256[:12], "--store", str(tmp_path / "store"), "--export", str(tmp_path / "came")]
    assert SCRIPT.main(words) == 0
    subprocess.run(Programs.installed().mine(tmp_path / "came", tmp_path / "mined"), check=True, capture_output=True)
    [epoch] = read_record(tmp_path / "mined").epochs
    again = tmp_path / "mined" / epoch.folder
    assert (again / "clipart.json").read_bytes() == (frozen / "clipart.json").read_bytes()

    ids: set[str] = set()
    for split in ("train", "validation"):
        first, second = (CompositeSamples(one, split=split, per_epoch=4, seed=5) for one in (frozen, again))
        assert first.sha256 == second.sha256
        assert all(
            np.array_equal(first.sample(1, place).image_bgr, second.sample(1, place).image_bgr) for place in range(2)
        )
        [part] = parts_of(first, split)
        assert (part.camera, part.clipart_sha256, part.unnamed) == ("cam-1", sha256, 0)
        assert part.crops
        assert not ids & set(part.crops)
        ids |= set(part.crops)
    assert ids <= {clip.crop for clip in read_clipart(frozen).clips} <= set(loop.store.ids())
    with loop.store.engine.connect() as connection:
        roles = graph.roles(connection, sha256)
    assert {role: len(found) for role, found in roles.items()}["plate"] == 1
    assert sum(map(len, roles.values())) == 49

    loop.store.delete([min(ids)], "unwanted")
    with pytest.raises(WaltError, match="1 of 49 were deleted since"):
        export_again(loop.store, sha256, tmp_path / "gone")
    with pytest.raises(WaltError, match="names 0 clip arts"):
        export_again(loop.store, "%", tmp_path / "gone")
