from __future__ import annotations

import logging
import pickle
import shutil
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest

from tests.walt_train.mining.archives import FPS, WH, street
from walt_edge.camera import CameraError
from walt_edge.capture.stills import read_still
from walt_edge.contract.clipart import ClipArt, read_clipart
from walt_edge.contract.errors import UsageError, WaltError
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import PatchMask, decode_rle
from walt_train.mining import archive, work
from walt_train.mining.archive import mine_archive
from walt_train.mining.recordings import Mined
from walt_train.mining.records import ArchiveRecord
from walt_train.mining.sources import find_sources
from walt_train.mining.work import Task, is_done, mine_source


def mine(paths: list[Path], out: Path) -> ArchiveRecord:
    return mine_archive(find_sources(paths, fps=FPS), out, camera="street")


def outlines(clipart: ClipArt) -> list[PatchMask]:
    return [PatchMask(*clip.header.crop_xy, decode_rle(clip.header.mask)) for clip in clipart.clips]


def test_sources_become_epochs_and_small_moves_are_undone(mined: tuple[Path, ArchiveRecord, list[Path]]) -> None:
    out, result, _ = mined
    assert [pose.epoch for pose in result.poses] == [0, 0, 1]
    assert result.poses[1].moved
    assert result.poses[1].shift_px == pytest.approx(np.hypot(3.4, 2.3), abs=0.4)
    assert [epoch.folder for epoch in result.epochs] == [".", "epoch-1"]
    first, second = read_clipart(out), read_clipart(out / "epoch-1")
    assert len(first.clips) > len(second.clips) > 0
    plates = [read_still(out / plate.image) for plate in first.plates if plate.source == "median"]
    known = np.logical_and.reduce(
        [decode_rle(plate.header.known) for plate in first.plates if plate.source == "median"]
    )
    inner = cv2.erode(known.astype(np.uint8), np.ones((15, 15), np.uint8)) > 0
    assert np.abs(plates[0].astype(int) - plates[1])[inner].mean() < 2.0
    truth = street()
    for clip, outline in zip(first.clips, outlines(first), strict=True):
        times = clip.header.captured.media_time_s
        best = max(
            outline.iou(PatchMask.from_full(truth.things[i].mask(times, WH[::-1]))) for i in range(len(truth.things))
        )
        assert best > 0.78, (clip.header.captured, clip.header.box_xyxy)


def test_every_object_counts_once_and_carries_its_parts(mined: tuple[Path, ArchiveRecord, list[Path]]) -> None:
    out, result, _ = mined
    clipart = read_clipart(out)
    numbers = {clip.object for clip in clipart.clips}
    assert numbers <= {1, 2, 3, 4, 5, 6}
    assert result.epochs[0].objects == len(numbers) >= 4
    others = {clip.object for clip in read_clipart(out / "epoch-1").clips}
    assert not others & numbers, "folders of an archive may be mixed"
    for clip in clipart.clips:
        assert {"sharpness", "night", "compactness", "completeness", "truncated"} <= set(clip.header.confidence_parts)
        kinds = {other.header.label for other in clipart.clips if other.object == clip.object}
        assert len(kinds) == 1
    assert {clip.header.label for clip in clipart.clips} == {Label.PERSON, Label.VEHICLE}


def test_a_pole_is_written_with_the_row_at_which_it_stands(mined: tuple[Path, ArchiveRecord, list[Path]]) -> None:
    out, _, _ = mined
    things = read_clipart(out).static
    assert things, "objects passed behind it in two recordings"
    largest = max(things, key=lambda thing: int(decode_rle(thing.mask).sum()))
    rows, columns = np.nonzero(decode_rle(largest.mask))
    assert 148 <= columns.min() <= columns.max() <= 159
    # Its foot ends above the walkers' feet, and all of them passed behind: it must stand before them.
    assert rows.max() < 196
    assert largest.ground_y >= 204


def test_real_frames_are_backgrounds_with_nobody_in_them(mined: tuple[Path, ArchiveRecord, list[Path]]) -> None:
    out, _, _ = mined
    frames = [plate for plate in read_clipart(out).plates if plate.source == "frame"]
    assert frames
    empty = street().background().astype(int)
    for plate in frames[:1]:
        picture = read_still(out / plate.image).astype(int)
        far = np.abs(cv2.GaussianBlur((picture - empty).astype(np.float32), (0, 0), 2.0)).max(axis=2)
        assert np.quantile(far[decode_rle(plate.header.known)], 0.998) < 14
        assert plate.header.samples == 1


