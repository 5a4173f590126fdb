from pathlib import Path

import msgspec
import pytest
import torch

from tests.walt_train.engine.shapes import SCENE, drawn_sample, open_shapes, tiny_recipe
from walt_edge.runtimes.onnx_detector import letterbox
from walt_train.engine import fit as module
from walt_train.engine.checkpoint import load_model
from walt_train.engine.fit import fit
from walt_train.engine.plan import Fit, FitError
from walt_train.engine.start import Start
from walt_train.model.waltnet import WaltNet
from walt_train.recipes import Network, Recipe, SmallBackbone


@pytest.fixture(autouse=True)
def _shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "open_samples", open_shapes)


def general_recipe() -> Recipe:
    """Shown the picture alone."""
    recipe = tiny_recipe(steps=2)
    return msgspec.structs.replace(
        recipe, network=msgspec.structs.replace(recipe.network, background=False, position=False)
    )


@pytest.fixture(scope="module")
def general(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training for any camera."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "open_samples", open_shapes)
        return fit(Fit((Path("shapes"),), general_recipe(), 1, tmp_path_factory.mktemp("general")))


def camera_network(start: Start) -> Network:
    return start.shaped(tiny_recipe().network)


def test_a_cameras_network_sees_at_first_what_the_general_one_does(general: Path) -> None:
    start = Start.read(general)
    torch.manual_seed(7)
    net = WaltNet(camera_network(start))
    picture = torch.from_numpy(letterbox(drawn_sample(3).image_bgr, (64, 96))[0])[None]
    net.input.plate.copy_(torch.from_numpy(letterbox(SCENE, (64, 96))[0]).permute(2, 0, 1))
    with torch.no_grad():
        before = net.eval().features(picture)
        start.lend(net)
        after, wanted = net.features(picture), start.net.features(picture)
    torch.testing.assert_close(after, wanted)
    assert not torch.allclose(before, wanted)
    # Its own camera's scene and the anchors that the weights were learned for are kept.
    assert net.input.plate[0, 30, 40] == SCENE[0, 0, 0]
    assert net.network.anchors_wh == start.net.network.anchors_wh


def test_a_network_with_anchors_of_its_own_keeps_them(general: Path) -> None:
    own = msgspec.structs.replace(tiny_recipe().network, anchors_wh=((9.0, 9.0),) * 3)
    assert Start.read(general).shaped(own) == own
    larger = msgspec.structs.replace(tiny_recipe().network, input_wh=(192, 128))
    assert not Start.read(general).shaped(larger).anchors_wh


def test_a_start_that_fits_nothing_is_refused(general: Path) -> None:
    other = msgspec.structs.replace(
        tiny_recipe().network,
        backbone=SmallBackbone(stem=6, stages=(6, 6, 6, 6), blocks=(1, 1, 1, 1)),
        feature_channels=12,
        anchors_wh=((9.0, 9.0),) * 3,
    )
    with pytest.raises(FitError, match="of the weights that this training needs: begin with a network"):
        Start.read(general).lend(WaltNet(other))


def test_a_training_says_with_what_it_began(general: Path, tmp_path: Path) -> None:
    first = Fit((Path("shapes"),), tiny_recipe(steps=2), 1, tmp_path / "first", start=general)
    manifest = load_model(fit(first))[1]
    known = load_model(general)[1]
    assert manifest.started == (known.data_sha256,)
    again = fit(Fit((Path("shapes"),), tiny_recipe(steps=2), 1, tmp_path / "second", start=tmp_path / "first"))
    assert load_model(again)[1].trained == (manifest.data_sha256, *manifest.trained)


def test_a_folder_is_not_gone_on_with_from_other_weights(general: Path, tmp_path: Path) -> None:
    at_random = Fit((Path("shapes"),), tiny_recipe(steps=2), 1, tmp_path)
    fit(at_random)
    with pytest.raises(FitError, match="its first weights differ"):
        fit(Fit(at_random.data, at_random.recipe, 1, tmp_path, start=general))
