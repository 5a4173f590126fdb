from collections.abc import Callable

import msgspec
import pytest
import torch

from walt_edge.contract.errors import UsageError
from walt_train.model.cost import count_parameters, measure_gflops, measure_parts
from walt_train.model.waltnet import WaltNet
from walt_train.recipes import (
    RECIPES,
    MmBackbone,
    Network,
    Recipe,
    SmallBackbone,
    Training,
    WaltBranch,
    demo,
    find_recipe,
    walt_edge_general,
    walt_edge_small,
    walt_paper,
)

MOST_GFLOPS = 8.0
MOST_PARAMETERS = 5_800_000


def built(network: Network) -> WaltNet:
    side = 12.0
    anchors = tuple((side * index, side * index) for index in range(1, network.anchors + 1))
    return WaltNet(msgspec.structs.replace(network, anchors_wh=anchors))


@pytest.mark.parametrize("recipe", [walt_edge_small, walt_edge_general])
def test_the_edge_network_keeps_its_budget(recipe: Callable[[], Recipe]) -> None:
    network = recipe().network
    assert network.input_wh == (640, 384)
    assert network.candidates >= 30
    net = built(msgspec.structs.replace(network, candidates=30))
    parts = measure_parts(net)
    assert set(parts) == {"features", "proposals", "boxes", "masks"}
    assert measure_gflops(net) == pytest.approx(sum(parts.values()))
    assert 0.85 * MOST_GFLOPS < sum(parts.values()) <= MOST_GFLOPS
    assert count_parameters(net) <= MOST_PARAMETERS


def test_the_general_network_sees_the_picture_alone() -> None:
    """What it answers depends on no camera's empty scene and, but for the border, on no place in the picture."""
    net = built(walt_edge_general().network)
    assert net.input.channels == 3
    pictures = torch.randint(0, 256, (1, 384, 640, 3), dtype=torch.uint8)
    shown = net.input(pictures)
    assert torch.equal(net.input(pictures, torch.zeros_like(pictures), torch.tensor([[0.2, 0.2, 0.5, 0.5]])), shown)
    moved = net.input(pictures.roll((32, 64), dims=(1, 2)))
    assert torch.equal(moved, shown.roll((32, 64), dims=(2, 3)))


def test_flops_are_counted_as_products_and_sums() -> None:
    """One 3x3 convolution more of 16 channels at stride 4, by hand."""
    small = SmallBackbone(stem=8, stages=(16, 8, 8, 8), blocks=(1, 1, 1, 1))
    network = msgspec.structs.replace(demo().network, backbone=small)
    deeper = msgspec.structs.replace(network, backbone=msgspec.structs.replace(small, blocks=(2, 1, 1, 1)))
    more = measure_gflops(built(deeper)) - measure_gflops(built(network))
    assert more == pytest.approx(2 * (2 * 9 * 16 * 16 * 80 * 48) / 1e9)


@pytest.mark.parametrize("backbone", ["resnet50", "swin_t"])
def test_the_papers_recipe_is_the_papers(backbone: str) -> None:
    recipe = walt_paper(backbone)  # type: ignore[arg-type]
    training = recipe.training
    assert (training.batch, training.epochs, training.learning_rate) == (11, 12, 0.001)
    assert recipe.network.backbone == MmBackbone(kind=backbone)  # type: ignore[arg-type]
    assert recipe.network.branch == WaltBranch(width=256)
    assert training.in_steps(10_000, 4).steps == -(-12 * 10_000 // 44)


@pytest.mark.slow
def test_the_papers_network_can_be_built() -> None:
    with torch.no_grad():
        net = built(walt_paper("resnet50").network)
    assert 25e6 < count_parameters(net) < 60e6


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_text_and_back(name: str) -> None:
    recipe = find_recipe(name)
    assert recipe.name == name
    assert msgspec.json.decode(msgspec.json.encode(recipe), type=Recipe) == recipe


def test_an_unknown_recipe_is_told_with_those_there_are() -> None:
    with pytest.raises(
        UsageError,
        match="no recipe 'huge': there are demo, walt_edge_camera, walt_edge_small, walt_edge_general",
    ):
        find_recipe("huge")


@pytest.mark.parametrize(("steps", "epochs"), [(0, 0), (5, 5)])
def test_a_training_is_as_long_as_its_steps_or_its_epochs(steps: int, epochs: int) -> None:
    with pytest.raises(ValueError, match="expected one of them"):
        Training(steps=steps, epochs=epochs, batch=2, learning_rate=0.1)
    by_steps = Training(steps=7, batch=2, learning_rate=0.1)
    assert by_steps.in_steps(100, 3) == by_steps
    by_epochs = Training(epochs=3, batch=2, learning_rate=0.1)
    assert (by_epochs.in_steps(11, 2).steps, by_epochs.in_steps(11, 2).epochs) == (9, 0)


def test_steps_take_the_place_of_epochs() -> None:
    short = walt_edge_small().with_steps(3).training
    assert (short.steps, short.epochs, short.batch) == (3, 0, walt_edge_small().training.batch)
