"""The SDK: a bundle is opened, looks at pictures, and knows when its machine answers otherwise."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.bundles import FILES, manifest
from tests.detectors import PLACES, SIZE_WH, Together, golden, model, picture, write_colour_bundle
from walt_edge import Detector, packaged
from walt_edge.contract.bundle import LICENCE, MODEL, Bundle, BundleError, write_bundle
from walt_edge.contract.errors import UsageError
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import decode_rle, encode_rle
from walt_edge.contract.predictions import Predictions
from walt_edge.detector import GoldenError, ImageError
from walt_edge.runtimes.network import Candidates
from walt_edge.runtimes.walt_onnx import WaltOnnx

pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def bundle_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_colour_bundle(tmp_path_factory.mktemp("bundle") / "colours.walt")


@pytest.fixture(scope="module")
def detector(bundle_path: Path) -> Detector:
    return Detector.load(bundle_path, device="cpu", threads=1)


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_what_is_there_is_found_in_pixels_of_the_picture(detector: Detector, scale: int) -> None:
    found = detector.predict(picture(0, 3, scale=scale))
    assert found.frame_wh == (SIZE_WH[0] * scale, SIZE_WH[1] * scale)
    assert sorted(found.labels.tolist()) == [Label.PERSON, Label.VEHICLE]
    boxes = {int(label): box.tolist() for label, box in zip(found.labels, found.boxes_xyxy, strict=True)}
    assert boxes[Label.PERSON] == [value * scale for value in PLACES[0]]
    masks = found.amodal_masks
    assert masks.shape == (2, SIZE_WH[1] * scale, SIZE_WH[0] * scale)
    assert (masks.any(axis=0) == (picture(0, 3, scale=scale)[..., 2] > 0)).mean() > 0.999


def test_layers_come_from_their_own_maps(detector: Detector) -> None:
    image = picture(0)
    x0, y0, x1, y1 = PLACES[0]
    image[y0 : (y0 + y1) // 2, x0:x1, 1] = 255
    image[y0:y1, (x0 + x1) // 2 : x1, 0] = 255
    found = detector.predict(image)
    assert found.occlusion_fractions == pytest.approx([0.5], abs=0.02)
    assert (found.visible_masks == found.amodal_masks & ~found.occluder_masks).all()
    assert found.occluded_masks[0, y0:y1, x0:x1].mean() == pytest.approx(0.5, abs=0.02)


def test_the_models_threshold_holds_unless_another_is_given(detector: Detector) -> None:
    faint = picture(0) // 3
    assert len(detector.predict(faint)) == 0
    assert len(detector.predict(faint, score_threshold=0.1)) == 1


def test_an_empty_street_gives_nothing(detector: Detector) -> None:
    found = detector.predict(picture())
    assert len(found) == 0
    assert found.visible_masks.shape == (0, SIZE_WH[1], SIZE_WH[0])


def test_a_picture_is_left_as_it_is_and_may_be_read_only(detector: Detector) -> None:
    image = picture(1)
    image.flags.writeable = False
    before = image.copy()
    detector.predict(image)
    assert (image == before).all()


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((20, 20, 3), np.float32), "not (20, 20, 3) float32"),
        (np.zeros((20, 20), np.uint8), "not (20, 20) uint8"),
        (np.zeros((20, 20, 4), np.uint8), "not (20, 20, 4) uint8"),
        (np.zeros((0, 20, 3), np.uint8), "not (0, 20, 3) uint8"),
        ("street.png", "not a str"),
        (None, "not a NoneType"),
    ],
)
def test_what_is_no_picture_is_refused_in_one_line(detector: Detector, image: NDArray[np.uint8], words: str) -> None:
    with pytest.raises(ImageError) as caught:
        detector.predict(image)
    assert str(caught.value).endswith(words)
    assert "\n" not in str(caught.value)


def test_it_says_what_it_is(detector: Detector, bundle_path: Path) -> None:
    bundle = Bundle.read(bundle_path)
    assert detector.manifest == bundle.manifest
    assert detector.sha256 == bundle.sha256
    assert detector.providers == ("CPUExecutionProvider",)


@pytest.mark.parametrize("pictures", [1, 0])
@pytest.mark.parametrize("runtime", [WaltOnnx, Together])
def test_pictures_looked_at_together_are_answered_as_each_alone(
    tmp_path: Path, pictures: int, runtime: type[WaltOnnx]
) -> None:
    bundle = Bundle.read(write_colour_bundle(tmp_path / "m.walt", pictures=pictures))
    detector = Detector(bundle, runtime=runtime(bundle.files[MODEL], size_wh=SIZE_WH, device="cpu"))
    images = [picture(0, 3), picture(), picture(1, scale=2), picture(0, 1, 2, scale=3), picture(3)[:, :200]]
    detector.check_golden()
    together = detector.predict_many(images)
    assert [len(found) for found in together] == [2, 0, 1, 3, 1]
    for image, found in zip(images, together, strict=True):
        alone = detector.predict(image)
        assert found.frame_wh == alone.frame_wh == (image.shape[1], image.shape[0])
        np.testing.assert_array_equal(found.boxes_xyxy, alone.boxes_xyxy)
        np.testing.assert_array_equal(found.scores, alone.scores)
        np.testing.assert_array_equal(found.amodal_masks, alone.amodal_masks)
    faint = [image // 3 for image in images]
    assert [len(found) for found in detector.predict_many(faint)] == [0, 0, 0, 0, 0]
    assert [len(found) for found in detector.predict_many(faint, score_threshold=0.1)] == [2, 0, 1, 3, 1]
    assert detector.predict_many([]) == []
    with pytest.raises(ImageError):
        detector.predict_many([images[0], images[0][..., 0]])


class Counted:
    """A runtime that looks at two pictures at most, and notes how many it was given."""

    providers = ("counting",)
    most_pictures = 2

    def __init__(self, network: bytes) -> None:
        self._network = WaltOnnx(network, size_wh=SIZE_WH, device="cpu")
        self.given: list[int] = []

    def __call__(self, image: NDArray[np.uint8]) -> Candidates:
        self.given.append(1)
        return self._network(image)

    def many(self, images_NHWC: NDArray[np.uint8]) -> list[Candidates]:
        self.given.append(len(images_NHWC))
        return self._network.many(images_NHWC)


def test_a_runtime_is_given_no_more_pictures_than_it_takes(bundle_path: Path) -> None:
    counted = Counted(model(pictures=0))
    detector = Detector(Bundle.read(bundle_path), runtime=counted)
    assert detector.providers == ("counting",)
    images = [picture(index % 4) for index in range(5)]
    assert [found.labels.tolist() for found in detector.predict_many(images)] == [[1], [1], [1], [2], [1]]
    assert counted.given == [2, 2, 1]


def test_threads_share_a_detector(detector: Detector) -> None:
    images = [picture(index) for index in (0, 1, 3)]
    expected = [detector.predict(image).amodal_masks for image in images]
    right: list[bool] = []

    def work(index: int) -> None:
        answers = (detector.predict(images[index]).amodal_masks for _ in range(10))
        right.extend(bool((answer == expected[index]).all()) for answer in answers)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert right == [True] * 30


def test_golden_pictures_agree_on_this_machine(detector: Detector) -> None:
    detector.check_golden()


def with_first(answer: Predictions, **changes: Any) -> Predictions:
    """The answer with some fields of its first instance changed."""
    (frame,) = answer.frames
    instances = [msgspec.structs.replace(frame.instances[0], **changes), *frame.instances[1:]]
    return msgspec.structs.replace(answer, frames=[msgspec.structs.replace(frame, instances=instances)])


def moved_box(answer: Predictions) -> Predictions:
    x, y, width, height = answer.frames[0].instances[0].bbox
    return with_first(answer, bbox=(x + 1.5, y, width, height))


def other_score(answer: Predictions) -> Predictions:
    return with_first(answer, score=0.9)


def other_label(answer: Predictions) -> Predictions:
    return with_first(answer, category_id=3 - answer.frames[0].instances[0].category_id)


def other_layer(answer: Predictions) -> Predictions:
    return with_first(answer, occluder_segmentation=answer.frames[0].instances[0].segmentation)


def smaller_mask(answer: Predictions) -> Predictions:
    mask = decode_rle(answer.frames[0].instances[0].segmentation)
    rows = np.flatnonzero(mask.any(axis=1))
    mask[rows[:2]] = False
    return with_first(answer, segmentation=encode_rle(mask))


def other_mask(answer: Predictions) -> Predictions:
    return with_first(answer, segmentation=answer.frames[0].instances[1].segmentation)


def one_less(answer: Predictions) -> Predictions:
    (frame,) = answer.frames
    return msgspec.structs.replace(answer, frames=[msgspec.structs.replace(frame, instances=frame.instances[:1])])


def other_size(answer: Predictions) -> Predictions:
    (frame,) = answer.frames
    empty = msgspec.structs.replace(frame, instances=[], width=99)
    return msgspec.structs.replace(answer, frames=[empty])


def no_frame(answer: Predictions) -> Predictions:
    return msgspec.structs.replace(answer, frames=[])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (moved_box, r"a box lies 1\.50 px off"),
        (other_score, r"a score is 0\.\d+ off"),
        (other_label, "2 instances, expected 2; 1 found in both"),
        (other_layer, r"an occluder mask differs in 1\.000"),
        (smaller_mask, r"a mask's IoU is 0\.9"),
        (other_mask, "2 instances, expected 2; 1 found in both"),
        (other_size, r"its answer \(99, 192\)"),
        (one_less, "2 instances, expected 1"),
        (no_frame, "cannot be read"),
    ],
)
def test_a_golden_answer_that_disagrees_is_named(
    tmp_path: Path, change: Callable[[Predictions], Predictions], words: str
) -> None:
    files = {MODEL: model(), **golden("0", picture(0, 3), manifest(), model())}
    answer = msgspec.json.decode(files["golden/0.json"], type=Predictions)
    files["golden/0.json"] = msgspec.json.encode(change(answer))
    write_bundle(tmp_path / "m.walt", manifest(), files)
    detector = Detector.load(tmp_path / "m.walt", device="cpu")
    with pytest.raises(GoldenError, match=words) as caught:
        detector.check_golden()
    assert "golden/0.png" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_doubtful_instance_may_be_missed(tmp_path: Path) -> None:
    described = msgspec.structs.replace(manifest(), score_threshold=0.6)
    image = picture(0)
    image[..., 2] = image[..., 2] // 255 * 155  # scores 0.608
    files = {MODEL: model(), **golden("0", image, described, model())}
    answer = msgspec.json.decode(files["golden/0.json"], type=Predictions)
    assert len(answer.frames[0].instances) == 1
    none = msgspec.structs.replace(answer.frames[0], instances=[])
    files["golden/0.json"] = msgspec.json.encode(msgspec.structs.replace(answer, frames=[none]))
    write_bundle(tmp_path / "m.walt", described, files)
    Detector.load(tmp_path / "m.walt", device="cpu").check_golden()


def test_a_golden_picture_that_is_none_is_named(tmp_path: Path) -> None:
    files = {MODEL: model(), **golden("0", picture(0), manifest(), model()), "golden/0.png": b"no picture"}
    write_bundle(tmp_path / "m.walt", manifest(), files)
    with pytest.raises(GoldenError, match=r"golden/0\.png is no picture"):
        Detector.load(tmp_path / "m.walt", device="cpu").check_golden()


def test_without_golden_pictures_nothing_is_proven(tmp_path: Path) -> None:
    write_bundle(tmp_path / "m.walt", msgspec.structs.replace(manifest(), golden=[]), {MODEL: model(), LICENCE: b""})
    with pytest.raises(GoldenError, match="no golden pictures"):
        Detector.load(tmp_path / "m.walt", device="cpu").check_golden()


@pytest.mark.parametrize(
    ("network", "words"),
    [(b"a model " * 20, "cannot be used"), (model((64, 64)), r"expected \{'image': \[1, 192, 320, 3\]\}")],
)
def test_a_model_that_cannot_be_run_is_refused(tmp_path: Path, network: bytes, words: str) -> None:
    write_bundle(tmp_path / "m.walt", manifest(), FILES | {MODEL: network})
    with pytest.raises(BundleError, match=words) as caught:
        Detector.load(tmp_path / "m.walt", device="cpu")
    assert "\n" not in str(caught.value)


def test_one_changed_byte_is_refused(tmp_path: Path, bundle_path: Path) -> None:
    data = bytearray(bundle_path.read_bytes())
    data[len(data) // 3] ^= 1
    (tmp_path / "m.walt").write_bytes(data)
    with pytest.raises(BundleError, match="damaged"):
        Detector.load(tmp_path / "m.walt")


def test_without_a_path_the_packaged_model_is_taken(
    monkeypatch: pytest.MonkeyPatch, bundle_path: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr(packaged, "GENERAL_MODEL", bundle_path)
    assert Detector.load(device="cpu").sha256 == Detector.load(bundle_path, device="cpu").sha256
    monkeypatch.setattr(packaged, "GENERAL_MODEL", tmp_path / "none.walt")
    with pytest.raises(BundleError, match=r"none\.walt with python -m benchmarks\.weights") as caught:
        Detector.load()
    assert "\n" not in str(caught.value)


def test_without_onnx_runtime_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch, bundle_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UsageError, match=r"pip install 'walt-amodal\[cpu\]'"):
        Detector.load(bundle_path)


def test_importing_the_package_brings_nothing_with_it() -> None:
    code = (
        "import sys, walt_edge\n"
        "assert not {'numpy', 'cv2', 'msgspec', 'onnxruntime'} & set(sys.modules)\n"
        "from walt_edge import Detector\n"
        "assert not {'onnxruntime', 'torch', 'onnx'} & set(sys.modules)\n"
        "assert not hasattr(walt_edge, 'Nonsense')"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
