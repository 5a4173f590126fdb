"""What a camera sends of one block of time is on one side, whoever made it."""

from __future__ import annotations

import pytest

from tests.fakes.scenes import Scene, Thing, walk
from walt_edge.camera import Frame
from walt_edge.contract.messages import CropHeader
from walt_edge.privacy.anonymiser import Anonymiser
from walt_edge.selecting.sampling import is_holdout
from walt_edge.watching.watcher import Watcher, WatchSettings


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_the_crops_of_a_watcher_are_marked_as_their_block_is(share: float) -> None:
    settings = WatchSettings(warm_up_s=4.0, plate_samples=16, holdout_share=share)
    watcher = Watcher(site="s", device="d", camera="gate", anonymiser=Anonymiser(), settings=settings)
    scene = Scene(wh=(320, 240), things=[Thing(walk((-20, 200), (60, 0), 5.0), height=90)])
    frames: list[Frame] = list(scene.frames(12))
    sealed = [one for frame in frames for one in watcher.step(frame).sealed] + list(watcher.finish())
    headers = [one.envelope.header for one in sealed]
    crops = [header for header in headers if isinstance(header, CropHeader)]
    assert crops
    for header in crops:
        assert header.holdout == is_holdout("gate", header.captured, share) == (share == 1.0)
