import dataclasses
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from walt_export.bundle import export
from walt_export.errors import ExportError

from tests.walt_train.engine import shapes
from tests.walt_train.engine.shapes import open_shapes, tiny_recipe
from walt_edge.contract.clipart import ClipArtError
from walt_train.engine import fit as module
from walt_train.engine.checkpoint import load_model
from walt_train.engine.curves import Curves
from walt_train.engine.fit import fit
from walt_train.engine.launch import launch
from walt_train.engine.learned import read_learned
from walt_train.engine.plan import Fit, FitError, State, whole_state
from walt_train.engine.segments import Segment
from walt_train.model.waltnet import WaltNet


@pytest.fixture(autouse=True)
def _shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "open_samples", open_shapes)


def wanted(out: Path, steps: int = 6) -> Fit:
    return Fit((Path("shapes"),), tiny_recipe(steps), 3, out)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed training."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "open_samples", open_shapes)
        return fit(wanted(tmp_path_factory.mktemp("undisturbed")))


def test_a_training_leaves_everything_that_comes_after_it_needs(trained: Path) -> None:
    folder = trained.parent
    net, manifest = load_model(trained)
    assert manifest.recipe.network.anchors_wh
    assert manifest.seed == 3
    assert manifest.processes == (Segment(0, 1),)
    assert 0 <= manifest.score_threshold <= 1
    assert manifest.parameters == sum(weight.numel() for weight in net.parameters())
    assert manifest.validation["frames"] == 4
    learned, sha256 = read_learned(folder / "learned.json")
    assert sha256 == manifest.learned_sha256
    assert (learned.data_sha256, learned.seed) == (manifest.data_sha256, 3)
    assert [part.role for part in learned.parts] == ["train", "validation"]
    curves = json.loads((folder / "curves.json").read_text())
    assert [row["step"] for row in curves] == [1, 2, 3, 4, 5, 6]
    assert {"loss", "loss_amodal", "loss_occluder", "loss_occluded", "loss_rpn_cls", "loss_bbox"} <= curves[0].keys()
    golden = sorted(path.stem for path in (folder / "golden").iterdir())
    assert golden == ["border", "hidden", "many", "none", "tiny"]
    assert (folder / "calibration").is_dir()
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("loss")] == [1, 2, 3, 4, 5, 6]


def test_a_short_training_keeps_nothing_of_the_weights_that_it_began_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[dict[str, torch.Tensor]] = []

    def noted(*args: Any) -> WaltNet:
        net = new_network(*args)
        begun.append({name: value.detach().clone() for name, value in net.named_parameters()})
        return net

    new_network = module._new_network
    monkeypatch.setattr(module, "_new_network", noted)
    recipe = tiny_recipe()
    slow = msgspec.structs.replace(recipe, training=msgspec.structs.replace(recipe.training, average=1e-4))
    checkpoint = fit(dataclasses.replace(wanted(tmp_path), recipe=slow))
    kept = {name: value.detach() for name, value in load_model(checkpoint)[0].named_parameters()}
    state = torch.load(tmp_path / "resume" / "state-0000006.pth", weights_only=False)["ema_state_dict"]
    last = {name: state[f"module.net.{name}"] for name in kept}
    moved = [float((last[name] - first).norm()) for name, first in begun[0].items()]
    behind = [float((last[name] - value).norm()) for name, value in kept.items()]
    assert sum(behind) < sum(moved) / 2


