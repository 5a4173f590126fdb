from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import msgspec
import numpy as np
import onnx
import pytest
import torch
from walt_export.cli import SCRIPT

from tests.checkpoints import EVEN_LEVEL, SCORE_THRESHOLD, SIZE_WH, noise, small_net, write_small_checkpoint
from tests.detectors import Together
from walt_edge import Detector
from walt_edge.contract.bundle import MODEL, Bundle, Limits, write_bundle
from walt_edge.contract.labels import Label
from walt_edge.contract.predictions import Predictions
from walt_edge.golden import difference
from walt_edge.runtimes.network import look
from walt_edge.runtimes.walt_onnx import WaltOnnx


def export(*words: object) -> int:
    return SCRIPT.main([str(word) for word in words])


def assert_one_line(capsys: pytest.CaptureFixture[str], says: str) -> None:
    err = capsys.readouterr().err.strip()
    assert says in err
    assert len(err.splitlines()) == 1


def test_a_bundle_says_what_it_is_and_where_it_came_from(bundle: Path, checkpoint: Path) -> None:
    read = Bundle.read(bundle)
    manifest, sha256 = read.manifest, hashlib.sha256((checkpoint / "checkpoint.pt").read_bytes()).hexdigest()
    assert manifest.name == f"demo-{sha256[:8]}"
    assert manifest.size_wh == SIZE_WH
    assert manifest.labels == [Label.PERSON, Label.VEHICLE]
    assert (manifest.score_threshold, manifest.candidates, manifest.opset) == (SCORE_THRESHOLD, 30, 20)
    assert manifest.lineage.checkpoint_sha256 == sha256
    assert (manifest.lineage.data_sha256, manifest.lineage.seed) == ("d" * 64, 7)
    assert manifest.golden == ["golden/0.png", "golden/1.png"]
    assert (manifest.precision, manifest.pictures) == ("float32", 1)
    assert manifest.outputs[:4] == ["boxes", "scores", "labels", "maps"]
    assert manifest.operators == ["AmodalNMS_v2_k30", "OcclusionLayers_v1", "OcclusionOrder_v1"]
    assert read.files["licence.txt"].startswith(b"MIT License")
    assert set(read.files) == {
        "model.onnx",
        "licence.txt",
        *(f"golden/{i}.{suffix}" for i in (0, 1) for suffix in ("png", "json")),
    }
    assert manifest.parity["mask_iou"] == 1
    assert manifest.parity["box_px"] <= 0.1


def test_golden_answers_hold_something_and_a_detector_repeats_them(bundle: Path) -> None:
    detector = Detector.load(bundle, device="cpu", threads=2)
    detector.check_golden()
    read = Bundle.read(bundle)
    size_wh, threshold = read.manifest.size_wh, read.manifest.score_threshold
    runtime = WaltOnnx(read.files[MODEL], size_wh=size_wh, device="cpu", threads=2)
    for index in (0, 1):
        (frame,) = msgspec.json.decode(read.files[f"golden/{index}.json"], type=Predictions).frames
        found = look(runtime, noise(index, scale=2), size_wh=size_wh, score_threshold=threshold, strictly=True)
        assert len(frame.instances) == len(found) > 0


def test_the_same_checkpoint_gives_the_same_bundle_in_another_process(
    bundle: Path, checkpoint: Path, tmp_path: Path
) -> None:
    code = (
        f"import sys; from walt_export.cli import SCRIPT; sys.exit(SCRIPT.main({['--out', str(tmp_path / 'b')]!r}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"WALT_HOME": str(checkpoint.parent)},
        capture_output=True,
        text=True,
        check=True,
        timeout=200,
    )
    assert hashlib.sha256((tmp_path / "b").read_bytes()).hexdigest() == Bundle.read(bundle).sha256
    assert f"{checkpoint / 'checkpoint.pt'}: " in done.stdout  # the newest was taken, and named
    assert len(done.stdout.strip().splitlines()) == 1


