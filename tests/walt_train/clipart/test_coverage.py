from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest

from tests.clipart import FRAME_WH, Thing, some_things, write_scene
from walt_edge.contract.clipart import read_clipart, write_clipart
from walt_edge.contract.labels import Label
from walt_train.cli import SCRIPT
from walt_train.clipart.compose import compose
from walt_train.clipart.coverage import clips_stood, composites_put, covered_share, ground_area
from walt_train.clipart.material import load_material
from walt_train.clipart.settings import ComposeSettings


def test_the_ground_is_the_hull_of_the_contacts_and_masks_are_counted(tmp_path: Path) -> None:
    corners = [(60, 100), (260, 100), (260, 160), (60, 160)]
    things = [Thing(Label.PERSON, x, row, track) for track, (x, row) in enumerate(corners, start=1)]
    material = load_material(write_scene(tmp_path, things))
    stood = clips_stood(material)
    ground = ground_area(stood)
    assert abs(int(ground.sum()) - 200 * 60) < 3 * 260
    assert ground[130, 160]
    assert not ground[90, 160]
    assert stood.masks[Label.PERSON].max() == 1
    areas = sum(int((cutout.alpha >= 128).sum()) for cutout in material.cutouts)
    assert stood.masks[Label.PERSON].sum() == areas
    assert 0 < covered_share(stood, ground) < 0.2


def test_spread_covers_more_of_the_ground_than_original(tmp_path: Path) -> None:
    material = load_material(write_scene(tmp_path, some_things(9, 9)))
    ground = ground_area(clips_stood(material))
    shares = [
        covered_share(composites_put(material, ComposeSettings(placement=placement), 120), ground)
        for placement in ("original", "mixed", "spread")
    ]
    assert shares[0] < shares[1]
    assert shares[0] <= covered_share(clips_stood(material), ground)
    assert shares[2] > 0.8
    again = composites_put(material, ComposeSettings(placement="spread"), 120)
    assert covered_share(again, ground) == shares[2]


def test_composites_stand_where_compose_puts_them_where_there_are_real_frames_too(tmp_path: Path) -> None:
    things = [replace(thing, hour=3 if thing.track % 2 else 15) for thing in some_things(40, 20)]
    folder = write_scene(tmp_path, things, hours=(3, 15))
    clipart = read_clipart(folder)
    frames = [msgspec.structs.replace(clipart.plates[1], id=f"f{number}", source="frame") for number in range(5)]
    write_clipart(folder, msgspec.structs.replace(clipart, plates=[*clipart.plates, *frames]))
    material = load_material(folder)
    settings = ComposeSettings(objects=(1, 1), placement="original", crop_chance=0.0, frame_chance=0.9)
    put = {
        tuple(xy) for found in composites_put(material, settings, 12).contacts_xy.values() for xy in found.tolist()
    }
    for index in range(12):
        for thing in compose(material, settings, 0, 0, index).objects:
            x0, _, x1, y1 = thing.amodal.box_xyxy
            assert ((x0 + x1) // 2, y1 - 1) in put


def test_the_command_draws_and_tells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = write_scene(tmp_path / "clipart", some_things()), tmp_path / "new" / "coverage.png"
    assert SCRIPT.main(["coverage", "--clipart", str(folder), "--out", str(out), "--draws", "60"]) == 0
    found = re.fullmatch(
        r"ground covered by 60 composites: original (\d+)%, mixed (\d+)%: (.*)\n", capsys.readouterr().out
    )
    assert found
    assert int(found[1]) < int(found[2])
    picture = cv2.imread(str(out))
    assert picture is not None
    assert picture.shape[1] > 2 * 640 > picture.shape[0]
    assert picture.shape[0] > 2 * 640 * FRAME_WH[1] / FRAME_WH[0] / 2
    assert np.ptp(picture) > 200


@pytest.mark.parametrize(
    ("more", "status", "told"),
    [
        (["--draws", "0"], 2, "0 composites: give --draws 1 or more"),
        (["--out", "coverage.jpg"], 2, "give a name that ends in .png"),
        (["--clipart", "nowhere"], 1, "no clipart.json in nowhere"),
        (["--out", "/dev/null/coverage.png"], 1, "cannot write /dev/null/coverage.png"),
    ],
)
def test_what_cannot_be_done_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], status: int, told: str
) -> None:
    folder = write_scene(tmp_path, some_things())
    args = ["coverage", "--clipart", str(folder), "--out", str(tmp_path / "c.png"), "--draws", "2", *more]
    assert SCRIPT.main(args) == status
    assert told in capsys.readouterr().err
