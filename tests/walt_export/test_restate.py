from __future__ import annotations

import msgspec
import pytest
import torch
from torch import nn
from walt_export.restate import restated

from tests.checkpoints import noise, small_net, small_recipe
from walt_train.model.waltnet import WaltNet
from walt_train.recipes.parts import AnyBranch, AsnBranch, BcnetBranch, MaskRcnnBranch, WaltBranch

BRANCHES: list[AnyBranch] = [WaltBranch(width=6), MaskRcnnBranch(width=6), AsnBranch(width=6), BcnetBranch(width=6)]


@pytest.mark.parametrize("branch", BRANCHES, ids=lambda branch: type(branch).__name__)
@torch.no_grad()
def test_every_branch_computes_the_same_without_deconvolutions_of_maps(branch: AnyBranch) -> None:
    torch.manual_seed(0)
    net = WaltNet(msgspec.structs.replace(small_recipe().network, branch=branch)).eval()
    for part in net.branch.modules():
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d) and part.bias is not None:
            part.bias.normal_()
    other = restated(net)
    features, context = torch.randn(5, 8, 14, 14), torch.randn(5, 8, 7, 7)
    labels = torch.tensor([1, 2, 1, 2, 1])
    one, two = (some.branch.maps(some.branch(features, context), labels) for some in (net, other))
    assert one.layers.std() > 0.01
    torch.testing.assert_close(two.layers, one.layers, atol=1e-5, rtol=0)
    heads = [part for part in other.branch.modules() if isinstance(part, nn.ConvTranspose2d)]
    assert len(heads) == (2 if isinstance(branch, AsnBranch) else 0), "a coding's own, inside of features, stays"


@torch.no_grad()
def test_the_network_that_is_given_stays_as_it_is() -> None:
    net = small_net()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    answer = net.predict(torch.from_numpy(noise(1)[None]))
    other = restated(net)
    assert net.state_dict().keys() == before.keys() != other.state_dict().keys()
    for one, two in zip(answer, other.predict(torch.from_numpy(noise(1)[None])), strict=True):
        torch.testing.assert_close(two, one, atol=1e-4, rtol=0)
