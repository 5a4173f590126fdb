import pytest
import torch

from tests.walt_train.model.branches.scenes import INSIDE, LABELS, drawn_targets, rois
from walt_train.model.branches.asn import OCCLUDED_FROM, AsnHeads, MultiLevelCoding, hidden_share
from walt_train.model.branches.branch import Layer
from walt_train.model.branches.mask_rcnn import covered
from walt_train.recipes.parts import AsnBranch


@pytest.fixture
def heads() -> AsnHeads:
    torch.manual_seed(0)
    return AsnHeads(AsnBranch(width=5), INSIDE).eval()


def test_both_masks_depend_on_what_the_box_head_sees(heads: AsnHeads) -> None:
    features, context = rois()
    before, after = heads(features, context), heads(features, context + torch.randn_like(context))
    for name in ("amodal", "visible", "occlusion"):
        assert (
            float((after[name] - before[name]).detach().abs().amax(dim=tuple(range(1, before[name].dim()))).min()) > 0
        )


@pytest.mark.parametrize("name", ["amodal", "visible"])
def test_the_masks_teach_the_box_features_and_the_occlusion_branch(heads: AsnHeads, name: str) -> None:
    features, context = rois()
    context.requires_grad_()
    heads(features, context)[name].square().sum().backward()
    assert context.grad is not None
    assert bool((context.grad.abs().sum(dim=(1, 2, 3)) > 0).all())
    first = heads.occlusion.first[0][0][0]  # type: ignore[index]
    assert bool(first.weight.grad.any())  # the coding takes its first map ...
    assert heads.occlusion.occluded.weight.grad is None  # ... and nothing of its answer


def test_occlusion_is_told_from_the_context_alone(heads: AsnHeads) -> None:
    features, context = rois()
    one, other = heads(features, context)["occlusion"], heads(features * 2 + 1, context)["occlusion"]
    assert torch.equal(one, other)


def test_the_coding_puts_a_cell_where_it_belongs() -> None:
    torch.manual_seed(0)
    coding = MultiLevelCoding(INSIDE, 4, 5).eval()
    features, levels = torch.randn(1, INSIDE, 14, 14), torch.randn(1, 4, 7, 7)
    before = coding(features, levels)
    levels[0, :, 1, 5] += 3
    changed = (coding(features, levels) - before).abs().sum(dim=(0, 1)) > 1e-6
    rows, columns = changed.nonzero(as_tuple=True)
    # Cell (1, 5) of 7x7 is cells 2..3 and 10..11 of 14x14; one convolution before it and three after reach further.
    assert rows.max() <= 3 + 2 + 3
    assert columns.min() >= 10 - 2 - 3
    assert bool(changed[2:4, 10:12].any())


def test_hidden_share_and_the_label_that_follows() -> None:
    targets = drawn_targets()
    shares = hidden_share(covered(targets, Layer.AMODAL), covered(targets, Layer.VISIBLE))
    width = 25.75 - 3.5
    expected = [0, (4.5 - 3.5) / width * (22.5 - 4.25) / (22.5 - 4.25), (8.5 - 3.5) / width]
    torch.testing.assert_close(shares, torch.tensor(expected), atol=1e-5, rtol=0)
    assert (shares > OCCLUDED_FROM).tolist() == [False, False, True]


def test_a_wrong_word_on_occlusion_costs(heads: AsnHeads) -> None:
    raw = heads(*rois())
    right = torch.tensor([-20.0, -20.0, 20.0])
    costs = [
        heads.losses(raw | {"occlusion": right * sign}, drawn_targets(), LABELS)["loss_occlusion"].item()
        for sign in (1, -1)
    ]
    assert costs[0] < 1e-6
    assert costs[1] == pytest.approx(20)


def test_what_is_seen_whole_has_no_occluder(heads: AsnHeads) -> None:
    raw = {name: value.detach() for name, value in heads(*rois()).items()}
    whole = heads.maps(raw | {"visible": raw["amodal"]}, LABELS).layers
    assert float(whole[:, 1].max()) < 1e-6
    unseen = heads.maps(raw | {"visible": torch.full_like(raw["amodal"], -30)}, LABELS).layers
    assert float(unseen[:, 1].min()) > 1 - 1e-6
