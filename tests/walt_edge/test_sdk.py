from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import walt_edge
from tests.crops import moment_at
from walt_edge.config import Device
from walt_edge.contract.instances import AmodalInstances
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import Mask, PatchMask
from walt_edge.contract.messages import CropHeader, FrameHeader, decode_envelope
from walt_edge.privacy.anonymiser import FILL_BGR, PrivacyError, SealedEnvelope
from walt_edge.sdk import Anonymizer, SealError, seal_crops, seal_frame
from walt_edge.selecting.sampling import is_holdout
from walt_edge.tracking.tracker import AmodalTracker

WH = (320, 240)
HERE = Device(device="walt-test", camera="gate")
CAR = (Label.VEHICLE, 0.9, PatchMask(40, 60, np.ones((40, 80), bool)))


def walker(x: int, y: int, height: int = 100) -> PatchMask:
    """Head, shoulders, legs."""
    mask = np.zeros((height, height // 3), np.uint8)
    width = mask.shape[1]
    cv2.circle(mask, (width // 2, height // 12), height // 12, 1, -1)
    cv2.rectangle(mask, (2, height // 6), (width - 3, height // 2), 1, -1)
    cv2.rectangle(mask, (width // 4, height // 2), (3 * width // 4, height - 1), 1, -1)
    return PatchMask(x, y, mask > 0)


PERSON = (Label.PERSON, 0.9, walker(200, 80))


def instances(*things: tuple[int, float, PatchMask], wh: tuple[int, int] = WH) -> AmodalInstances:
    return AmodalInstances.of_masks(wh, [t[0] for t in things], [t[1] for t in things], [t[2] for t in things])


def hidden_by(whole: AmodalInstances, index: int, rows: int) -> AmodalInstances:
    """The same, with something before the lowest rows of one."""
    patch = whole.amodal[index]
    front = np.zeros_like(patch.mask)
    front[-rows:] = patch.mask[-rows:]
    occluder = list(whole.occluder)
    occluder[index] = PatchMask(patch.x, patch.y, front)
    return replace(whole, occluder=tuple(occluder))


@pytest.fixture(scope="module")
def picture() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 100, (WH[1], WH[0], 3), dtype=np.uint8)


def filled(bgr: NDArray[np.uint8]) -> Mask:
    same: Mask = (bgr == np.array(FILL_BGR, np.uint8)).all(axis=2)
    return same


def kept(patch: PatchMask) -> Mask:
    return patch.full(WH[1], WH[0])


# -- the anonymiser -------------------------------------------------------------------------------------------


def test_what_no_instance_accounts_for_is_filled(picture: NDArray[np.uint8]) -> None:
    image = Anonymizer(number_plates=False).anonymise(picture, instances(CAR))
    assert filled(image.bgr)[~kept(CAR[2])].all()
    assert (image.bgr[kept(CAR[2])] == picture[kept(CAR[2])]).all()
    assert filled(Anonymizer().anonymise(picture, AmodalInstances.empty(WH)).bgr).all()


def test_the_caller_may_vouch_for_the_background(picture: NDArray[np.uint8]) -> None:
    unknown = np.zeros((WH[1], WH[0]), bool)
    unknown[:20] = True
    bgr = Anonymizer().anonymise(picture, instances(PERSON), unknown).bgr
    assert filled(bgr)[:20].all()
    assert not filled(bgr)[40:70].any()


@pytest.mark.parametrize("score", [0.06, 0.9], ids=["hardly seen", "sure"])
@pytest.mark.parametrize("vouched", [True, False])
def test_a_person_keeps_the_legs_and_no_head(picture: NDArray[np.uint8], score: float, vouched: bool) -> None:
    unknown = np.zeros((WH[1], WH[0]), bool) if vouched else None
    bgr = Anonymizer().anonymise(picture, instances((Label.PERSON, score, PERSON[2])), unknown).bgr
    own = kept(PERSON[2])
    head, legs = own.copy(), own.copy()
    head[80 + 20 :] = False
    legs[: 80 + 60] = False
    assert filled(bgr)[head].all()
    assert not filled(bgr)[legs].any()


def test_a_head_that_the_model_believes_behind_something_is_filled_there(picture: NDArray[np.uint8]) -> None:
    seen = instances(PERSON)
    patch = PERSON[2]
    front = np.zeros_like(patch.mask)
    front[:40] = patch.mask[:40]
    covered = replace(seen, occluder=(PatchMask(patch.x, patch.y, front),))
    bgr = Anonymizer().anonymise(picture, covered, np.zeros((WH[1], WH[0]), bool)).bgr
    assert filled(bgr)[80:95, 200:233].all()


@pytest.mark.parametrize(("score", "shown"), [(0.9, True), (0.3, False)])
def test_a_vehicle_that_is_not_sure_counts_as_people(picture: NDArray[np.uint8], score: float, shown: bool) -> None:
    bgr = Anonymizer(number_plates=False).anonymise(picture, instances((Label.VEHICLE, score, CAR[2]))).bgr
    assert filled(bgr)[kept(CAR[2])].any() != shown


@pytest.mark.parametrize(
    "broken",
    [
        lambda bgr: Anonymizer().anonymise(bgr, AmodalInstances.empty((10, 10))),
        lambda bgr: Anonymizer().anonymise(bgr[..., 0], AmodalInstances.empty(WH)),
        lambda bgr: Anonymizer().anonymise(bgr, AmodalInstances.empty(WH), np.zeros((3, 3), bool)),
        lambda bgr: Anonymizer().anonymise(bgr, None),  # type: ignore[arg-type]
        lambda bgr: Anonymizer().anonymise(None, AmodalInstances.empty(WH)),  # type: ignore[arg-type]
    ],
    ids=["of another frame", "grey", "mask of another size", "no instances", "no picture"],
)
def test_there_is_no_image_if_anything_is_wrong(broken: object, picture: NDArray[np.uint8]) -> None:
    with pytest.raises(PrivacyError):
        broken(picture)  # type: ignore[operator]


# -- envelopes ------------------------------------------------------------------------------------------------


def crops(picture: NDArray[np.uint8], seen: AmodalInstances, **more: object) -> list[SealedEnvelope]:
    image = Anonymizer(number_plates=False).anonymise(picture, seen)
    return seal_crops(image, seen, HERE, **more)  # type: ignore[arg-type]


def header_of(one: SealedEnvelope) -> CropHeader:
    header = decode_envelope(one.data).header
    assert isinstance(header, CropHeader)
    return header


def test_what_is_seen_whole_is_sealed(picture: NDArray[np.uint8]) -> None:
    first, second = (header_of(one) for one in crops(picture, instances(CAR, PERSON)))
    assert (first.label, second.label) == (Label.VEHICLE, Label.PERSON)
    assert first.box_xyxy == (40.0, 60.0, 120.0, 100.0)
    assert first.unoccluded_confidence == pytest.approx(0.9)
    assert first.origin.camera == "gate"
    assert first.track_id != second.track_id


@pytest.mark.parametrize(
    "seen",
    [
        hidden_by(instances(CAR), 0, rows=10),
        instances(CAR, (Label.VEHICLE, 0.2, PatchMask(121, 60, np.ones((40, 30), bool)))),
        instances((Label.VEHICLE, 0.9, PatchMask(0, 60, np.ones((40, 80), bool)))),
        instances((Label.VEHICLE, 0.9, PatchMask(50, 60, np.ones((8, 9), bool)))),
        instances((Label.VEHICLE, 0.3, CAR[2])),
        instances((77, 0.9, CAR[2])),
        instances((Label.VEHICLE, 0.9, PatchMask(0, 0, np.zeros((0, 0), bool)))),
    ],
    ids=["hidden", "beside another", "at the border", "small", "unsure", "of no class of ours", "empty"],
)
def test_what_is_not_surely_whole_is_not(picture: NDArray[np.uint8], seen: AmodalInstances) -> None:
    assert crops(picture, seen) == []


def test_a_tracked_object_keeps_its_number(picture: NDArray[np.uint8]) -> None:
    tracker, numbers = AmodalTracker(), []
    for index in range(4):
        tracked = tracker.update(instances(CAR), index / 5)
        numbers += [
            header_of(one).track_id
            for one in crops(picture, instances(CAR), captured=moment_at(float(index)), tracked=tracked)
        ]
    assert len(numbers) == 4
    assert len(set(numbers[1:])) == 1


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_frames_and_crops_of_a_block_are_on_one_side(picture: NDArray[np.uint8], share: float) -> None:
    for at_s in (100.0, 700.0, 1300.0, 1900.0):
        captured = moment_at(at_s)
        image = Anonymizer().anonymise(picture, instances(CAR))
        frame = seal_frame(image, HERE, captured=captured, holdout_share=share).envelope.header
        (crop,) = crops(picture, instances(CAR), captured=captured, holdout_share=share)
        assert isinstance(frame, FrameHeader)
        assert frame.holdout == header_of(crop).holdout == is_holdout("gate", captured, share)


def test_crops_of_another_frame_are_refused(picture: NDArray[np.uint8]) -> None:
    image = Anonymizer().anonymise(picture, instances(CAR))
    with pytest.raises(SealError, match="its own"):
        seal_crops(image, AmodalInstances.empty((64, 64)), HERE)


# -- the package ----------------------------------------------------------------------------------------------


def test_every_part_is_there_by_name() -> None:
    assert set(walt_edge.__all__) <= set(dir(walt_edge))
    for name in walt_edge.__all__:
        assert callable(getattr(walt_edge, name))
    with pytest.raises(AttributeError, match="Nonsense"):
        walt_edge.Nonsense  # noqa: B018


def test_nothing_is_imported_before_it_is_asked_for() -> None:
    code = "import sys, walt_edge; print(sorted({'numpy', 'cv2', 'paho', 'onnxruntime'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.strip() == "[]"
