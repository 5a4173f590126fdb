import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some
from scipy import ndimage
from torch import Tensor

from tests.walt_train.model.branches.scenes import INSIDE, rois, span
from walt_train.model.branches.bcnet import BcnetHeads, GraphConvolution, contours
from walt_train.recipes.parts import BcnetBranch

CHANNELS = 5


@pytest.fixture
def graph() -> GraphConvolution:
    torch.manual_seed(0)
    graph = GraphConvolution(CHANNELS)
    for statistic in (graph.norm.running_mean, graph.norm.running_var):
        assert statistic is not None
        statistic.uniform_(0.5, 2)
    return graph.eval()


@pytest.fixture
def cells() -> Tensor:
    return torch.randn(2, CHANNELS, 14, 14, generator=torch.Generator().manual_seed(1))


def test_edges_of_a_cell_add_up_to_one(graph: GraphConvolution, cells: Tensor) -> None:
    affinity = graph.affinity(cells)
    assert affinity.shape == (2, 196, 196)
    assert bool((affinity > 0).all())
    torch.testing.assert_close(affinity.sum(dim=2), torch.ones(2, 196))


def test_it_is_the_formula(graph: GraphConvolution, cells: Tensor) -> None:
    nodes = cells[0].flatten(1).T  # (cells, channels)
    theta, phi, value, out = (layer.weight[:, :, 0, 0] for layer in (graph.theta, graph.phi, graph.value, graph.out))
    likeness = (nodes @ theta.T) @ (nodes @ phi.T).T / math.sqrt(CHANNELS)
    gathered = torch.softmax(likeness, dim=1) @ (nodes @ value.T) @ out.T
    expected = nodes + graph.norm(gathered.T[None, :, :, None])[0, :, :, 0].T
    torch.testing.assert_close(graph(cells)[0].flatten(1).T, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_cells_may_be_numbered_in_any_order(graph: GraphConvolution, cells: Tensor, training: bool) -> None:
    graph.train(training)
    order = torch.randperm(196, generator=torch.Generator().manual_seed(2))

    def shuffled(maps: Tensor) -> Tensor:
        return maps.flatten(2)[:, :, order].view(maps.shape)

    torch.testing.assert_close(graph(shuffled(cells)), shuffled(graph(cells)), atol=1e-5, rtol=1e-5)


def test_every_cell_reaches_every_other(graph: GraphConvolution, cells: Tensor) -> None:
    cells.requires_grad_()
    graph(cells)[0, :, 13, 13].square().sum().backward()
    assert cells.grad is not None
    assert bool((cells.grad[0].abs().sum(dim=0) > 0).all())
    assert not cells.grad[1].any()


@pytest.mark.parametrize("width", [4, INSIDE])
def test_what_the_occluders_layer_finds_is_told_to_the_occludees(width: int) -> None:
    torch.manual_seed(0)
    heads = BcnetHeads(BcnetBranch(width=width), INSIDE).eval()
    raw = heads(*rois())
    raw["amodal"].square().sum().backward()
    weights = list(heads.occluder.parameters())
    assert all(weight.grad is not None and bool(weight.grad.any()) for weight in weights)
    with torch.no_grad():
        weights[-1].add_(1)
    after = heads(*rois())
    assert all(not torch.equal(after[name], raw[name]) for name in raw)


def test_the_occluder_does_not_wait_for_the_occludee() -> None:
    torch.manual_seed(0)
    heads = BcnetHeads(BcnetBranch(width=4), INSIDE).eval()
    raw = heads(*rois())
    (raw["occluder"].square().sum() + raw["occluder_contour"].square().sum()).backward()
    assert all(weight.grad is None for weight in heads.occludee.parameters())


@pytest.mark.parametrize("edge", [5.0, 9.5, 12.2, 20.9])
def test_a_straight_contour_is_the_band_beside_the_edge(edge: float) -> None:
    mask = torch.ones(28, 1) * span(0, edge)
    band = torch.ones(28, 1) * span(edge - 1, edge + 1)
    torch.testing.assert_close(contours(mask[None])[0], band, atol=1e-5, rtol=0)
    torch.testing.assert_close(contours(mask.T[None])[0], band.T, atol=1e-5, rtol=0)
    torch.testing.assert_close(contours(1 - mask[None])[0], band, atol=1e-5, rtol=0)


def test_the_contour_of_a_block_goes_around_it() -> None:
    block = span(6, 20)[:, None] * span(8, 18)
    grown = span(5, 21)[:, None] * span(7, 19)
    grown[[5, 5, 20, 20], [7, 18, 7, 18]] = 0  # a cross does not reach round a corner
    shrunk = span(7, 19)[:, None] * span(9, 17)
    torch.testing.assert_close(contours(block[None])[0], grown - shrunk)


@pytest.mark.parametrize("level", [0.0, 0.3, 1.0])
def test_where_nothing_changes_there_is_no_contour_not_even_at_the_border(level: float) -> None:
    assert not contours(torch.full((2, 28, 28), level)).any()


def test_the_contour_of_a_disc_is_as_long_as_its_edge() -> None:
    fine, radius = 20, 9.0
    rows, columns = torch.meshgrid(*[(torch.arange(28 * fine) + 0.5) / fine] * 2, indexing="ij")
    disc = ((rows - 14.3).square() + (columns - 13.8).square() <= radius**2).float()
    shares = disc.view(28, fine, 28, fine).mean(dim=(1, 3))
    # A cross grows an edge of direction a by max(|cos a|, |sin a|): on average over a circle by 2 sqrt(2) / pi.
    expected = 2 * math.pi * radius * 2 * (2 * math.sqrt(2) / math.pi)
    assert float(contours(shares[None]).sum()) == pytest.approx(expected, rel=0.01)


@given(some.integers(0, 2**32 - 1), some.floats(0.05, 0.95))
def test_hard_masks_have_the_original_contour(seed: int, density: float) -> None:
    mask = np.random.default_rng(seed).random((28, 28)) < density
    expected = ndimage.binary_dilation(mask) != ndimage.binary_erosion(mask, border_value=1)
    found = contours(torch.from_numpy(mask).float()[None])[0].numpy()
    np.testing.assert_array_equal(found, expected)