def test_a_killed_training_goes_on_to_the_same_weights(
    trained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    death = {
        "WALT_TEST_DEATH": f"{tmp_path / 'note'} 0 6",
        "WALT_TRAIN_REFUSAL": str(tmp_path / "refusal"),
    }
    argument = msgspec.json.encode(wanted(tmp_path), enc_hook=str).decode()
    killed = subprocess.run(
        [sys.executable, "-m", shapes.__name__, argument],
        env=os.environ | death,
        timeout=120,
        check=False,
        capture_output=True,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (tmp_path / "checkpoint.pt").exists()
    again = fit(wanted(tmp_path))

    assert "going on" in caplog.text
    one, other = load_model(trained), load_model(again)
    assert one[1] == other[1]
    state = other[0].state_dict()
    assert all(torch.equal(value, state[name]) for name, value in one[0].state_dict().items())
    assert (tmp_path / "curves.json").read_bytes() == (trained.parent / "curves.json").read_bytes()


def test_a_finished_training_is_not_repeated_and_another_is_refused(
    trained: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = trained.stat().st_mtime_ns
    assert fit(wanted(trained.parent)) == trained
    assert trained.stat().st_mtime_ns == before
    assert "trained already" in caplog.text
    with pytest.raises(FitError, match="recipe or steps"):
        fit(wanted(trained.parent, steps=7))


def test_a_training_killed_after_its_last_step_only_has_to_be_judged(trained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "again"
    shutil.copytree(trained.parent, folder)
    for name in ("checkpoint.pt", "manifest.json", "curves.json"):
        (folder / name).unlink()
    again = fit(wanted(folder))
    assert again.read_bytes() == trained.read_bytes()
    assert (folder / "curves.json").read_bytes() == (trained.parent / "curves.json").read_bytes()


def test_a_state_that_was_cut_off_is_none(trained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    newest, older = State.after(6, tmp_path), State.after(4, tmp_path)
    whole = State.after(6, trained.parent).path.read_bytes()
    newest.path.parent.mkdir()
    newest.path.write_bytes(whole[: len(whole) // 2])
    assert whole_state(tmp_path) is None
    assert "damaged" in caplog.text
    older.path.write_bytes(whole)
    assert whole_state(tmp_path) == older, "what is whole is better than what is newer"
    newest.path.write_bytes(whole)
    assert whole_state(tmp_path) == newest


def test_a_seed_may_have_all_its_bits(tmp_path: Path) -> None:
    out = fit(dataclasses.replace(wanted(tmp_path, steps=1), seed=2**64 - 1))
    assert load_model(out)[1].seed == 2**64 - 1


def test_a_loss_that_is_no_number_ends_the_training(tmp_path: Path) -> None:
    recipe = tiny_recipe(6)
    hot = msgspec.structs.replace(recipe.training, learning_rate=1e30, clip_norm=1e30)
    with pytest.raises(FitError, match=r"no numbers? any more.* at step [1-6], which saw \d+\.png, .*learning rate"):
        fit(dataclasses.replace(wanted(tmp_path), recipe=msgspec.structs.replace(recipe, training=hot)))
    assert not (tmp_path / "checkpoint.pt").exists()


def test_weights_that_are_no_numbers_are_never_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_note", lambda curves, batches, step, losses: curves.add(step, losses))
    recipe = tiny_recipe(4)
    hot = msgspec.structs.replace(recipe.training, learning_rate=1e30, clip_norm=1e30)
    with pytest.raises(FitError, match=r"the weights \S+ are no numbers any more at step [2-4], which saw"):
        fit(dataclasses.replace(wanted(tmp_path), recipe=msgspec.structs.replace(recipe, training=hot)))
    assert not (tmp_path / "checkpoint.pt").exists()


def test_an_unknown_wish_for_composites_is_one_line(tmp_path: Path) -> None:
    recipe = tiny_recipe(1)
    odd = msgspec.structs.replace(recipe.training, compose={"colour": "blue"})
    with pytest.raises(FitError, match=r"composites cannot be made so.*colour"):
        fit(dataclasses.replace(wanted(tmp_path), recipe=msgspec.structs.replace(recipe, training=odd)))
    assert not list(tmp_path.iterdir())


def test_data_that_cannot_judge_is_refused_before_a_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def open_few(folder, *, split, **settings):  # type: ignore[no-untyped-def]
        if split == "validation":
            raise ClipArtError("too few to judge on")
        return open_shapes(folder, split=split, **settings)

    monkeypatch.setattr(module, "open_samples", open_few)
    with pytest.raises(ClipArtError, match="too few to judge on"):
        fit(wanted(tmp_path))
    assert not list(tmp_path.iterdir()), "so that the same folder takes the training once there is enough"


def test_threads_are_not_left_at_one(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    add = Curves.add

    def look(self, step, losses) -> None:  # type: ignore[no-untyped-def]
        seen.append(torch.get_num_threads())
        add(self, step, losses)

    monkeypatch.setattr(Curves, "add", look)
    torch.set_num_threads(2)
    try:
        fit(wanted(tmp_path, steps=1))
    finally:
        torch.set_num_threads(1)
    assert seen == [2]


def test_data_without_any_object_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def open_empty(folder, **settings):  # type: ignore[no-untyped-def]
        found = open_shapes(folder, **settings)
        monkeypatch.setattr(found, "sample", lambda epoch, index: shapes.drawn_sample(index, 0), raising=False)
        return found

    monkeypatch.setattr(module, "open_samples", open_empty)
    with pytest.raises(FitError, match="no object"):
        fit(wanted(tmp_path))


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Curves) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Curves, "write", full)
    with pytest.raises(FitError, match="No space left on device") as caught:
        launch(wanted(tmp_path), processes=0)
    assert "\n" not in str(caught.value)


def test_one_network_learns_several_cameras_without_their_scenes(tmp_path: Path) -> None:
    recipe = tiny_recipe(2)
    several = dataclasses.replace(wanted(tmp_path / "told"), data=(Path("a"), Path("b")))
    with pytest.raises(FitError, match="learns one camera, not 2"):
        fit(several)
    blind = msgspec.structs.replace(recipe, network=msgspec.structs.replace(recipe.network, background=False))
    _, manifest = load_model(fit(dataclasses.replace(several, recipe=blind, out=tmp_path / "blind")))
    assert manifest.data == "a, b"
    assert not manifest.recipe.network.background


def test_one_network_learns_several_cameras_each_beside_its_scene_and_is_exported_for_one(tmp_path: Path) -> None:
    recipe = tiny_recipe(2)
    site = msgspec.structs.replace(recipe, network=msgspec.structs.replace(recipe.network, position=False))
    both = dataclasses.replace(wanted(tmp_path / "both"), data=(Path("a"), Path("b")), recipe=site)
    checkpoint = fit(both)
    assert len(read_learned(checkpoint.parent / "learned.json")[0].parts) == 4
    with pytest.raises(ExportError, match=r"the empty scene of none.*--recipe tiny --start .*checkpoint\.pt"):
        export(checkpoint)
    one = dataclasses.replace(both, data=(Path("a"),), out=tmp_path / "one", start=checkpoint)
    net, manifest = load_model(fit(one))
    assert manifest.started
    assert not net.input.lacks_scene
