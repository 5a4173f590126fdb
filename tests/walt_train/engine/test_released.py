"""The weights of a bundle, read back: what the agent's network computes is where a training begins."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
import torch
from torch import nn
from walt_export.bundle import ExportOptions, export

from tests.checkpoints import write_small_checkpoint
from tests.walt_train.engine.shapes import drawn_sample, open_shapes, tiny_recipe
from walt_edge.contract.bundle import MODEL, Bundle, BundleError, write_bundle
from walt_edge.packaged import GENERAL, general_model
from walt_edge.runtimes.onnx_detector import letterbox
from walt_edge.runtimes.walt_onnx import WaltOnnx
from walt_train import recipes
from walt_train.engine import fit as fitting
from walt_train.engine import released
from walt_train.engine.checkpoint import load_model
from walt_train.engine.fit import fit
from walt_train.engine.normalisation import measure
from walt_train.engine.plan import Fit, FitError
from walt_train.engine.released import released_network
from walt_train.engine.start import Start
from walt_train.model.waltnet import WaltNet


@pytest.fixture(scope="module")
def general() -> Start:
    return Start.read(Path(GENERAL))


def test_the_packages_weights_answer_as_its_graph_does(general: Start) -> None:
    bundle = Bundle.read(general_model())
    picture, _ = letterbox(drawn_sample(3).image_bgr, (384, 640))
    network = WaltOnnx(bundle.files[MODEL], size_wh=(640, 384), device="cpu", threads=1)
    answer = network(picture)
    boxes, scores, labels, maps = general.net.predict(torch.from_numpy(picture)[None])[:4]
    assert len(answer.scores) > 0
    # The graph has suppressed doubles already; the surest is a double of nobody.
    best = int(scores.argmax())
    assert labels[best] == answer.labels[0]
    np.testing.assert_allclose(scores[best], answer.scores[0], atol=1e-4)
    np.testing.assert_allclose(boxes[best], answer.boxes_xyxy[0], atol=1e-2)
    np.testing.assert_allclose(maps[best], answer.maps[0], atol=1e-3)
    assert general.trained == bundle.manifest.lineage.trained
    assert (general.recipe, general.folded) == ("walt_edge_general", True)


def test_a_cameras_recipe_takes_nearly_all_of_them(general: Start) -> None:
    recipe = recipes.find_recipe("walt_edge_camera")
    net = WaltNet(general.shaped(recipe.network))
    general.lend(net)
    same = [
        torch.equal(value, general.net.state_dict()[name])
        for name, value in net.named_parameters()
        if "stem.0" not in name
    ]
    assert all(same)
    assert recipe.start == GENERAL


def with_spread(net: WaltNet) -> WaltNet:
    """Its normalisations are like trained ones."""
    torch.manual_seed(5)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.uniform_(module.weight, 0.5, 2.0)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.2, 3.0)
    return net.eval()


def pictures(count: int = 2) -> torch.Tensor:
    return torch.from_numpy(np.stack([letterbox(drawn_sample(s).image_bgr, (64, 96))[0] for s in range(count)]))


def test_measuring_changes_nothing_that_is_computed() -> None:
    net = with_spread(tiny_net())
    shown = pictures()
    with torch.no_grad():
        before = net.features(shown)
        measure(net, lambda: net.features(shown))
        after = net.features(shown)
        learning = net.train().features(shown)
    torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-4)
    # What a training computes from the batch itself is the same as well, on the pictures that were measured.
    torch.testing.assert_close(learning, before, atol=1e-3, rtol=1e-3)


def test_what_was_never_seen_is_left_alone() -> None:
    net = with_spread(tiny_net())
    branch = {name: value.clone() for name, value in net.branch.state_dict().items()}
    measure(net, lambda: net.features(pictures()))
    assert all(torch.equal(value, branch[name]) for name, value in net.branch.state_dict().items())
    stem = net.backbone.bottom_up.stem[0]
    np.testing.assert_allclose(stem.weight.detach().flatten(1).norm(dim=1), 3**-0.5, rtol=1e-5)


def tiny_net() -> WaltNet:
    network = msgspec.structs.replace(
        tiny_recipe().network, background=False, position=False, anchors_wh=((9.0, 20.0), (30.0, 16.0), (40.0, 40.0))
    )
    torch.manual_seed(3)
    return WaltNet(network)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Exports the small test network."""

    def exported(name: str) -> Path:
        folder = tmp_path_factory.mktemp(name)
        made = export(write_small_checkpoint(folder), ExportOptions())
        path = folder / "small.walt"
        write_bundle(path, made.manifest, made.files)
        return path

    return exported


