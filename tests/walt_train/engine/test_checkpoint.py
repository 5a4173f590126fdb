from pathlib import Path

import msgspec
import pytest
import torch

from tests.walt_train.engine.shapes import tiny_recipe
from walt_train.engine.checkpoint import (
    MANIFEST,
    CheckpointError,
    CheckpointManifest,
    load_model,
    write_checkpoint,
)
from walt_train.engine.plan import CHECKPOINT, FitError, Plan, State, settle
from walt_train.engine.segments import Segment
from walt_train.model.waltnet import WaltNet
from walt_train.recipes import Recipe


@pytest.fixture
def recipe() -> Recipe:
    recipe = tiny_recipe()
    network = msgspec.structs.replace(recipe.network, anchors_wh=((6.0, 20.0), (50.0, 30.0)))
    return msgspec.structs.replace(recipe, network=network)


@pytest.fixture
def manifest(recipe: Recipe) -> CheckpointManifest:
    return CheckpointManifest(
        recipe=recipe,
        seed=1,
        data_sha256="0" * 64,
        data="street",
        classes=["person", "vehicle"],
        size_wh=(96, 64),
        parameters=1,
        gflops=0.1,
        score_threshold=0.4,
        validation={"mask_iou_0.5": None},
        processes=(Segment(0, 1),),
        walt_version="0",
        torch_version="0",
    )


@pytest.fixture
def written(tmp_path: Path, recipe: Recipe, manifest: CheckpointManifest) -> Path:
    return write_checkpoint(tmp_path, WaltNet(recipe.network).state_dict(), manifest)


def test_what_is_written_predicts_the_same(tmp_path: Path, recipe: Recipe, manifest: CheckpointManifest) -> None:
    net = WaltNet(recipe.network).eval()
    path = write_checkpoint(tmp_path, net.state_dict(), manifest)
    picture = torch.randint(0, 256, (1, 64, 96, 3), dtype=torch.uint8)
    for place in (path, tmp_path):
        loaded, told = load_model(place)
        assert told == manifest
        assert not loaded.training
        assert all(torch.equal(a, b) for a, b in zip(loaded.predict(picture), net.predict(picture), strict=True))
    assert msgspec.json.decode((tmp_path / MANIFEST).read_bytes(), type=CheckpointManifest) == manifest
    assert not list(tmp_path.glob("*.partial"))


def test_a_missing_checkpoint_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="walt-train --data"):
        load_model(tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.99])
def test_a_truncated_checkpoint_is_one_line(written: Path, share: float) -> None:
    content = written.read_bytes()
    written.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(CheckpointError) as caught:
        load_model(written)
    assert "\n" not in str(caught.value)
    assert "corrupt" in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"state_dict": {}},
        {"state_dict": {}, "manifest": "{}"},
        {"state_dict": {}, "manifest": 3},
        [1],
        "text",
        torch.zeros(3),
    ],
)
def test_another_makes_file_is_one_line(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / CHECKPOINT)
    with pytest.raises(CheckpointError, match="train again"):
        load_model(tmp_path)


def test_weights_that_do_not_fit_the_manifest_are_refused(
    tmp_path: Path, recipe: Recipe, manifest: CheckpointManifest
) -> None:
    network = msgspec.structs.replace(recipe.network, box_width=6)
    path = write_checkpoint(tmp_path, WaltNet(network).state_dict(), manifest)
    with pytest.raises(CheckpointError, match="train again"):
        load_model(path)


def test_a_checkpoint_of_before_is_told_by_its_version(
    tmp_path: Path, recipe: Recipe, manifest: CheckpointManifest
) -> None:
    old = msgspec.structs.replace(manifest, version=1)
    path = write_checkpoint(tmp_path, WaltNet(recipe.network).state_dict(), old)
    with pytest.raises(CheckpointError, match="of version 1, this walt-train reads 2: train again"):
        load_model(path)
    bare = {"manifest": '{"recipe": {"network": {"stem_channels": 4}}}', "state_dict": {}}
    torch.save(bare, tmp_path / CHECKPOINT)
    with pytest.raises(CheckpointError, match="of version 1"):
        load_model(tmp_path)


class Evil:
    def __reduce__(self):  # type: ignore[no-untyped-def]
        return Path.touch, (Path("touched"),)


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Evil(), "manifest": "{}"}, tmp_path / CHECKPOINT)
    with pytest.raises(CheckpointError, match="corrupt"):
        load_model(tmp_path)
    assert not (tmp_path / "touched").exists()


PLAN = Plan(recipe=tiny_recipe(), seed=0, data_sha256="1" * 64, processes=1)


def test_a_folder_belongs_to_one_training(tmp_path: Path) -> None:
    assert settle(PLAN, tmp_path) is None
    assert settle(PLAN, tmp_path) is None
    state = State.after(50, tmp_path)
    torch.save({}, state.path)
    assert settle(PLAN, tmp_path) == state


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 1}, "seed"),
        ({"data_sha256": "2" * 64}, "data"),
        ({"recipe": tiny_recipe(9)}, "recipe or steps"),
        ({"processes": 2, "seed": 4}, "seed and processes"),
    ],
)
def test_another_training_is_refused_by_name(tmp_path: Path, change: dict[str, object], named: str) -> None:
    settle(PLAN, tmp_path)
    with pytest.raises(FitError, match=named):
        settle(msgspec.structs.replace(PLAN, **change), tmp_path)


def test_an_unreadable_plan_and_a_foreign_checkpoint_are_refused(tmp_path: Path) -> None:
    settle(PLAN, tmp_path)
    (tmp_path / "resume" / "plan.json").write_text("{")
    with pytest.raises(FitError, match="make and version"):
        settle(PLAN, tmp_path)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / CHECKPOINT).touch()
    with pytest.raises(FitError, match="unknown"):
        settle(PLAN, tmp_path / "b")
