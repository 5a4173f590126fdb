import msgspec
import numpy as np
import pytest
import torch
from torch import Tensor

from walt_train.model.anchors import fit_anchors
from walt_train.model.branches.branch import MAP_SIDE
from walt_train.model.branches.walt import WaltHeads
from walt_train.model.cost import count_parameters, measure_gflops
from walt_train.model.waltnet import WaltNet
from walt_train.recipes import RECIPES, Network, WaltBranch, find_recipe

ANCHORS = ((6.0, 21.0), (11.5, 21.0), (9.0, 35.0), (17.0, 45.0), (56.0, 29.0), (98.0, 50.0))


@pytest.fixture
def network() -> Network:
    return msgspec.structs.replace(find_recipe("demo").network, anchors_wh=ANCHORS)


@pytest.fixture
def net(network: Network) -> WaltNet:
    torch.manual_seed(0)
    net = WaltNet(msgspec.structs.replace(network, score_floor=0.0))
    # Untrained statistics: a pass in training mode gives the features some spread.
    net.train()
    net.features(some_picture().expand(4, -1, -1, -1))
    return net.eval()


def some_picture(seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (1, 192, 320, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def test_the_demo_costs_less_than_a_gflop(network: Network) -> None:
    assert RECIPES["demo"]().training.steps >= 300
    assert network.input_wh == (320, 192)
    assert network.candidates == 30
    net = WaltNet(network).train()
    assert 0.3 < measure_gflops(net) < 1.0
    assert net.training
    assert 100_000 < count_parameters(net) < 1_000_000


def test_predict_keeps_its_contract(net: WaltNet) -> None:
    boxes, scores, labels, maps = net.predict(some_picture())

    count = len(scores)
    assert 0 < count <= net.network.candidates
    assert boxes.shape == (count, 4)
    assert boxes.dtype == scores.dtype == maps.dtype == torch.float32
    assert labels.dtype == torch.int64
    assert set(labels.tolist()) <= {1, 2}
    assert maps.shape == (count, 3, MAP_SIDE, MAP_SIDE)
    assert bool(((maps >= 0) & (maps <= 1)).all())
    assert bool((scores.diff() <= 0).all())
    assert bool((boxes >= 0).all())
    assert bool((boxes <= torch.tensor([320, 192, 320, 192])).all())


def test_predict_is_repeatable_and_sees_the_picture(net: WaltNet) -> None:
    first, again = net.predict(some_picture()), net.predict(some_picture())
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    assert not torch.equal(first[0], net.predict(some_picture(1))[0])


def test_a_picture_without_candidates_gives_empty_results(net: WaltNet) -> None:
    net.network = msgspec.structs.replace(net.network, score_floor=2.0)
    shapes = [tuple(value.shape) for value in net.predict(some_picture())]
    assert shapes == [(0, 4), (0,), (0,), (0, 3, MAP_SIDE, MAP_SIDE)]


def test_suppression_is_loose_and_by_class(net: WaltNet) -> None:
    feature = net.features(some_picture())
    # Two boxes of IoU 0.67 stay both; of two of IoU 0.9 one goes. Both classes score alike in an untrained head.
    proposals = torch.tensor([[50.0, 50, 60, 80], [52, 50, 62, 80], [100, 50, 120, 90], [101, 50, 121, 90]])
    torch.nn.init.zeros_(net.box_head.deltas.weight)
    boxes, _, labels = net.classify(feature, proposals)
    for label in (1, 2):
        assert len(boxes[labels == label]) == 3


def test_the_empty_scene_is_an_input(network: Network) -> None:
    net = WaltNet(network).eval()
    picture = some_picture()
    net.input.plate.copy_(picture[0].permute(2, 0, 1))
    channels = net.input(picture)
    assert channels.shape == (1, 8, 192, 320)
    assert float(channels[:, 3:6].abs().max()) == 0
    plain = WaltNet(msgspec.structs.replace(network, background=False))
    assert plain.input(picture).shape == (1, 5, 192, 320)


def test_the_network_is_told_where_a_window_lies(network: Network) -> None:
    net = WaltNet(network).eval()
    pictures = torch.cat([some_picture(), some_picture(1), some_picture(2)])
    windows = torch.tensor([[0.0, 0, 1, 1], [0.25, 0.5, 0.75, 1.0], [1.0, 0, 0, 1]])
    whole, cut, mirrored = net.input(pictures, pictures, windows)[:, -2:]
    torch.testing.assert_close(whole, net.input(pictures[:1])[0, -2:])
    torch.testing.assert_close(cut[:, 0, 0], torch.tensor([-0.5, 0.0]))
    torch.testing.assert_close(cut[:, -1, -1], torch.tensor([0.5, 1.0]))
    torch.testing.assert_close(mirrored, torch.stack([-whole[0], whole[1]]))


def test_the_score_is_that_of_the_class_times_that_of_the_mask(network: Network) -> None:
    torch.manual_seed(0)
    branch = WaltBranch(width=8, quality=True)
    net = WaltNet(msgspec.structs.replace(network, branch=branch, visible_box=True, score_floor=0.0)).eval()
    with torch.no_grad():
        feature = net.features(some_picture())
        _, plain, labels = net.classify(feature, net.propose(feature))
        assert isinstance(net.branch, WaltHeads)
        assert net.branch.quality is not None
        net.branch.quality.classes.weight.normal_(0, 20)
        boxes, _, _ = net.classify(feature, net.propose(feature))
        (_, quality), visible = net.masks(feature, boxes, labels)
    assert quality is not None
    assert visible is not None
    found, scores, _, maps, seen = net.predict(some_picture())
    expected, order = (plain * quality).sort(descending=True)
    torch.testing.assert_close(scores, expected)
    torch.testing.assert_close(found, boxes[order])
    torch.testing.assert_close(seen, visible[order])
    assert bool((scores.diff() <= 0).all())
    assert len(maps) == len(seen) == len(scores) > 3


def test_proposals_may_be_looked_for_at_wider_steps(network: Network) -> None:
    one, two = (WaltNet(msgspec.structs.replace(network, proposal_stride=stride)).eval() for stride in (4, 8))
    assert len(one.anchors) == 4 * len(two.anchors)
    with torch.no_grad():
        objectness, _ = two.proposal_head(two.features(some_picture()))
    assert objectness.shape == (1, len(ANCHORS), 24, 40)
    # The first two cells of a row lie a step apart, half a step from the border.
    centres = (two.anchors[:, :2] + two.anchors[:, 2:]).reshape(24, 40, len(ANCHORS), 2) / 2
    assert centres[0, :2, 0].tolist() == [[4, 4], [12, 4]]


def test_anchors_find_the_groups_again() -> None:
    random = np.random.default_rng(0)
    groups = [(8.0, 24.0), (60.0, 25.0), (110.0, 55.0)]
    sizes = np.concatenate([np.array(group) * np.exp(random.normal(0, 0.05, (50, 2))) for group in groups])
    found = fit_anchors(sizes, 3)
    np.testing.assert_allclose(found, groups, rtol=0.05)
    assert fit_anchors(sizes, 3) == found
    assert fit_anchors(np.array([[5.0, 9.0]]), 6) == ((5.0, 9.0),)
