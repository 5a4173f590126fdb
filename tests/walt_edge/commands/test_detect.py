from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.detectors import SIZE_WH, picture, write_colour_bundle
from tests.fakes.scenes import Scene, Thing, walk
from tests.films import write_film
from walt_edge import packaged
from walt_edge.amodal_pictures import AmodalPictures, draw_instances
from walt_edge.cli import SCRIPT
from walt_edge.contract.instances import AmodalInstances
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import PatchMask
from walt_edge.contract.predictions import frame_instances, read_predictions
from walt_edge.detector import Detector
from walt_edge.privacy.anonymiser import FILL_BGR, Anonymiser

pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_colour_bundle(tmp_path_factory.mktemp("bundle") / "colours.walt")


@pytest.fixture(autouse=True)
def no_face_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WALT_HOME", str(tmp_path / "home"))


def detect(*words: object) -> int:
    return SCRIPT.main(["detect", *(str(word) for word in words)])


def test_an_image(tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cv2.imwrite(str(tmp_path / "street.png"), picture(0, 3, scale=2))
    out = tmp_path / "deep" / "instances.json"
    assert detect("--model", model, "--input", tmp_path / "street.png", "--out", out) == 0
    assert f"2 instances in 1 frames by demo-1: {out}" in capsys.readouterr().out
    predictions = read_predictions(out)
    assert predictions.model_sha256 == Detector.load(model).sha256
    assert predictions.model == "demo-1"
    (frame,) = predictions.frames
    assert (frame.file_name, frame.frame, frame.width, frame.height) == ("street.png", 0, 640, 384)
    again = Detector.load(model).predict(picture(0, 3, scale=2))
    assert (frame_instances(frame).amodal_masks == again.amodal_masks).all()


def test_a_folder_has_an_entry_for_every_still_in_natural_order(tmp_path: Path, model: Path) -> None:
    for name, places in (("2", (0,)), ("10", (0, 1)), ("1", ())):
        cv2.imwrite(str(tmp_path / f"{name}.png"), picture(*places))
    assert detect("--model", model, "--input", tmp_path, "--out", tmp_path / "o.json") == 0
    frames = read_predictions(tmp_path / "o.json").frames
    assert [(frame.file_name, len(frame.instances)) for frame in frames] == [
        ("1.png", 0),
        ("2.png", 1),
        ("10.png", 2),
    ]
    assert [frame.frame for frame in frames] == [0, 1, 2]


def test_a_video(tmp_path: Path, model: Path) -> None:
    film = write_film(tmp_path / "film.mp4", 12)
    assert detect("--model", model, "--input", film, "--out", tmp_path / "o.json") == 0
    frames = read_predictions(tmp_path / "o.json").frames
    assert [frame.frame for frame in frames] == list(range(12))
    assert all((frame.width, frame.height, frame.file_name) == (320, 192, "") for frame in frames)


def test_a_single_images_picture_shows_the_objects_alone(tmp_path: Path, model: Path) -> None:
    image = np.random.default_rng(0).integers(0, 40, (SIZE_WH[1], SIZE_WH[0], 3), dtype=np.uint8)
    image = np.maximum(image, picture(3))
    cv2.imwrite(str(tmp_path / "street.png"), image)
    shown = tmp_path / "shown"
    words = ("--model", model, "--input", tmp_path / "street.png", "--out", tmp_path / "o.json", "--pictures", shown)
    assert detect(*words) == 0
    found = cv2.imread(str(shown / "street.jpg"))
    assert found is not None
    assert np.abs(found[140:, :, :].astype(int) - FILL_BGR).max() < 12
    assert (found[60:80, 140:200, 2] > 150).all()


def test_a_recordings_pictures_show_the_street_and_no_heads(tmp_path: Path, model: Path) -> None:
    scene = Scene(wh=(480, 320), things=[Thing(walk((-30, 260), (60, 0), 1.0), height=110, colour=(30, 220, 40))])
    folder = tmp_path / "street"
    folder.mkdir()
    for frame in scene.frames(12):
        cv2.imwrite(str(folder / f"{frame.index:04d}.png"), frame.bgr)
    shown = tmp_path / "shown"
    assert detect("--model", model, "--input", folder, "--out", tmp_path / "o.json", "--pictures", shown) == 0
    assert len(list(shown.iterdir())) == 120
    found = cv2.imread(str(shown / "0060.jpg"))
    assert found is not None
    person = scene.visible(0, 6.0)
    head = person.copy()
    head[np.flatnonzero(person.any(axis=1))[0] + 18 :] = False
    assert np.abs(found[head].astype(int) - FILL_BGR).mean() < 15
    background = scene.background()
    assert np.abs(found[:100].astype(int) - background[:100]).mean() < 6


def test_hidden_parts_are_hatched_in_their_classs_colour() -> None:
    frame = np.full((60, 80, 3), 90, np.uint8)
    whole = PatchMask(10, 10, np.ones((40, 20), bool))
    front = PatchMask(10, 30, np.ones((20, 20), bool))
    instances = AmodalInstances(
        (80, 60),
        np.array([[10, 10, 30, 50]], np.float32),
        np.array([Label.VEHICLE], np.int64),
        np.array([0.9], np.float32),
        (whole,),
        (front,),
        (PatchMask(0, 0, np.zeros((0, 0), bool)),),
    )
    image = Anonymiser()(frame, [], np.zeros((60, 80), bool))
    drawn = draw_instances(image, instances)
    assert (drawn[32:48, 12:28] != 90).any(axis=2).all()
    assert (drawn[14:28, 12:28] == 90).all()
    assert (image.bgr == 90).all()


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("street.png", b"no picture", "not an image that can be decoded"),
        ("street.mp4", b"no film", "not a video that FFmpeg can read"),
        ("none.mp4", None, "does not exist"),
        ("none.png", None, "does not exist"),
    ],
)
def test_wrong_input_is_one_line(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes | None, says: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert detect("--model", model, "--input", tmp_path / name, "--out", tmp_path / "o.json") == 1
    assert_one_line(capsys, says)
    assert not (tmp_path / "o.json").exists()


def assert_one_line(capsys: pytest.CaptureFixture[str], says: str) -> None:
    err = capsys.readouterr().err.strip()
    assert says in err
    assert len(err.splitlines()) == 1


def test_an_empty_folder_is_one_line(tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert detect("--model", model, "--input", tmp_path / "empty", "--out", tmp_path / "o.json") == 1
    assert_one_line(capsys, "holds no .jpg, .jpeg, .png files")


def test_without_a_model_the_packaged_one_is_taken(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cv2.imwrite(str(tmp_path / "street.png"), picture(0))
    words = ("--input", tmp_path / "street.png", "--out", tmp_path / "o.json")
    monkeypatch.setattr(packaged, "GENERAL_MODEL", model)
    assert detect(*words) == 0
    capsys.readouterr()
    monkeypatch.setattr(packaged, "GENERAL_MODEL", tmp_path / "none.walt")
    assert detect(*words) == 1
    assert_one_line(capsys, "no model was named")


def test_a_damaged_bundle_is_one_line(tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = bytearray(model.read_bytes())
    data[200] ^= 1
    (tmp_path / "m.walt").write_bytes(data)
    assert detect("--model", tmp_path / "m.walt", "--input", tmp_path, "--out", tmp_path / "o.json") == 1
    assert_one_line(capsys, "damaged")


@pytest.mark.parametrize(("out", "status"), [("folder", 2), ("file/o.json", 1)])
def test_where_nothing_can_be_written_is_said_before_the_work(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str], out: str, status: int
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"")
    assert detect("--model", model, "--input", tmp_path / "none.mp4", "--out", tmp_path / out) == status
    assert_one_line(capsys, "give a")


def test_a_full_disk_is_one_line(tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cv2.imwrite(str(tmp_path / "street.png"), picture(0))
    assert detect("--model", model, "--input", tmp_path / "street.png", "--out", "/dev/full/o.json") == 1
    assert_one_line(capsys, "give another --out")


def test_a_live_camera_is_for_another_command(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert detect("--model", model, "--input", "rtsp://host/stream", "--out", "o.json") == 2
    assert_one_line(capsys, "walt-edge run")


def test_a_place_that_cannot_be_learned_shows_the_objects_alone(tmp_path: Path, model: Path) -> None:
    images: list[NDArray[np.uint8]] = [picture(3) for _ in range(3)]
    pictures = AmodalPictures(tmp_path)
    pictures.learn(Scene().frames(0.2))
    path = pictures.add("one", images[0], Detector.load(model).predict(images[0]))
    assert path is not None
    found = cv2.imread(str(path))
    assert found is not None
    assert np.abs(found[150:].astype(int) - FILL_BGR).max() < 12