def test_what_is_done_is_not_done_again_and_a_kill_leaves_nothing_half_written(
    mined: tuple[Path, ArchiveRecord, list[Path]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    out, result, paths = mined
    monkeypatch.setattr(work, "mine_recording", lambda *_, **__: pytest.fail("mined again"))
    assert mine(paths, out) == result

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(work, "write_clipart", killed)
    monkeypatch.setattr(work, "mine_recording", lambda *_, **__: Mined())
    task = Task(source=find_sources(paths[:1], fps=FPS)[0], camera="c", out=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        mine_source(task)
    assert not is_done(task)
    assert not task.folder.exists()


def test_what_was_mined_otherwise_is_neither_taken_nor_dropped_in_silence(
    mined: tuple[Path, ArchiveRecord, list[Path]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out, _, paths = mined
    own = tmp_path / "out"
    shutil.copytree(out / "sources", own / "sources")
    sources = find_sources(paths[:1], fps=FPS)
    with pytest.raises(UsageError, match=r"as camera street by motion, now it is camera road.*another --out"):
        mine_archive(sources, own, camera="road")
    with pytest.raises(UsageError, match=r"by motion, now it is camera street by eyes\.onnx"):
        mine_archive(sources, own, camera="street", teacher="eyes.onnx")
    assert not (own / "clipart.json").exists()
    with caplog.at_level(logging.WARNING):
        mine_archive(sources, own, camera="street")
    assert f"{paths[1]}; {paths[2]} was mined into" in caplog.text
    assert str(paths[0]) not in caplog.text


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda folder: folder / "nothing.mp4", "does not exist"),
        (lambda folder: _folder(folder / "empty", {}), "holds no"),
        (lambda folder: _folder(folder / "bad", {"0.png": b"no image"}), "not an image"),
    ],
)
def test_a_source_that_cannot_be_read_is_one_line(make: object, says: str, tmp_path: Path) -> None:
    with pytest.raises(CameraError, match=says) as caught:
        find_sources([make(tmp_path)])  # type: ignore[operator]
    assert "\n" not in str(caught.value)


def _folder(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def _png(wh: tuple[int, int]) -> bytes:
    return bytes(cv2.imencode(".png", np.full((wh[1], wh[0], 3), 90, np.uint8))[1])


def test_a_picture_of_another_size_in_the_middle_stops_the_run_and_leaves_nothing(tmp_path: Path) -> None:
    images = {f"{index}.png": _png((64, 48)) for index in range(12)} | {"20.png": _png((80, 48))}
    path = _folder(tmp_path / "frames", images)
    with pytest.raises(CameraError, match="80x48"):
        mine([path], tmp_path / "out")
    assert not (tmp_path / "out" / "clipart.json").exists()
    assert not any((tmp_path / "out").rglob("clipart.json"))
    other = _folder(tmp_path / "other", {"1.png": _png((96, 48))})
    with pytest.raises(CameraError, match="one camera has one size"):
        find_sources([path, other])
    with pytest.raises(UsageError, match="twice"):
        find_sources([path, path])
    (tmp_path / "again").symlink_to(path)
    with pytest.raises(UsageError, match="twice"):
        find_sources([path, tmp_path / "again"])


def test_what_an_earlier_run_left_and_this_one_does_not_name_is_removed(
    mined: tuple[Path, ArchiveRecord, list[Path]], tmp_path: Path
) -> None:
    out, _, paths = mined
    own = tmp_path / "out"
    shutil.copytree(out, own)
    notes = [own / "crops" / "notes.txt", own / "epoch-1" / "notes.txt", own / "epoch-of-my-own" / "clipart.json"]
    for path in notes:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    result = mine(paths[:1], own)
    assert [epoch.folder for epoch in result.epochs] == ["."]
    clipart = read_clipart(own)
    named = {clip.image for clip in clipart.clips} | {plate.image for plate in clipart.plates}
    assert {str(path.relative_to(own)) for path in own.glob("*/*.jpg")} == named
    assert [path.read_text() for path in notes] == ["mine"] * 3
    assert [path.name for path in (own / "epoch-1").iterdir()] == ["notes.txt"]
    (own / "epoch-1" / "notes.txt").unlink()
    mine(paths, own)
    mine(paths[:1], own)
    assert not (own / "epoch-1").exists()


def test_a_recording_in_which_nothing_moves_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    calm = bytes(cv2.imencode(".png", street().background())[1])
    path = _folder(tmp_path / "calm", {f"{index}.png": calm for index in range(30)})
    with pytest.raises(archive.NothingMinedError, match="nothing moved"):
        mine([path], tmp_path / "out")
    short = _folder(tmp_path / "short", {f"{index}.png": _png((64, 48)) for index in range(3)})
    with caplog.at_level(logging.WARNING), pytest.raises(WaltError, match="usable frames"):
        mine([short], tmp_path / "out2")
    assert "gives nothing" in caplog.text


def test_time_is_taken_from_names_and_otherwise_assumed_and_said(tmp_path: Path) -> None:
    named = _folder(tmp_path / "2026-05-01", {"2026-05-01_06-00-00.png": _png((64, 48))})
    undated = _folder(tmp_path / "frames", {"1.png": _png((64, 48))})
    sources = find_sources([undated, named])
    assert [source.paths[0] for source in sources] == [named, undated]
    assert [source.assumed for source in sources] == [
        "the date in its name, as UTC",
        "when its file was last changed",
    ]
    told = find_sources([undated, named], begin_us=1_000_000)
    assert (told[0].paths[0], told[0].assumed) == (undated, "--begin")
    with pytest.raises(UsageError, match="0 have no date"):
        find_sources([named], begin_us=5)
    dated = {f"2026-05-01_06-{minute:02d}-00.png": _png((64, 48)) for minute in (0, 5, 10)}
    (stills,) = find_sources([_folder(tmp_path / "lot", dated)])
    assert stills.stills
    assert [frame.captured.media_time_s for frame in stills.frames()] == [0.0, 300.0, 600.0]


def test_the_record_is_json(mined: tuple[Path, ArchiveRecord, list[Path]]) -> None:
    out, result, _ = mined
    assert msgspec.json.decode((out / "mining.json").read_bytes(), type=ArchiveRecord) == result
    assert read_still(out / "overview.jpg").shape[1] == 1536


def test_a_task_travels_to_other_processes(mined: tuple[Path, ArchiveRecord, list[Path]]) -> None:
    out, result, paths = mined
    sources = find_sources(paths, fps=FPS)
    task = Task(source=sources[0], camera="street", out=out)
    again = pickle.loads(pickle.dumps((mine_source, task)))
    assert again == (mine_source, task)
    assert again[0](again[1]) == task.folder
    assert mine_archive(sources, out, camera="street", workers=2) == result
