import pytest
import torch

from tests.walt_train.model.branches.scenes import INSIDE, LABELS, drawn_targets, rois
from walt_train.model.branches.branch import Layer
from walt_train.model.branches.mask_rcnn import MaskRcnnHead, covered, own_class
from walt_train.recipes.parts import MaskRcnnBranch


def test_own_class_reads_the_labels_channel() -> None:
    maps = torch.arange(2.0).view(1, 2, 1, 1).expand(3, 2, 4, 4)
    assert own_class(maps, LABELS).flatten(1).tolist() == [[0.0] * 16, [1.0] * 16, [1.0] * 16]


def test_covered_is_what_any_class_covers() -> None:
    targets = drawn_targets()
    torch.testing.assert_close(covered(targets, Layer.OCCLUDER), targets[:, Layer.OCCLUDER, 1:].sum(dim=1))


@pytest.mark.parametrize(("target", "layer"), [("visible", Layer.VISIBLE), ("amodal", Layer.AMODAL)])
def test_it_learns_the_layer_it_is_told_to(target: str, layer: Layer) -> None:
    torch.manual_seed(0)
    head = MaskRcnnHead(MaskRcnnBranch(width=8, target=target), INSIDE)  # type: ignore[arg-type]
    features, context = rois()
    targets = drawn_targets()
    optimiser = torch.optim.Adam(head.parameters(), lr=0.02)
    for _ in range(60):
        optimiser.zero_grad()
        loss = head.losses(head(features, context), targets, LABELS)[f"loss_{target}"]
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    found = head.maps(head(features, context), LABELS).layers[:, 0].detach()
    assert float((found - covered(targets, layer)).abs().mean()) < 0.08
