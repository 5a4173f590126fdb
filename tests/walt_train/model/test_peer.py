"""mmdet's Mask R-CNN really does the work that it is timed at."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from walt_train.model.mm_adapter.peer import MaskRcnnPeer, PeerCounts


def test_it_looks_at_a_thousand_proposals_and_as_many_objects_as_asked() -> None:
    threads = torch.get_num_threads()
    peer = MaskRcnnPeer(3)
    assert torch.get_num_threads() == threads
    picture = np.random.default_rng(0).integers(0, 256, (384, 640, 3), dtype=np.uint8)
    assert peer.count(picture) == PeerCounts(proposals=1000, mask_rois=3, instances=3)


@pytest.mark.slow
def test_its_instances_have_masks_of_the_pictures_size() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (384, 640, 3), dtype=np.uint8)
    found = MaskRcnnPeer(10)(picture)
    assert found.masks.shape == (10, 384, 640)
    assert float(found.scores.min()) > 0.5
