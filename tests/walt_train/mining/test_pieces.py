from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from tests.walt_train.mining.archives import crop_header
from walt_edge.contract.clipart import Clip, Cuboid
from walt_edge.contract.masks import encode_rle
from walt_train.mining.epochs import Pose
from walt_train.mining.pieces import ClipPiece

WH = (320, 240)


def piece(left: int, top: int) -> ClipPiece:
    """A car with two points and a 3D box that lie on it, and a point that nobody labelled."""
    mask = np.zeros((50, 60), bool)
    mask[5:45, 5:55] = True
    corners = [(left + 5.0 + x, top + 5.0 + y) for y in (40, 0) for x in (0, 50, 50, 0)]
    clip = Clip(
        header=crop_header(mask, (left, top), frame_wh=WH),
        image="",
        keypoints=[(left + 6.0, top + 20.0, 2), (left + 54.0, top + 30.0, 1), (0.0, 0.0, 0)],
        cuboid=Cuboid(corners_xy=corners, size_m=(4.0, 1.8, 1.5)),
    )
    return ClipPiece(Path(), clip, np.zeros((50, 60, 3), np.uint8), mask)


@pytest.mark.parametrize("turn_deg", [0.0, 1.0])
def test_points_and_boxes_move_with_the_mask(turn_deg: float) -> None:
    angle = np.radians(turn_deg)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    pose = Pose(np.hstack([turn, [[6.0], [-3.0]]]), WH, 0.9)
    before = piece(150, 90)
    after = before.moved(pose)
    assert after is not None
    x0, y0, x1, y1 = after.header.box_xyxy
    assert after.clip.keypoints is not None
    assert after.clip.cuboid is not None
    (nx, ny, seen), (fx, fy, hidden), unknown = after.clip.keypoints
    assert (seen, hidden, unknown) == (2, 1, (0.0, 0.0, 0))
    assert (nx - x0, x1 - fx) == pytest.approx((1, 1), abs=1.5)
    assert (ny - y0, y1 - fy) == pytest.approx((15, 15), abs=1.5)
    corners = np.array(after.clip.cuboid.corners_xy)
    assert [*corners.min(axis=0), *corners.max(axis=0)] == pytest.approx([x0, y0, x1, y1], abs=1.5)


@pytest.mark.parametrize("turn_deg", [0.0, 1.0])
def test_what_the_device_told_of_its_fill_is_believed_and_moves_with_the_mask(turn_deg: float) -> None:
    before = piece(150, 90)
    assert before.header.filled is None
    assert not before.filled.any()  # black is not the anonymiser's colour
    head = np.zeros_like(before.mask)
    head[5:15, 20:40] = True
    told = msgspec.structs.replace(before.header, filled=encode_rle(head))
    before = ClipPiece(Path(), msgspec.structs.replace(before.clip, header=told), before.bgr, before.mask)
    assert (before.filled == head).all()
    angle = np.radians(turn_deg)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    after = before.moved(Pose(np.hstack([turn, [[6.0], [-3.0]]]), WH, 0.9))
    assert after is not None
    assert after.filled.shape == after.mask.shape
    assert after.filled.sum() == pytest.approx(200, rel=0.1)
    (rows, columns), (body_rows, body_columns) = np.nonzero(after.filled), np.nonzero(after.mask)
    from_body = (columns.mean() - body_columns.min(), rows.mean() - body_rows.min())
    assert from_body == pytest.approx((24.5, 4.5), abs=1.5)


def test_a_point_that_leaves_the_frame_is_unknown_and_a_clip_that_does_is_none() -> None:
    aside = Pose(np.array([[1.0, 0, 8.0], [0, 1.0, 0]]), WH, 0.9)  # the picture shows it 8 px to the right
    clip = piece(6, 90)
    assert clip.clip.keypoints is not None
    loose = [(7.0, 100.0, 2), *clip.clip.keypoints[1:]]  # just outside the mask
    changed = ClipPiece(clip.folder, msgspec.structs.replace(clip.clip, keypoints=loose), clip.bgr, clip.mask)
    after = changed.moved(aside)
    assert after is not None
    assert after.clip.keypoints is not None
    assert after.clip.keypoints[0] == (0.0, 0.0, 0)
    assert after.clip.keypoints[1][2] == 1
    assert piece(0, 90).moved(aside) is None