def test_verify_repeats_the_golden_pictures(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export("verify", bundle) == 0
    assert "2 golden pictures agree by CPUExecutionProvider" in capsys.readouterr().out


def test_verify_names_the_picture_that_disagrees(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    read = Bundle.read(bundle)
    answer = msgspec.json.decode(read.files["golden/1.json"], type=Predictions)
    none = msgspec.structs.replace(answer, frames=[msgspec.structs.replace(answer.frames[0], instances=[])])
    write_bundle(tmp_path / "m.walt", read.manifest, {**read.files, "golden/1.json": msgspec.json.encode(none)})
    assert export("verify", tmp_path / "m.walt") == 1
    assert_one_line(capsys, "golden/1.png of demo-")


def test_verify_finds_one_changed_byte(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = bytearray(bundle.read_bytes())
    data[len(data) // 2] ^= 4
    (tmp_path / "m.walt").write_bytes(data)
    assert export("verify", tmp_path / "m.walt") == 1
    assert_one_line(capsys, "damaged")


@pytest.fixture(scope="module")
def batched(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle and a TensorRT folder of everything that can be asked for."""
    out = tmp_path_factory.mktemp("options") / "all.walt"
    licence = out.with_name("terms.txt")
    licence.write_text("Only on Tuesdays.")
    words = ["--max-latency-ms", 500, "--dynamic-batch", "--paste", "--opset", 19, "--fp16", "--size", "192x144"]
    with pytest.raises(SystemExit):
        export(checkpoint, "--out", out, "--opset", 22)
    assert export(checkpoint, "--out", out, *words[:-1], "192x160") == 1, "other proportions than it learned"
    assert export(checkpoint, "--out", out, *words[:-1], "200x150") == 1, "not a multiple of 32"
    assert not out.exists()
    words[-1] = "256x192"
    assert export(checkpoint, "--out", out, *words, "--trt", "--licence", licence) == 0
    return out


def test_what_is_asked_for_is_in_the_bundle(batched: Path) -> None:
    read = Bundle.read(batched)
    manifest = read.manifest
    assert (manifest.size_wh, manifest.opset, manifest.precision) == ((256, 192), 19, "float16")
    assert (manifest.pictures, manifest.outputs[-2:]) == (0, ["pictures", "masks"])
    assert read.files["licence.txt"] == b"Only on Tuesdays."
    assert manifest.promised == Limits(latency_ms=500.0)
    assert manifest.gflops > Bundle.read(batched).manifest.gflops / 2
    Detector.load(batched, device="cpu").check_golden()


def test_pictures_are_looked_at_together_as_each_alone(batched: Path) -> None:
    read = Bundle.read(batched)
    runtime = Together(read.files["model.onnx"], size_wh=read.manifest.size_wh, device="cpu", threads=1)
    detector = Detector(read, runtime=runtime)
    encoded = [np.frombuffer(read.files[name], np.uint8) for name in read.manifest.golden]
    images = [np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8) for data in encoded]
    threshold = detector.manifest.score_threshold / 2
    together = detector.predict_many(images, score_threshold=threshold)
    assert len(images) > 1
    assert sum(map(len, together)) > 0
    for image, found in zip(images, together, strict=True):
        alone = detector.predict(image, score_threshold=threshold)
        assert difference(found, alone, score_threshold=threshold) == ""


def test_for_tensorrt_there_is_a_folder_beside_the_bundle(batched: Path) -> None:
    folder = batched.with_suffix(".trt")
    recipe = json.loads((folder / "build.json").read_text())
    assert (recipe["precision"], recipe["batch"]["max"]) == ("fp16", 8)
    graph = onnx.load(folder / "model.onnx")
    assert not graph.functions
    assert {node.domain for node in graph.graph.node} == {""}
    assert not list(folder.glob("*.engine"))
    files = Bundle.read(batched).files
    assert {name: data for name, data in files.items() if name.startswith("tensorrt/")} == {
        f"tensorrt/{name}": (folder / name).read_bytes() for name in ("model.onnx", "build.json")
    }


def test_a_bundle_is_made_int8_without_its_checkpoint(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames, out = tmp_path / "frames", tmp_path / "int8.walt"
    frames.mkdir()
    for index in range(8):
        cv2.imwrite(str(frames / f"{index}.png"), noise(index))
    for words, says in (
        (("--int8", "--trt"), "give its checkpoint for --trt"),
        ((), "can be made --int8 and nothing else: give its checkpoint"),
        (("--int8", "--calibrate", tmp_path / "none"), "--calibrate FOLDER"),
    ):
        assert export(bundle, "--out", out, *words) != 0
        assert_one_line(capsys, says)
        assert not out.exists()
    assert export(bundle, "--out", out, "--int8", "--calibrate", frames, "--max-memory-mb", 400) == 0
    made, before = Bundle.read(out), Bundle.read(bundle)
    assert (made.manifest.precision, made.manifest.promised.memory_mb) == ("int8", 400)
    assert (made.manifest.name, made.manifest.lineage) == (before.manifest.name, before.manifest.lineage)
    assert made.manifest.parity["int8_f1"] >= 0.98
    assert b"QuantizeLinear" in made.files[MODEL]
    assert made.files["licence.txt"] == before.files["licence.txt"]
    Detector.load(out, device="cpu", threads=1).check_golden()
    capsys.readouterr()
    assert export(out, "--out", tmp_path / "again.walt", "--int8", "--calibrate", frames) == 1
    assert_one_line(capsys, "is int8 already")


def test_int8_without_pictures_to_calibrate_on(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(checkpoint, "--out", tmp_path / "m.walt", "--int8", "--calibrate", tmp_path) == 1
    assert_one_line(capsys, "--calibrate FOLDER")
    assert not list(tmp_path.iterdir())


def test_a_graph_that_differs_is_not_bundled_but_drawn(
    tmp_path: Path,
    checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    bundle: Path,
) -> None:
    other = small_net()
    with torch.no_grad():
        other.box_head.deltas.bias.add_(0.05)
    monkeypatch.setattr("walt_export.bundle.export_onnx", lambda net, options: Bundle.read(bundle).files[MODEL])
    monkeypatch.setattr("walt_export.bundle.at_size", lambda net, size_wh: other)
    assert export(checkpoint, "--out", tmp_path / "m.walt") == 1
    assert_one_line(capsys, "golden/0.png, object 1 (")
    assert [path.name for path in tmp_path.iterdir()] == ["m-refused.png"]
    drawn = cv2.imread(str(tmp_path / "m-refused.png"))
    assert drawn is not None
    assert drawn.shape[1] == 2 * 2 * SIZE_WH[0]


def test_without_a_checkpoint_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WALT_HOME", str(tmp_path))
    assert export("--out", tmp_path / "m.walt") == 2
    assert_one_line(capsys, "no checkpoint.pt under")


@pytest.mark.parametrize("content", [None, b"", b"no checkpoint", b"PK\x03\x04 half a checkpoint"])
def test_a_checkpoint_that_is_none_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None
) -> None:
    path = tmp_path / "checkpoint.pt"
    if content is not None:
        path.write_bytes(content)
    assert export(path, "--out", tmp_path / "m.walt") == 1
    assert_one_line(capsys, str(path))
    assert not (tmp_path / "m.walt").exists()


def test_without_golden_pictures_there_is_no_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_small_checkpoint(tmp_path / "fit", golden=0)
    assert export(folder) == 1
    assert_one_line(capsys, "--golden FOLDER")
    assert not (folder / "model.walt").exists()


def test_a_golden_picture_that_is_none_is_named(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cv2.imwrite(str(tmp_path / "0.png"), noise(0))
    (tmp_path / "1.png").write_bytes(b"no picture")
    assert export(checkpoint, "--out", tmp_path / "m.walt", "--golden", tmp_path) == 1
    assert_one_line(capsys, "golden/1.png cannot be decoded")


def test_a_golden_picture_that_shows_nothing_is_worth_a_word(
    tmp_path: Path, checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    even = np.full((SIZE_WH[1], SIZE_WH[0], 3), EVEN_LEVEL, np.uint8)
    cv2.imwrite(str(tmp_path / "0.png"), even)
    assert export(checkpoint, "--out", tmp_path / "m.walt", "--golden", tmp_path) == 0
    assert "finds nothing in any golden picture" in caplog.text
    Detector.load(tmp_path / "m.walt", device="cpu").check_golden()


def test_where_nothing_can_be_written(tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert export(checkpoint, "--out", tmp_path) == 2
    assert_one_line(capsys, "is a folder")
    assert export(checkpoint, "--out", tmp_path / "file" / "m.walt") == 1
    assert_one_line(capsys, "give another --out")


def test_the_newest_checkpoint_is_the_one_written_last(tmp_path: Path, checkpoint: Path) -> None:
    from walt_export.commands.bundle import newest_checkpoint

    for index, name in enumerate(("b", "a")):
        (tmp_path / name).mkdir()
        shutil.copy(checkpoint / "checkpoint.pt", tmp_path / name)
        os.utime(tmp_path / name / "checkpoint.pt", (1000 + index, 1000 + index))
    assert newest_checkpoint(tmp_path) == tmp_path / "a" / "checkpoint.pt"
