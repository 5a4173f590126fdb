"""What lies on disk, and what happens when something goes wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import cv2
import pytest
from pycocotools.mask import area, toBbox

from walt_edge.contract.errors import UsageError
from walt_train.cli import SCRIPT
from walt_train.rwalt.dataset import ANNOTATIONS, Output, OutputError, write_dataset
from walt_train.rwalt.gl import RenderError
from walt_train.rwalt.street import StreetConfig
from walt_train.rwalt.video import VideoWriter

CONFIG = StreetConfig(seed=4, frames=12, size_wh=(320, 180), preset="busy", light="day")


def written(tmp_path: Path, workers: int) -> dict[str, object]:
    folder = tmp_path / f"workers{workers}"
    counts = list(write_dataset(CONFIG, Output(folder, "png", folder / "street.mp4"), workers))
    assert counts == list(range(1, 13))
    found: dict[str, object] = json.loads((folder / ANNOTATIONS).read_text())
    return found


def test_data_set_and_video_do_not_depend_on_the_workers(tmp_path: Path) -> None:
    one, two = written(tmp_path, 1), written(tmp_path, 2)
    assert one == two
    for name in ("000001.png", "000012.png"):
        images = [(tmp_path / f"workers{n}" / "images" / name).read_bytes() for n in (1, 2)]
        assert images[0] == images[1]
        image = cv2.imread(str(tmp_path / "workers1" / "images" / name))
        assert image is not None
        assert image.shape == (180, 320, 3)
    first = one["annotations"][0]  # type: ignore[index]
    # What COCO's own tool makes of it; its decoder trips over numpy's newer copy rules, its area does not.
    assert int(area(first["segmentation"])) == first["area"]
    assert toBbox(first["segmentation"]).tolist() == first["bbox"]
    with av.open(str(tmp_path / "workers2" / "street.mp4")) as video:
        frames = list(video.decode(video=0))
        assert [round(frame.time * 10) for frame in frames] == list(range(12))
        assert [frame.key_frame for frame in frames] == [i % 10 == 0 for i in range(12)]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["rwalt", "--seed", "1", "--frames", "2", "--size", "160x120", "--out", str(tmp_path), "--preset", "busy"]
    assert SCRIPT.main([*words, "--start", "2026-05-01T10:00:00Z", "--light", "day"]) == 0
    assert "2 frames" in capsys.readouterr().out
    found = json.loads((tmp_path / ANNOTATIONS).read_text())
    assert [image["time"] for image in found["images"]] == [
        "2026-05-01T10:00:00.000000Z",
        "2026-05-01T10:00:00.100000Z",
    ]
    assert (tmp_path / found["images"][0]["file_name"]).is_file()
    assert found["info"]["seed"] == 1
    assert len(found["info"]["content_sha256"]) == 64
    assert {"intrinsics", "rotation", "position"} <= found["cameras"][0].keys()
    assert found["static_segmentation"]["size"] == [120, 160]


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--size", "640"], 2, "WIDTHxHEIGHT"),
        (["--size", "8x8"], 2, "160x120"),
        (["--preset", "empty"], 2, "busy"),
        (["--frames", "0"], 2, "at least 1"),
        (["--start", "noon"], 2, "ISO 8601"),
        (["--workers", "-1"], 2, "workers"),
        (["--meshes", "/nowhere"], 1, r"no .glb file"),
        (["--size", "161x121", "--video", "/tmp/never.mp4"], 2, "even size"),
        (["--out", "/proc/nowhere"], 1, "choose another --out"),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], status: int, message: str
) -> None:
    assert SCRIPT.main(["rwalt", "--frames", "1", "--size", "160x120", "--out", str(tmp_path), *words]) == status
    said = capsys.readouterr().err.strip()
    assert message in said
    assert len(said.splitlines()) == 1
    assert not (tmp_path / ANNOTATIONS).exists()


def test_no_egl_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(**_: object) -> None:
        raise ImportError("libEGL.so not detected")

    monkeypatch.setattr("moderngl.create_context", absent)
    with pytest.raises(RenderError, match="libegl1 libgl1-mesa-dri"):
        list(write_dataset(CONFIG, Output(tmp_path), 1))
    assert not (tmp_path / ANNOTATIONS).exists()
    assert not list(tmp_path.glob(".*"))


def test_an_interrupted_run_leaves_no_labels(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from walt_train.cli import main; main()", "rwalt"]
    arguments = [
        "--frames",
        "1200",
        "--size",
        "160x120",
        "--out",
        str(tmp_path),
        "--workers",
        "2",
        "--video",
        str(tmp_path / "v.mp4"),
    ]
    process = subprocess.Popen([*command, *arguments], stderr=subprocess.PIPE, start_new_session=True)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("images/*.jpg")) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"Traceback" not in said, said.decode()
    assert not (tmp_path / ANNOTATIONS).exists()
    assert not (tmp_path / "v.mp4").exists()
    assert not list(tmp_path.glob(".*"))


def test_an_old_annotation_file_does_not_outlive_a_new_run(tmp_path: Path) -> None:
    (tmp_path / ANNOTATIONS).write_text("{}")
    run = write_dataset(StreetConfig(frames=3, size_wh=(160, 120)), Output(tmp_path, None), 1)
    next(run)
    assert not (tmp_path / ANNOTATIONS).exists()
    del run  # the generator ends as on an error
    assert not (tmp_path / ANNOTATIONS).exists()


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "images").write_text("")
    with pytest.raises(OutputError, match="choose another"):
        next(write_dataset(CONFIG, Output(tmp_path), 1))
    with pytest.raises(UsageError, match="even"):
        VideoWriter(tmp_path / "v.mp4", (3, 4), 10)
