"""Clip art as a device sent it: no frames, no trails, no map of what stands before things."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest

from tests.walt_train.mining.archives import WH, street
from walt_edge.contract.clipart import Clip, ClipArt, Plate, read_clipart, write_clipart
from walt_edge.contract.errors import WaltError
from walt_edge.contract.masks import PatchMask, decode_rle
from walt_train.cli import SCRIPT
from walt_train.mining.archive import mine_archive
from walt_train.mining.records import ArchiveRecord, read_record
from walt_train.mining.sources import find_sources

Mined = tuple[Path, ArchiveRecord, list[Path]]


def export(archive: Path, folder: Path) -> ClipArt:
    """What the archive's sources saw, all in one folder with the images beside `clipart.json`, as the store does."""
    folder.mkdir()
    clips: list[Clip] = []
    plates: list[Plate] = []
    for source in sorted((archive / "sources").iterdir()):
        seen = read_clipart(source)
        for image in [clip.image for clip in seen.clips] + [plate.image for plate in seen.plates]:
            shutil.copy(source / image, folder / Path(image).name)
        clips += [msgspec.structs.replace(clip, image=Path(clip.image).name) for clip in seen.clips]
        medians = [plate for plate in seen.plates if plate.source == "median"]
        plates += [msgspec.structs.replace(plate, image=Path(plate.image).name) for plate in medians]
    clips.sort(key=lambda clip: clip.header.captured.utc_us)
    # The first was sent before any plate, and the plate of the last was deleted.
    for place, plate in ((0, ""), (-1, "f" * 64)):
        header = msgspec.structs.replace(clips[place].header, plate=plate)
        clips[place] = msgspec.structs.replace(clips[place], header=header)
    clipart = ClipArt(camera="gate", frame_wh=WH, plates=plates, clips=clips, rejected_by_reason={})
    write_clipart(folder, clipart)
    return clipart


def mine(source: Path, out: Path) -> ArchiveRecord:
    return mine_archive(find_sources([source]), out, camera="gate")


@pytest.fixture(scope="module")
def wired(mined: Mined, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ArchiveRecord]:
    folder = tmp_path_factory.mktemp("wire")
    export(mined[0], folder / "came")
    return folder, mine(folder / "came", folder / "out")


def test_it_is_put_together_as_recordings_are(mined: Mined, wired: tuple[Path, ArchiveRecord]) -> None:
    folder, record = wired
    assert [pose.epoch for pose in record.poses] == [pose.epoch for pose in mined[1].poses]
    assert record.epochs[0].clips >= mined[1].epochs[0].clips  # whose eyes know the pole
    assert record.epochs[1].clips == mined[1].epochs[1].clips
    assert record.epochs[0].until_us < record.epochs[1].until_us
    first, second = read_clipart(folder / "out"), read_clipart(folder / "out" / "epoch-1")
    things = street().things
    for clip in first.clips:  # half of them were seen by a moved camera
        outline = PatchMask(*clip.header.crop_xy, decode_rle(clip.header.mask))
        at_s = clip.header.captured.media_time_s
        assert max(outline.iou(PatchMask.from_full(one.mask(at_s, WH[::-1]))) for one in things) > 0.78
    for clip in [*first.clips, *second.clips]:
        assert clip.confidence is not None
        assert {"sharpness", "completeness"} <= set(clip.header.confidence_parts)
    numbers = [{clip.object for clip in clipart.clips} for clipart in (first, second)]
    assert len(numbers[0]) >= 4
    assert not numbers[0] & numbers[1]


def test_it_may_come_again_and_beside_recordings(
    mined: Mined, wired: tuple[Path, ArchiveRecord], tmp_path: Path
) -> None:
    folder, record = wired
    assert mine(folder / "came", folder / "out") == record == read_record(folder / "out")
    before = sorted(path.name for path in (folder / "came").iterdir())
    shutil.copytree(mined[0] / "sources", tmp_path / "out" / "sources")
    both = find_sources([folder / "came", mined[2][2]], fps=8.0)
    assert [source.clipart for source in both] == [True, False]
    more = mine_archive(both, tmp_path / "out", camera="street")
    assert [epoch.plates for epoch in more.epochs] > [epoch.plates for epoch in record.epochs]
    assert more.frames == 88
    assert sorted(path.name for path in (folder / "came").iterdir()) == before


def test_the_command_takes_it_and_knows_its_camera(
    wired: tuple[Path, ArchiveRecord], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = wired
    assert SCRIPT.main(["mine", str(folder / "came"), "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr()
    assert "came: clip art from 2026-05-01 06:00:" in said.err
    assert read_clipart(tmp_path / "out").camera == "gate"
    shutil.copytree(folder / "came", tmp_path / "other")
    other = msgspec.structs.replace(read_clipart(tmp_path / "other"), camera="yard")
    write_clipart(tmp_path / "other", other)
    words = ["mine", str(folder / "came"), str(tmp_path / "other"), "--out", str(tmp_path / "both")]
    assert SCRIPT.main(words) == 2
    assert "clip art of the cameras gate, yard: mine each apart" in capsys.readouterr().err


def _without_plates(folder: Path) -> None:
    write_clipart(folder, msgspec.structs.replace(read_clipart(folder), plates=[]))


def _empty(folder: Path) -> None:
    write_clipart(folder, msgspec.structs.replace(read_clipart(folder), plates=[], clips=[]))


def _of_other_size(folder: Path) -> None:
    write_clipart(folder, msgspec.structs.replace(read_clipart(folder), frame_wh=(640, 480)))


def _mined_already(folder: Path) -> None:
    (folder / "mining.json").write_text("{}")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (_without_plates, "clips and no plate to stand before"),
        (_empty, "neither clips nor plates"),
        (_of_other_size, "is 320x240, the frames 640x480"),
        (_mined_already, "was made by walt-train mine"),
    ],
)
def test_bad_clip_art_is_one_line(
    damage: object, says: str, wired: tuple[Path, ArchiveRecord], tmp_path: Path
) -> None:
    came = tmp_path / "came"
    shutil.copytree(wired[0] / "came", came)
    damage(came)  # type: ignore[operator]
    with pytest.raises(WaltError, match=says) as caught:
        mine(came, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out" / "clipart.json").exists()


def test_a_folder_is_not_mined_into_itself(wired: tuple[Path, ArchiveRecord]) -> None:
    came = wired[0] / "came"
    with pytest.raises(WaltError, match="is a source itself"):
        mine(came, came)
