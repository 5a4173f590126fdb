"""What every baseline's branch keeps to."""

import pytest
import torch

from tests.walt_train.model.branches.scenes import BASELINES, INSIDE, LABELS, drawn_targets, knowing, rois
from walt_train.model.branches import build_branch
from walt_train.model.branches.branch import MAP_SIDE, Branch, Layer
from walt_train.model.branches.mask_rcnn import covered

LOSSES = {
    "mask_rcnn_visible": {"loss_visible"},
    "mask_rcnn_amodal": {"loss_amodal"},
    "asn": {"loss_amodal", "loss_visible", "loss_occlusion"},
    "bcnet": {"loss_amodal", "loss_occluder", "loss_amodal_contour", "loss_occluder_contour"},
}
KNOWN = {"mask_rcnn_visible": (0,), "mask_rcnn_amodal": (0,), "asn": (0, 1), "bcnet": (0, 1)}
"""Layers that a method tells."""


@pytest.fixture(params=BASELINES)
def method(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def branch(method: str) -> Branch:
    torch.manual_seed(0)
    return build_branch(BASELINES[method], INSIDE)


def plain(method: str) -> str:
    return method.removesuffix("_as_wide_as_its_features")


def test_maps_are_probabilities_and_unknown_layers_are_empty(method: str, branch: Branch) -> None:
    layers, quality = branch.maps(branch(*rois()), LABELS)
    assert quality is None
    assert layers.shape == (3, 3, MAP_SIDE, MAP_SIDE)
    assert bool(((layers >= 0) & (layers <= 1)).all())
    told = [layer for layer in range(3) if bool((layers[:, layer] > 0).any())]
    assert tuple(told) == KNOWN[plain(method)]


def test_what_knows_the_truth_gives_it_back(method: str, branch: Branch) -> None:
    targets = drawn_targets()
    layers = branch.maps(knowing(branch, targets), LABELS).layers.detach()
    amodal, visible = covered(targets, Layer.AMODAL), covered(targets, Layer.VISIBLE)
    seen = visible if method == "mask_rcnn_visible" else amodal
    torch.testing.assert_close(layers[:, 0], seen.double(), atol=1e-6, rtol=0)
    if 1 in KNOWN[plain(method)]:
        visible_again = layers[:, 0] * (1 - layers[:, 1])
        torch.testing.assert_close(visible_again, visible.double(), atol=1e-5, rtol=0)


def test_the_truth_has_the_smallest_losses(method: str, branch: Branch) -> None:
    targets = drawn_targets()
    raw = knowing(branch, targets)
    least = branch.losses(raw, targets.double(), LABELS)
    assert set(least) == LOSSES[plain(method)]
    sum(least.values()).backward()  # type: ignore[union-attr]
    chance = torch.Generator().manual_seed(0)
    for value in raw.values():
        assert value.grad is not None
        assert float(value.grad.abs().max()) < 1e-6
        value.data += torch.randn(value.shape, generator=chance) * 0.5
    worse = branch.losses(raw, targets.double(), LABELS)
    assert all(worse[name] > least[name] + 1e-4 for name in least if name != "loss_occlusion")


def test_the_other_class_is_not_taught(method: str, branch: Branch) -> None:
    raw = branch(*rois())
    before = branch.losses(raw, drawn_targets(), LABELS)
    for value in raw.values():
        if value.dim() == 4:
            value.data[torch.arange(3), 2 - LABELS] += 5  # of two classes the other one
    after = branch.losses(raw, drawn_targets(), LABELS)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_every_weight_learns(branch: Branch) -> None:
    losses = branch.losses(branch(*rois()), drawn_targets(), LABELS)
    sum(losses.values()).backward()  # type: ignore[union-attr]
    still = [name for name, weight in branch.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert not still


@pytest.mark.parametrize("training", [True, False])
def test_no_box_is_no_loss(branch: Branch, training: bool) -> None:
    branch.train(training)
    none = torch.zeros(0, dtype=torch.int64)
    raw = branch(*rois(0))
    assert branch.maps(raw, none).layers.shape == (0, 3, MAP_SIDE, MAP_SIDE)
    losses = branch.losses(raw, drawn_targets(none), none)
    assert all(value.item() == 0 for value in losses.values())
    sum(losses.values()).backward()  # type: ignore[union-attr]
    assert all(weight.grad is not None for weight in branch.parameters())


def test_objects_do_not_influence_each_other(branch: Branch) -> None:
    branch.eval()
    features, context = rois()
    together = branch.maps(branch(features, context), LABELS).layers
    alone = branch.maps(branch(features[1:2], context[1:2]), LABELS[1:2]).layers
    torch.testing.assert_close(alone, together[1:2])
