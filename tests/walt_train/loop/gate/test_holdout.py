from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from walt_edge.contract.errors import WaltError
from walt_train.loop.cli import SCRIPT
from walt_train.loop.gate.annotated import AnnotatedError
from walt_train.loop.gate.holdout import (
    FILE_NAME,
    Holdout,
    HoldoutError,
    Scene,
    Shown,
    Source,
    freeze,
    holdout_of,
    read_holdout,
)

NOW_US = 1_795_000_000_000_000
BEGIN = "2026-11-23T06:00:00+00:00"
BEGIN_US = 1_795_413_600_000_000
RWALT = {"rwalt_version": 1, "seed": 7, "preset": "busy"}
SWALT = {"swalt": {"detector": "yolo", "detector_sha256": "d" * 64, "timeline_sha256": "e" * 64, "objects": 3}}


def truth(folder: Path, info: dict[str, Any], *, time: str = "2026-11-23T06:00:0{}Z", camera: str = "cam-1") -> Path:
    """Three pictures, a second apart."""
    (folder / "images").mkdir(parents=True)
    images = []
    for number in range(3):
        (folder / f"images/{number}.png").write_bytes(b"picture %d" % number)
        images.append({"file_name": f"images/{number}.png", "camera": camera, "time": time.format(number)})
    (folder / "annotations.json").write_text(json.dumps({"images": images, "annotations": [], "info": info}))
    return folder


def human(folder: Path, **more: Any) -> Holdout:
    more = {"devices": ["north/walt-1"], "made_by": "anna"} | more
    return freeze(folder, source=Source.HUMAN, made_us=NOW_US, **more)


def test_a_rendered_street_says_itself_what_it_is(tmp_path: Path) -> None:
    folder = truth(tmp_path / "street", RWALT, camera="rwalt-busy-7")
    found = holdout_of(folder, NOW_US)
    assert (found.name, found.source, found.scene) == ("street", Source.RENDERED, Scene(seed=7, preset="busy"))
    assert (found.cameras, found.devices, found.made_by, found.made_us) == (("rwalt-busy-7",), (), "rwalt 1", NOW_US)
    assert [frame.captured_us for frame in found.frames] == [None] * 3
    assert read_holdout(folder) == found == holdout_of(folder, NOW_US + 9)


def test_what_people_drew(tmp_path: Path) -> None:
    folder = truth(tmp_path / "drawn", {})
    told = {"images/1.png": Shown(crop="c" * 64, tracks=("north/walt-1/boot/4",), captured_us=5)}
    found = human(folder, shown=told, name="gate-north")
    assert found.cameras == ("cam-1",)
    assert [frame.captured_us for frame in found.frames] == [BEGIN_US, 5, BEGIN_US + 2_000_000]
    assert (found.frames[1].crop, found.frames[1].tracks) == ("c" * 64, ("north/walt-1/boot/4",))
    assert found == read_holdout(folder) == human(folder, shown=told, name="gate-north", made_by="anna")


def test_what_stood_still_names_its_detector(tmp_path: Path) -> None:
    folder = truth(tmp_path / "still", SWALT, time="2000-01-01T00:00:0{}+00:00", camera="swalt")
    words: dict[str, Any] = {"source": Source.STATIONARY, "made_us": NOW_US, "devices": ["north/walt-1"]}
    with pytest.raises(HoldoutError, match=r"nobody knows when images/0\.png was captured .*--begin TIME"):
        freeze(folder, cameras=["cam-1"], **words)
    found = freeze(folder, cameras=["cam-1"], begin_us=BEGIN_US, **words)
    assert (found.made_by, found.made_by_sha256, found.cameras) == ("yolo", "d" * 64, ("cam-1",))
    assert [frame.captured_us for frame in found.frames] == [BEGIN_US + n * 1_000_000 for n in range(3)]


@pytest.mark.parametrize("file", ["images/2.png", "annotations.json"])
def test_one_changed_byte_is_found(tmp_path: Path, file: str) -> None:
    folder = truth(tmp_path / "drawn", {})
    human(folder)
    path = folder / file
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(HoldoutError, match=f"{file} was changed after it was frozen: restore it"):
        holdout_of(folder, NOW_US)
    path.unlink()
    with pytest.raises(HoldoutError, match=f"cannot read .*{file}"):
        read_holdout(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"source": "rendered"},
        {"devices": ["south/walt-2"]},
        {"made_by": "bob"},
        {"made_by_sha256": ""},
        {"frames": []},
        {"cameras": ["cam-2"]},
    ],
)
def test_what_it_says_of_itself_is_frozen_too(tmp_path: Path, changes: dict[str, Any]) -> None:
    folder = truth(tmp_path / "still", SWALT)
    freeze(folder, source=Source.STATIONARY, made_us=NOW_US, devices=["north/walt-1"])
    path = folder / FILE_NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(HoldoutError, match=r"holdout\.json was changed after it was frozen"):
        read_holdout(folder)


