"""Truth from objects that stand still: by hand, and against the exact truth of rendered streets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.detectors import write_colour_bundle
from tests.walt_train.metrics.boards import PERSON, SIZE_WH, VEHICLE, Box, found, rectangle
from walt_edge.contract.instances import AmodalInstances
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import PatchMask
from walt_edge.contract.predictions import Predictions, frame_prediction, write_predictions
from walt_edge.privacy.anonymiser import FILL_BGR
from walt_train.cli import SCRIPT
from walt_train.data import open_samples
from walt_train.data.layers import sample_layers
from walt_train.metrics.matching import Truth
from walt_train.metrics.origin import read_origin
from walt_train.metrics.swalt import SwaltError, SwaltSettings, Timeline, fuse, still_objects
from walt_train.metrics.swalt_frames import StillFrame, hidden_frames
from walt_train.metrics.swalt_refine import refined
from walt_train.metrics.swalt_watch import learned_ground, seen_by_motion
from walt_train.rwalt.dataset import Output, write_dataset
from walt_train.rwalt.gl import RenderError
from walt_train.rwalt.street import StreetConfig

SETTINGS = SwaltSettings()
CAR: Box = (100, 60, 200, 110)
WALKER: Box = (140, 40, 160, 120)  # hides a fifth of the car

Thing = tuple[Label, PatchMask]


def seen(*things: Thing, scores: Sequence[float] = ()) -> AmodalInstances:
    """What a detector of visible masks gives."""
    labels, masks = [int(label) for label, _ in things], [mask for _, mask in things]
    return AmodalInstances.of_masks(SIZE_WH, labels, scores or [1.0] * len(things), masks)


def timeline(frames: Sequence[AmodalInstances], seconds: float = 2.0) -> Timeline:
    return Timeline.of(frames, [round(index * seconds * 1e6) for index in range(len(frames))])


def behind(box: Box, front: Box) -> PatchMask:
    """What is left of a rectangle behind another one."""
    whole = rectangle(box)
    return PatchMask(whole.x, whole.y, whole.mask & ~rectangle(front).window(box))


def passed() -> list[AmodalInstances]:
    """A parked car, and three frames in which somebody walks by."""
    whole = seen((VEHICLE, rectangle(CAR)))
    hidden = seen((VEHICLE, behind(CAR, WALKER)), (PERSON, rectangle(WALKER)))
    return [whole] * 6 + [hidden] * 3 + [whole] * 6


def test_who_passes_hides_what_is_behind() -> None:
    line = timeline(passed())
    (car,) = still_objects(line, SETTINGS)
    assert (car.label, car.amodal.box_xyxy, car.amodal.area) == (VEHICLE, CAR, 5000)
    assert (len(car.whole), car.interval_us) == (12, (0, 28_000_000))
    frames = list(hidden_frames(line, [car], SETTINGS))
    assert [frame.frame for frame in frames] == [6, 7, 8]
    assert frames[0].passing.intersection(car.amodal) == 1000
    assert [thing.track_id for thing in frames[0].objects] == [0]


def test_a_piece_that_is_left_of_an_object_does_not_hide_it() -> None:
    bus: Box = (100, 20, 178, 115)
    frames = passed()
    frames[7] = seen((VEHICLE, behind(CAR, bus)), (VEHICLE, rectangle(bus)))
    line = timeline(frames)
    (car,) = still_objects(line, SETTINGS)
    assert 7 not in car.members
    frame = next(frame for frame in hidden_frames(line, [car], SETTINGS) if frame.frame == 7)
    assert frame.passing.intersection(car.amodal) == 78 * 50


def test_of_two_that_stand_the_nearer_hides_the_farther() -> None:
    far: Box = (180, 60, 280, 110)
    only_far, only_near = [seen((VEHICLE, rectangle(far)))] * 8, [seen((VEHICLE, rectangle(CAR)))] * 8
    both = seen((VEHICLE, behind(far, CAR)), (VEHICLE, rectangle(CAR)))
    line = timeline([*only_far, *[both] * 4, *only_near, *[both] * 2, *only_far])
    objects = still_objects(line, SwaltSettings(misses=100))
    assert {thing.amodal.box_xyxy for thing in objects} == {CAR, far}
    frames = [frame for frame in hidden_frames(line, objects, SETTINGS) if len(frame.objects) == 2]
    assert len(frames) >= 4
    for frame in frames:
        assert [thing.amodal.box_xyxy for thing in frame.objects] == [CAR, far]


def shifted(box: Box, by: int) -> PatchMask:
    return rectangle((box[0] + by, box[1], box[2] + by, box[3]))


@pytest.mark.parametrize(
    "frames",
    [
        pytest.param([seen((VEHICLE, rectangle(CAR)))] * 4, id="too few"),
        pytest.param([seen((VEHICLE, rectangle((0, 60, 100, 110))))] * 20, id="cut by the border"),
        pytest.param([seen((VEHICLE, rectangle((1, 60, 101, 110))))] * 20, id="a pixel from the left border"),
        pytest.param(
            [seen((VEHICLE, rectangle((SIZE_WH[0] - 101, 60, SIZE_WH[0] - 1, 110))))] * 20,
            id="a pixel from the right border",
        ),
        pytest.param(
            [seen((VEHICLE, rectangle(CAR)), (PERSON, rectangle((201, 60, 220, 110))), scores=[1, 0.01])] * 20,
            id="touched by the unsurest neighbour",
        ),
        pytest.param([seen((VEHICLE, shifted(CAR, 9 * (i % 2)))) for i in range(20)], id="sways"),
        pytest.param([seen((VEHICLE, rectangle((10, 10, 40, 40))))] * 20, id="too small"),
        pytest.param([seen((VEHICLE, rectangle(CAR)), scores=[0.1])] * 20, id="unsure"),
        pytest.param(([seen((VEHICLE, rectangle(CAR)))] * 4 + [seen()] * 3) * 5, id="comes and goes"),
    ],
)
def test_what_gives_no_truth(frames: list[AmodalInstances]) -> None:
    assert still_objects(timeline(frames), SETTINGS) == []


def test_poles_and_classes_that_are_not_asked_for() -> None:
    line = timeline(passed())
    pole = rectangle((150, 0, 154, 200)).full(SIZE_WH[1], SIZE_WH[0])
    assert still_objects(line, SETTINGS, static=pole) == []
    assert still_objects(line, SETTINGS, [PERSON]) == []
    assert len(still_objects(line, SETTINGS, [VEHICLE], np.zeros_like(pole))) == 1


def test_a_vote_forgives_noise_and_leaves_outliers_out() -> None:
    rng = np.random.default_rng(0)
    masks = []
    for _ in range(15):
        x0, y0, x1, y1 = (int(value) for value in np.array(CAR) + rng.integers(-1, 2, 4))
        masks.append(rectangle((x0, y0, x1, y1)))
    mask, voters = fuse([*masks, shifted(CAR, 25)], SETTINGS, VEHICLE)
    assert voters == list(range(15))
    assert mask.iou(rectangle(CAR)) > 0.97
    assert fuse(masks, SETTINGS, PERSON)[1] == [], "people who sway have no one mask"


def test_malformed_timelines() -> None:
    with pytest.raises(SwaltError, match="increasing"):
        Timeline.of([seen(), seen()], [5, 5])
    with pytest.raises(SwaltError, match="0 frames"):
        Timeline.of([], [])


def write_timeline(folder: Path, frames: Sequence[AmodalInstances], model: str = "frozen") -> Path:
    """Pictures and predictions, as `walt-edge detect` leaves them."""
    (folder / "frames").mkdir(parents=True, exist_ok=True)
    records = []
    for index, instances in enumerate(frames):
        name = f"{index:04d}.png"
        image = np.full((SIZE_WH[1], SIZE_WH[0], 3), index, np.uint8)
        assert cv2.imwrite(str(folder / "frames" / name), image)
        records.append(frame_prediction(instances, index, name))
    write_predictions(folder / "timeline.json", Predictions(model=model, frames=records))
    return folder / "timeline.json"


def test_the_command_writes_what_evaluate_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    bundle = write_colour_bundle(tmp_path / "colours.walt")
    path = write_timeline(tmp_path, passed(), model="demo-1")
    words = ["swalt", "--timeline", str(path), "--frames", str(tmp_path / "frames"), "--fps", "0.5"]
    assert SCRIPT.main([*words, "--out", str(tmp_path / "truth"), "--detector-sha256", "ab" * 32]) == 0
    assert "3 frames" in capsys.readouterr().out
    assert "no pole or tree was learned" in caplog.text
    samples = open_samples(tmp_path / "truth", split="all")
    assert len(samples) == 3
    sample = samples.sample(0, 0)
    assert (sample.frame, int(sample.image_bgr[0, 0, 0])) == (6, 6)
    x0, y0, x1, _ = WALKER
    assert (sample.image_bgr[y0 : y0 + 10, x0:x1] == FILL_BGR).all(), "the passer-by's head is written to no disk"
    assert (sample.image_bgr[CAR[3] - 10 : CAR[3], CAR[0] : CAR[0] + 20] == 6).all()
    (layers,) = sample_layers(sample)
    assert layers.occlusion_fraction == pytest.approx(0.2)
    origin = read_origin(tmp_path / "truth").swalt
    assert origin is not None
    assert (origin.detector, origin.detector_sha256, origin.objects) == ("demo-1", "ab" * 32, 1)
    assert origin.static == "none"
    out = tmp_path / "out.json"
    evaluate = ["evaluate", "--model", str(bundle), "--out", str(out)]
    # Another file of the same name may be judged, the detector itself may not.
    assert SCRIPT.main([*evaluate, "--data", str(tmp_path / "truth")]) == 0
    assert '"false_boxes":0' in out.read_text()  # who is not in the truth is not wrong
    assert SCRIPT.main([*words, "--out", str(tmp_path / "unnamed")]) == 0
    capsys.readouterr()
    assert SCRIPT.main([*evaluate, "--data", str(tmp_path / "unnamed")]) == 1
    error = capsys.readouterr().err
    assert "made this truth" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        (["--fps", "0"], 2, "--fps"),
        (["--timeline", "none.json"], 1, "none.json"),
        (["--frames", "nowhere"], 1, "nowhere"),
        (["--whole", "50"], 1, "longer timeline"),
        (["--occluders", "EMPTY"], 1, "lacks frame 0"),
        (["--static", "none.png"], 1, "none.png"),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: list[str], status: int, message: str
) -> None:
    path = write_timeline(tmp_path, passed())
    write_predictions(tmp_path / "empty.json", Predictions(model="m", frames=[]))
    change = [str(tmp_path / "empty.json") if word == "EMPTY" else word for word in change]
    words = ["--timeline", str(path), "--frames", str(tmp_path / "frames"), "--fps", "0.5"]
    assert SCRIPT.main(["swalt", *words, "--out", str(tmp_path / "truth"), *change]) == status
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "truth" / "annotations.json").exists()


def test_another_detector_may_see_who_passes() -> None:
    car = seen((VEHICLE, rectangle(CAR)))
    line = timeline([car] * 12)
    objects = still_objects(line, SETTINGS)
    others = [found() for _ in range(12)]
    others[5] = seen((PERSON, rectangle(WALKER)), (VEHICLE, rectangle(CAR)))
    assert [frame.frame for frame in hidden_frames(line, objects, SETTINGS, others)] == [5]


def exact(street: Path) -> tuple[list[AmodalInstances], list[Truth], list[NDArray[np.uint8]]]:
    """Exact visible masks, exact truth and pictures of a rendered street."""
    samples = open_samples(street, split="all")
    visible, truths, pictures = [], [], []
    for index in range(len(samples)):
        sample = samples.sample(0, index)
        things = [
            (thing.label, layers.visible)
            for thing, layers in zip(sample.objects, sample_layers(sample), strict=True)
            if layers.visible.area
        ]
        height, width = sample.image_bgr.shape[:2]
        labels, masks = [int(label) for label, _ in things], [mask for _, mask in things]
        visible.append(AmodalInstances.of_masks((width, height), labels, [1.0] * len(masks), masks))
        truths.append(Truth.of(sample))
        pictures.append(sample.image_bgr)
    return visible, truths, pictures


def agreement(frames: Sequence[StillFrame], truths: Sequence[Truth]) -> Mapping[int, list[float]]:
    """By standing object, the IoU of its fused mask with the exact one of each frame."""
    ious: dict[int, list[float]] = {}
    for frame in frames:
        for thing in frame.objects:
            best = max(thing.amodal.iou(mask) for mask in truths[frame.frame].amodal)
            ious.setdefault(thing.track_id, []).append(best)
    return ious


FRAMES, STEP_S = 24, 2.0


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A time-lapse in which cars stop at a red light, while others pass before them."""
    folder = tmp_path_factory.mktemp("street")
    config = StreetConfig(seed=24, frames=FRAMES, size_wh=(480, 270), fps=1 / STEP_S, light="day")
    try:
        assert max(write_dataset(config, Output(folder, "jpg"), workers=1)) == FRAMES
    except RenderError as error:
        pytest.skip(str(error))
    return folder


def test_from_exact_visible_masks_the_truth_is_exact(street: Path) -> None:
    visible, truths, _ = exact(street)
    line = timeline(visible, STEP_S)
    objects = still_objects(line, SETTINGS)
    ious = agreement(list(hidden_frames(line, objects, SETTINGS)), truths)
    assert len(ious) >= 1
    assert sum(map(len, ious.values())) >= 5
    assert np.mean([iou for each in ious.values() for iou in each]) >= 0.99


def test_from_silhouettes_of_motion_it_is_close(street: Path) -> None:
    _, truths, shown = exact(street)

    def pictures(places: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
        return (shown[place] for place in places)

    line = timeline(seen_by_motion(pictures, FRAMES, 1 / STEP_S), STEP_S)
    portraits = refined(still_objects(line, SETTINGS), pictures, learned_ground(pictures, FRAMES))
    objects = [one.thing for one in portraits]
    assert len(objects) >= 1
    ious = [
        max(thing.amodal.iou(mask) for frame in thing.whole for mask in truths[frame].amodal) for thing in objects
    ]
    assert np.mean(ious) >= 0.9
