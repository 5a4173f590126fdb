"""Other methods in a recipe's place: a fair comparison, by name, that trains."""

from pathlib import Path

import msgspec
import pytest
import torch

from tests.clipart import some_things, write_scene
from tests.walt_train.engine.shapes import tiny_recipe
from walt_edge.contract.errors import UsageError
from walt_train.cli import SCRIPT
from walt_train.engine.checkpoint import load_model
from walt_train.recipes import METHODS, RECIPES, Recipe, find_recipe
from walt_train.recipes.baselines import branch_flops

BRANCH_LOSSES = {
    "mask_rcnn_visible": ["loss_visible"],
    "mask_rcnn_amodal": ["loss_amodal"],
    "asn": ["loss_amodal", "loss_occlusion", "loss_visible"],
    "bcnet": ["loss_amodal", "loss_amodal_contour", "loss_occluder", "loss_occluder_contour"],
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("base", RECIPES)
def test_a_method_costs_what_walt_net_costs_and_nothing_else_differs(base: str, method: str) -> None:
    walt, other = find_recipe(base), find_recipe(f"{base}:{method}")
    channels = walt.network.feature_channels
    cost = branch_flops(other.network.branch, channels) / branch_flops(walt.network.branch, channels)
    assert cost == pytest.approx(1, abs=0.08)
    boxes = "visible" if method == "mask_rcnn_visible" else "amodal"
    assert other.network.box_target == boxes
    same = msgspec.structs.replace(other.network, branch=walt.network.branch, box_target=walt.network.box_target)
    assert msgspec.structs.replace(other, name=walt.name, network=same) == walt


def test_a_checkpoint_can_say_which_method_it_is() -> None:
    recipes = [find_recipe("demo"), *(find_recipe(f"demo:{method}") for method in METHODS)]
    assert [msgspec.json.decode(msgspec.json.encode(recipe), type=Recipe) for recipe in recipes] == recipes
    assert len({recipe.name for recipe in recipes}) == len(recipes)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("huge:asn", "no recipe 'huge': there are demo"),
        ("demo:asm", "no method 'asm': after demo: comes mask_rcnn_visible, mask_rcnn_amodal, asn, bcnet"),
        ("demo:", "no method ''"),
    ],
)
def test_an_unknown_name_is_told_what_there_is(name: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        find_recipe(name)


@pytest.fixture(scope="module")
def clipart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    things = [*some_things(6, 6)]
    return write_scene(tmp_path_factory.mktemp("scene"), things)


@pytest.mark.parametrize("method", METHODS)
def test_a_method_trains_by_its_name(
    method: str, clipart: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("walt_train.recipes.RECIPES", {"tiny": tiny_recipe})
    arguments = ["--data", str(clipart), "--gpus", "0", "--steps", "3", "--out", str(tmp_path)]
    assert SCRIPT.main([*arguments, "--recipe", f"tiny:{method}"]) == 0

    net, manifest = load_model(tmp_path / "checkpoint.pt")
    assert manifest.recipe.name == f"tiny-{method}"
    assert not torch.equal(next(net.branch.parameters()), torch.zeros(()))
    rows = msgspec.json.decode((tmp_path / "curves.json").read_bytes())
    assert [row["step"] for row in rows] == [1, 2, 3]
    others = {"loss", "loss_bbox", "loss_cls", "loss_rpn_bbox", "loss_rpn_cls"}
    assert sorted(name for name in rows[0] if name.startswith("loss") and name not in others) == BRANCH_LOSSES[method]
