from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from walt_edge.contract.errors import UsageError
from walt_train.model.branches.branch import CHANNELS, MAP_SIDE, Layer
from walt_train.model.branches.quality import mask_ious
from walt_train.model.branches.walt import HEADS, WaltHeads
from walt_train.recipes import WaltBranch


def sure(class_map: Tensor) -> Tensor:
    """(R, CHANNELS, 28, 28) logits that leave no doubt about an (R, 28, 28) map of channels."""
    return torch.nn.functional.one_hot(class_map, CHANNELS).permute(0, 3, 1, 2).float() * 60 - 30


def even(channel: int) -> Tensor:
    return sure(torch.full((1, MAP_SIDE, MAP_SIDE), channel))


def some_targets(count: int) -> Tensor:
    random = torch.Generator().manual_seed(0)
    return torch.rand(count, len(Layer), CHANNELS, MAP_SIDE, MAP_SIDE, generator=random).softmax(dim=2)


def branch(**settings_: object) -> WaltHeads:
    return WaltHeads(WaltBranch(width=4, **settings_), 6).eval()  # type: ignore[arg-type]


def look(heads: WaltHeads, count: int = 3) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(1)
    return heads(torch.rand(count, 6, 14, 14, generator=random), torch.zeros(count, 6, 7, 7))  # type: ignore[no-any-return]


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_maps_are_probabilities_of_the_object_before_and_behind(activation: str) -> None:
    heads = branch(quality=False, activation=activation)
    for amodal, there in ((2, 1.0), (1, 1.0), (0, 0.0)):
        raw = {"amodal": even(amodal), "occluder": even(3), "occluded": even(0)}
        for label in (1, 2):  # what the box head says; a mask is no second opinion on it
            layers = heads.maps(raw, torch.tensor([label])).layers
            expected = torch.tensor([[there, 1.0, 0.0]])
            torch.testing.assert_close(layers.mean(dim=(2, 3)), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_the_loss_is_least_at_the_soft_target(activation: str) -> None:
    heads = branch(quality=False, activation=activation, occluder_weight=0.25)
    targets = some_targets(2).clamp(1e-3, 1 - 1e-3)
    right = targets.log() if activation == "softmax" else targets.logit()

    def loss_of(logits: Tensor) -> dict[str, Tensor]:
        raw = {name: logits[:, index] for index, name in enumerate(HEADS)}
        return heads.losses(raw, targets, torch.tensor([1, 2]))

    best = loss_of(right)
    assert set(best) == {"loss_amodal", "loss_occluder", "loss_occluded"}
    for other in (right * 1.3, right * 0.7, right.flip(3)):
        assert all(loss_of(other)[name] > value for name, value in best.items())
    if activation == "softmax":
        entropy = -(targets * targets.log()).sum(dim=2).mean(dim=(0, 2, 3))
        torch.testing.assert_close(best["loss_occluder"], 0.25 * entropy[Layer.OCCLUDER], rtol=1e-2, atol=0)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(0, 4), activation=st.sampled_from(["softmax", "sigmoid"]))
def test_perfect_logits_cost_nothing(seed: int, count: int, activation: str) -> None:
    random = torch.Generator().manual_seed(seed)
    maps = torch.randint(0, CHANNELS, (count, len(Layer), MAP_SIDE, MAP_SIDE), generator=random)
    labels = torch.randint(1, 3, (count,), generator=random)
    targets = torch.nn.functional.one_hot(maps, CHANNELS).permute(0, 1, 4, 2, 3).float()
    raw = {name: sure(maps[:, index]) for index, name in enumerate(HEADS)}
    raw["quality"] = torch.full((count, CHANNELS), 20.0)
    losses = branch(activation=activation).losses(raw, targets, labels)
    assert max(value.item() for value in losses.values()) < 1e-6
    raw["quality"] = -raw["quality"]
    assert branch(activation=activation).losses(raw, targets, labels)["loss_quality"].item() == pytest.approx(
        1.0 if count else 0.0
    )


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), share=st.floats(0, 1))
def test_the_quality_that_is_taught_is_the_iou(seed: int, share: float) -> None:
    random = torch.Generator().manual_seed(seed)
    one, other = (torch.rand(3, MAP_SIDE, MAP_SIDE, generator=random) < share for _ in range(2))
    found = mask_ious(one.float(), other.float())
    for index in range(3):
        union = int((one[index] | other[index]).sum())
        expected = int((one[index] & other[index]).sum()) / union if union else 1.0
        assert found[index].item() == pytest.approx(expected)


def test_no_roi_is_no_loss_that_reaches_every_weight() -> None:
    heads = branch(coupled=True, shared_convs=1)
    losses = heads.losses(look(heads, 0), some_targets(0), torch.zeros(0, dtype=torch.int64))
    assert {value.item() for value in losses.values()} == {0}
    torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
    assert all(weight.grad is not None for weight in heads.parameters())


@pytest.mark.parametrize(("occluder", "occluded", "quality"), list(product([True, False], repeat=3)))
def test_what_is_left_out_is_not_in_the_network(occluder: bool, occluded: bool, quality: bool) -> None:
    heads = branch(occluder=occluder, occluded=occluded, quality=quality)
    names = " ".join(heads.state_dict())
    assert ("heads.occluder." in names, "heads.occluded." in names) == (occluder, occluded)
    assert ("quality." in names) == quality
    raw = look(heads)
    layers, expected = heads.maps(raw, torch.tensor([1, 2, 1]))
    assert layers.shape == (3, 3, MAP_SIDE, MAP_SIDE)
    assert bool(layers[:, Layer.OCCLUDER].any()) == occluder
    assert bool(layers[:, Layer.OCCLUDED].any()) == occluded
    assert (expected is not None) == quality
    losses = heads.losses(raw, some_targets(3), torch.tensor([1, 2, 1]))
    assert ("loss_occluder" in losses, "loss_occluded" in losses, "loss_quality" in losses) == (
        occluder,
        occluded,
        quality,
    )


@pytest.mark.parametrize("coupled", [False, True])
def test_coupled_the_amodal_head_hears_the_occluder_head(coupled: bool) -> None:
    heads = branch(coupled=coupled)
    before = look(heads)
    with torch.no_grad():
        for weight in heads.heads["occluder"].parameters():
            weight.mul_(-3)
    after = look(heads)
    assert torch.equal(before["occluded"], after["occluded"])
    assert torch.equal(before["amodal"], after["amodal"]) != coupled


def test_coupled_to_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="without occluder head"):
        branch(coupled=True, occluder=False)


@pytest.mark.parametrize("coupled", [False, True])
def test_softmax_and_sigmoid_have_the_same_shapes(coupled: bool) -> None:
    one, other = (branch(activation=name, coupled=coupled) for name in ("softmax", "sigmoid"))
    assert {name: value.shape for name, value in look(one).items()} == {
        name: value.shape for name, value in look(other).items()
    }
    assert one.state_dict().keys() == other.state_dict().keys()


def test_heads_may_share_their_first_convolutions() -> None:
    assert "trunk.0.0.weight" in branch(shared_convs=1).state_dict()
    assert not any(name.startswith("trunk") for name in branch().state_dict())