@pytest.mark.parametrize(
    ("info", "words", "message"),
    [
        ({}, {"source": Source.RENDERED}, "was not rendered by walt-train rwalt"),
        (RWALT, {"source": Source.HUMAN}, "was rendered: --source human does not fit"),
        (SWALT, {"source": Source.HUMAN}, "was made by the detector yolo: expected --source stationary"),
        ({}, {"source": Source.HUMAN, "devices": []}, "Give --device SITE/DEVICE and --by NAME"),
        ({}, {"source": Source.HUMAN, "made_by": ""}, "Give --device SITE/DEVICE and --by NAME"),
        ({}, {"source": Source.HUMAN, "cameras": ["a", "b"]}, "is of camera 'cam-1': give --camera"),
        ({}, {"source": Source.HUMAN, "shown": {"images/9.png": Shown()}}, "no picture images/9.png"),
    ],
)
def test_what_cannot_be_frozen(tmp_path: Path, info: dict[str, Any], words: dict[str, Any], message: str) -> None:
    folder = truth(tmp_path / "truth", info)
    defaults: dict[str, Any] = {"made_us": NOW_US, "devices": ["n/d"], "made_by": "anna"}
    with pytest.raises(HoldoutError, match=message):
        freeze(folder, **defaults | words)
    assert not (folder / FILE_NAME).exists()


def test_it_is_frozen_once(tmp_path: Path) -> None:
    folder = truth(tmp_path / "drawn", {})
    first = human(folder)
    assert freeze(folder, source=Source.HUMAN, made_us=7, devices=["north/walt-1"], made_by="anna") == first
    with pytest.raises(HoldoutError, match="is frozen as human 'drawn': freeze another folder"):
        human(folder, made_by="bob")


def test_nobody_knows_where_it_comes_from(tmp_path: Path) -> None:
    folder = truth(tmp_path / "truth", {})
    with pytest.raises(HoldoutError, match="does not say where its truth comes from: walt-loop holdout freeze"):
        holdout_of(folder, NOW_US)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is no file of annotations"),
        ('{"images": []}', "names no picture"),
        ('{"images": [{"file_name": "a"}, {"file_name": "a"}]}', "names no picture, or one twice"),
    ],
)
def test_annotations_that_are_none(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "annotations.json").write_text(content)
    with pytest.raises(AnnotatedError, match=message):
        holdout_of(tmp_path, NOW_US)


def test_a_picture_outside_the_folder(tmp_path: Path) -> None:
    folder = truth(tmp_path / "truth", {})
    content = (folder / "annotations.json").read_text().replace("images/1.png", "../1.png")
    (folder / "annotations.json").write_text(content)
    with pytest.raises(HoldoutError, match=r"\.\./1\.png lies outside it"):
        human(folder)


@pytest.mark.parametrize("data", [b"", b"{", b'{"name": "x"}', b"\xff"])
def test_a_malformed_holdout(tmp_path: Path, data: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(data)
    with pytest.raises(HoldoutError, match=r"holdout\.json is malformed"):
        read_holdout(tmp_path)
    with pytest.raises(HoldoutError, match="is not frozen"):
        read_holdout(tmp_path / "elsewhere")


def test_a_rendered_street_that_cannot_be_written_judges_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(path: Path, data: bytes) -> Path:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("walt_train.loop.gate.holdout.write_whole", full)
    assert holdout_of(truth(tmp_path / "street", RWALT), NOW_US).source is Source.RENDERED
    assert "changes to it will not be found" in caplog.text
    with pytest.raises(HoldoutError, match="Read-only file system"):
        human(truth(tmp_path / "drawn", {}))


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drawn, street = truth(tmp_path / "drawn", {}, time=""), truth(tmp_path / "street", RWALT)
    words = ["--source", "human", "--device", "north/walt-1", "--by", "anna", "--begin", BEGIN]
    assert SCRIPT.main(["holdout", "freeze", str(drawn), *words]) == 1
    assert "nobody knows when images/0.png was captured" in capsys.readouterr().err
    stamped = truth(tmp_path / "stamped", {}, time="2000-01-01T00:00:0{}Z")
    assert SCRIPT.main(["holdout", "freeze", str(stamped), *words]) == 0
    assert SCRIPT.main(["holdout", "freeze", str(street), "--source", "rendered"]) == 0
    capsys.readouterr()
    assert SCRIPT.main(["holdout", "list", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert "stamped, human, 3 frames of cam-1 (north/walt-1), by anna, sha256 " in lines[0]
    assert SCRIPT.main(["holdout", "check", str(stamped), str(street)]) == 0
    (stamped / "images/1.png").write_bytes(b"other")
    capsys.readouterr()
    assert SCRIPT.main(["holdout", "check", str(stamped), str(street)]) == 1
    said = capsys.readouterr()
    assert "stamped/images/1.png was changed" in said.err
    assert "street, rendered" in said.out


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["freeze", "DIR"], 2, "say where its truth comes from"),
        (["freeze", "DIR", "DIR", "--source", "human"], 2, "freeze one folder"),
        (["freeze", "DIR", "--source", "human", "--begin", "soon"], 2, "--begin soon is not an ISO 8601 time"),
        (["freeze", "DIR", "--source", "human", "--device", "x"], 2, "'x' is not SITE/DEVICE"),
        (["list", "DIR"], 1, "holds no frozen holdout"),
        (["check", "DIR"], 1, "is not frozen"),
    ],
)
def test_what_cannot_be_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], status: int, message: str
) -> None:
    folder = str(truth(tmp_path / "truth", {}))
    assert SCRIPT.main(["holdout", *(folder if word == "DIR" else word for word in words)]) in (status, 1)
    [line] = capsys.readouterr().err.splitlines()
    assert message in line


def test_hashes_have_the_form_of_hashes(tmp_path: Path) -> None:
    folder = truth(tmp_path / "drawn", {})
    human(folder)
    path = folder / FILE_NAME
    content = json.loads(path.read_text())
    content["frames"][0]["sha256"] = "../../etc/passwd"
    path.write_text(json.dumps(content))
    with pytest.raises(WaltError, match="malformed"):
        read_holdout(folder)
    assert msgspec.json.encode(Source.HUMAN) == b'"human"'