def test_a_bundle_in_float32_gives_its_weights_back(
    small: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = small("plain")
    trained = load_model(path.parent)[0]
    monkeypatch.setattr(released, "find_recipe", lambda _: load_model(path.parent)[1].recipe)
    net = released_network(Bundle.read(path))
    picture = torch.from_numpy(letterbox(drawn_sample(3).image_bgr, (96, 128))[0])[None]
    # The empty scene is no weight: a network that goes on is told its own camera's.
    net.input.plate.copy_(trained.input.plate)
    assert net.network.anchors_wh == trained.network.anchors_wh
    with torch.no_grad():
        feature = net.features(picture)
        torch.testing.assert_close(feature, trained.features(picture), atol=1e-4, rtol=1e-4)
        box = torch.tensor([[20.0, 20.0, 70.0, 60.0]])
        maps = net.masks(feature, box, torch.tensor([1]))[0][0]
        torch.testing.assert_close(maps, trained.masks(feature, box, torch.tensor([1]))[0][0], atol=1e-4, rtol=1e-4)


def test_what_holds_no_such_weights_is_one_line(small: Callable[[str], Path]) -> None:
    # The test network says that it is the demo's, and is smaller.
    with pytest.raises(BundleError, match=r"\(demo, float32\) holds no weights to train on .* begin with a"):
        Start.read(small("other"))


def _elsewhere(model: onnx.ModelProto) -> None:
    weight = model.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = onnx.TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="../../etc/passwd")


def _cut_off(model: onnx.ModelProto) -> None:
    weight = next(each for each in model.graph.initializer if each.name.endswith("second.0.weight.stored"))
    weight.raw_data = weight.raw_data[:-2]


def _without_inputs(model: onnx.ModelProto) -> None:
    del next(node for node in model.graph.node if node.op_type == "Conv").input[:]


def _flat_anchors(model: onnx.ModelProto) -> None:
    (grid,) = (each for each in model.graph.initializer if tuple(each.dims)[1:] == (4,) and each.dims[0] > 1000)
    grid.raw_data = bytes(len(grid.raw_data))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_elsewhere, "lie elsewhere"),
        (_cut_off, "reshape"),
        (_without_inputs, "index"),
        (_flat_anchors, "anchors without an area"),
    ],
)
def test_a_graph_that_nobody_exported_is_one_line(spoil: Callable[[onnx.ModelProto], None], said: str) -> None:
    bundle = Bundle.read(general_model())
    model = onnx.load_from_string(bundle.files[MODEL])
    spoil(model)
    spoilt = replace(bundle, files={**bundle.files, MODEL: model.SerializeToString()})
    with pytest.raises(BundleError, match=f"holds no weights to train on .*{said}"):
        released_network(spoilt)
    with pytest.raises(BundleError, match="holds no weights to train on"):
        released_network(replace(bundle, files={**bundle.files, MODEL: b"no graph at all"}))


def test_a_training_begins_with_the_packages_weights(
    general: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitting, "open_samples", open_shapes)
    recipe = recipes.find_recipe("walt_edge_camera")
    training = tiny_recipe(steps=1).training
    short = msgspec.structs.replace(recipe, training=msgspec.structs.replace(training, learning_rate=1e-3))
    manifest = load_model(fit(Fit((Path("shapes"),), short, 1, tmp_path / "out")))[1]
    assert manifest.started == general.trained
    assert manifest.recipe.training.learning_rate == pytest.approx(0.25e-3)
    assert manifest.recipe.network.anchors_wh == general.net.network.anchors_wh
    # What it was asked for decides whether a folder is gone on with.
    with pytest.raises(FitError, match="its first weights differ"):
        fit(Fit((Path("shapes"),), short, 1, tmp_path / "out", start=tmp_path / "out"))
