import torch

from walt_train.model.branches.branch import CHANNELS, MAP_SIDE, Layer
from walt_train.model.branches.walt import HEADS, WaltHeads
from walt_train.recipes import WaltBranch


def sure(channel: int) -> torch.Tensor:
    logits = torch.full((1, CHANNELS, MAP_SIDE, MAP_SIDE), -20.0)
    logits[:, channel] = 20
    return logits


def some_targets(count: int) -> torch.Tensor:
    random = torch.Generator().manual_seed(0)
    return torch.rand(count, len(Layer), CHANNELS, MAP_SIDE, MAP_SIDE, generator=random).softmax(dim=2)


def test_maps_are_probabilities_of_the_class_before_and_behind() -> None:
    heads = WaltHeads(WaltBranch(width=4), 4)
    raw = {"amodal": sure(2), "occluder": sure(3), "occluded": sure(0)}
    for label, expected in ((2, [1.0, 1.0, 0.0]), (1, [0.0, 1.0, 0.0])):
        layers = heads.maps(raw, torch.tensor([label])).layers
        torch.testing.assert_close(layers.mean(dim=(2, 3)), torch.tensor([expected]), atol=1e-5, rtol=0)


def test_the_loss_is_least_at_the_soft_target() -> None:
    heads = WaltHeads(WaltBranch(width=4, occluder_weight=1.0, occluded_weight=0.5), 4)
    targets = some_targets(2)
    labels = torch.tensor([1, 2])
    perfect = heads.losses({name: targets[:, index].log() for index, name in enumerate(HEADS)}, targets, labels)
    worse = heads.losses({name: targets[:, index].log() * 1.3 for index, name in enumerate(HEADS)}, targets, labels)
    entropy = -(targets * targets.log()).sum(dim=2).mean(dim=(0, 2, 3))
    for index, (name, weight) in enumerate(zip(HEADS, (1.0, 1.0, 0.5), strict=True)):
        torch.testing.assert_close(perfect[f"loss_{name}"], weight * entropy[index])
        assert worse[f"loss_{name}"] > perfect[f"loss_{name}"]


def test_no_roi_is_no_loss_that_reaches_every_weight() -> None:
    heads = WaltHeads(WaltBranch(width=4), 4)
    raw = heads(torch.zeros(0, 4, 14, 14), torch.zeros(0, 4, 7, 7))
    losses = heads.losses(raw, some_targets(0), torch.zeros(0, dtype=torch.int64))
    assert [value.item() for value in losses.values()] == [0, 0, 0]
    torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
    assert all(weight.grad is not None for weight in heads.parameters())
