from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from tests.envelopes import image
from tests.walt_train.loop import scene
from walt_edge.contract.clipart import read_clipart
from walt_edge.contract.messages import CropHeader, Header
from walt_edge.privacy.anonymiser import SealedEnvelope, seal
from walt_train.loop.cli import SCRIPT
from walt_train.loop.store.store import Store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with Store(tmp_path / "store") as store:
        scene.fill_store(store, [scene.plate(), scene.crop(scene.CAR, 1), scene.crop(scene.WALKER, 2)])
    return tmp_path / "store"


def test_it_says_what_is_held(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert SCRIPT.main(["store", "--store", str(folder), "--collect"]) == 0
    said = capsys.readouterr().out
    assert "removed 0 files" in said
    assert f"database {folder}/store.sqlite3, blobs {folder}\n" in said
    assert "2 crops, 1 plates, 0 frames; 0.0 MB; 0 may not train yet\n" in said
    assert "camera cam-1: 2 crops, 1 plates, 0 frames" in said


def test_it_exports_the_only_camera(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert SCRIPT.main(["store", "--store", str(folder), "--export", str(tmp_path / "clipart")]) == 0
    assert "2 clips and 1 plates of camera cam-1" in capsys.readouterr().out
    assert len(read_clipart(tmp_path / "clipart").clips) == 2


def test_no_store_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert SCRIPT.main(["store", "--store", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"walt-loop: no store in {tmp_path}: walt-loop ingest makes one\n"
    assert not list(tmp_path.iterdir())


def test_an_empty_store_has_no_camera_to_export(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Store(tmp_path).close()
    assert SCRIPT.main(["store", "--store", str(tmp_path), "--export", str(tmp_path / "clipart")]) == 2
    assert "one of: none stored yet" in capsys.readouterr().err


def of_camera(camera: str, crops: int, held_out: int = 0) -> list[SealedEnvelope]:
    """A plate, crops that may train, and crops that judge, of a camera and of its device of the same name."""
    plate = scene.plate().envelope.header
    walker = scene.crop(scene.WALKER, 2).envelope.header
    assert isinstance(walker, CropHeader)
    headers: list[Header] = [plate]
    for number in range(crops + held_out):
        captured = msgspec.structs.replace(walker.captured, utc_us=walker.captured.utc_us + number)
        headers.append(msgspec.structs.replace(walker, captured=captured, track_id=number, holdout=number >= crops))
    return list(_sealed(camera, headers))


def _sealed(camera: str, headers: Iterable[Header]) -> Iterable[SealedEnvelope]:
    for header in headers:
        origin = msgspec.structs.replace(header.origin, camera=camera, device=f"walt-{camera}")
        height, width = header.mask.size if isinstance(header, CropHeader) else (scene.HEIGHT, scene.WIDTH)
        grey = np.full((height, width, 3), 90, np.uint8)
        yield seal(msgspec.structs.replace(header, origin=origin), image(grey))


@pytest.fixture
def group(tmp_path: Path) -> Path:
    with Store(tmp_path / "store") as store:
        for camera, crops in {"flood": 60, "gate": 6, "yard": 6, "dock": 6, "lane": 6, "other": 3}.items():
            scene.fill_store(store, of_camera(camera, crops, held_out=2))
    return tmp_path / "store"


def export(folder: Path, out: Path, *words: str, cameras: Iterable[str]) -> int:
    named = [word for camera in cameras for word in ("--camera", camera)]
    return SCRIPT.main(["store", "--store", str(folder), "--export", str(out), *named, *words])


@pytest.mark.parametrize(
    ("words", "flood", "cut", "part"),
    [([], 8, 52, 25), (["--share", "0.5"], 24, 36, 50), (["--share", "1"], 60, 0, 71)],
)
def test_no_camera_gives_a_group_more_than_its_share(
    words: list[str], flood: int, cut: int, part: int, group: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cameras, out = ("flood", "gate", "yard", "dock", "lane"), tmp_path / "out"
    assert export(group, out, *words, cameras=[*cameras, "gate"]) == 0
    first, second, *_ = said = capsys.readouterr().out.splitlines()
    assert len(said) == 5
    assert first == (
        f"{out}/flood: {flood} clips and 1 plates of camera flood, {part} % of the group; {cut} left out by its share"
    )
    assert second.startswith(f"{out}/gate: 6 clips and 1 plates of camera gate, ")
    assert second.endswith(" 0 left out by its share")
    assert sorted(path.name for path in out.iterdir()) == sorted(cameras)
    for camera in cameras:
        found = read_clipart(out / camera)
        assert len(found.clips) == (flood if camera == "flood" else 6)
        assert found.camera == camera
        assert not any(clip.header.holdout for clip in found.clips)
        times = [clip.header.captured.utc_us for clip in found.clips]
        assert times == sorted(times)
    before = (out / "flood" / "clipart.json").read_bytes()
    assert export(group, out, *words, cameras=cameras) == 0
    assert (out / "flood" / "clipart.json").read_bytes() == before


def test_one_camera_gives_all_that_it_has(group: Path, tmp_path: Path) -> None:
    assert export(group, tmp_path / "out", cameras=["flood", "flood"]) == 0
    assert len(read_clipart(tmp_path / "out").clips) == 62


@pytest.mark.parametrize(
    ("words", "cameras", "says"),
    [
        (["--share", "0"], ["gate", "yard"], "--share 0 is not above 0"),
        (["--share", "1.5"], ["gate", "yard"], "--share 1.5 is not above 0"),
        (["--share", "nan"], ["gate", "yard"], "--share nan is not above 0"),
        (["--share", "0.5"], ["gate"], "--share is of a group"),
        ([], ["gate", "nowhere"], "no crop of nowhere may train (cameras: dock, flood, gate, lane, other, yard)"),
        ([], ["gate", "../up"], "no crop of ../up may train"),
    ],
)
def test_what_is_no_group_is_one_line(
    words: list[str], cameras: list[str], says: str, group: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(group, tmp_path / "out", *words, cameras=cameras) in (1, 2)
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_what_lay_there_does_not_train_beside_a_group(
    group: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(group, tmp_path / "out", cameras=["gate", "yard"]) == 0
    assert export(group, tmp_path / "out", cameras=["gate", "dock"]) in (1, 2)
    assert "holds yard, which is none of the cameras: give an empty folder" in capsys.readouterr().err
