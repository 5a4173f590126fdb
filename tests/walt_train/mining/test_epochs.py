from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.material import shared_data
from walt_edge.capture.stills import read_still
from walt_edge.vision.drift import steepness
from walt_train.mining.epochs import Placed, Pose, Poses, register

Image = NDArray[np.uint8]
MOVES = [(0.0, 0.0, 0.0), (0.8, -0.6, 0.0), (7.6, -4.2, 0.0), (5.0, 3.0, 1.0)]


def placed(images: list[Image]) -> list[Placed]:
    poses = Poses()
    return [poses.place(image) for image in images]


def two_frames(camera: str) -> tuple[Image, Image]:
    """Two real frames of one camera, half a minute of traffic apart."""
    if camera == "arterial":
        folder = shared_data("cameras/arterial/frames")
        return read_still(folder / "050.jpg"), read_still(folder / "400.jpg")
    film = cv2.VideoCapture(str(shared_data("cameras/plaza/vtest.avi")))
    frames = [np.asarray(film.read()[1], np.uint8) for _ in range(160)]
    return frames[0], frames[-1]


def seen_from(frame: Image, dx: float, dy: float, turn_deg: float) -> tuple[Image, NDArray[np.float64]]:
    """What a camera would see that looks at a part of a frame, moved and turned; and pixel to pixel of the frame."""
    height, width = frame.shape[:2]
    w, h = width - 100, height - 60
    matrix = cv2.getRotationMatrix2D(((w - 1) / 2, (h - 1) / 2), turn_deg, 1.0)
    matrix[:, 2] += [50 + dx, 30 + dy]
    view = cv2.warpAffine(frame, matrix, (w, h), flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP)
    return np.asarray(view, np.uint8), np.vstack([matrix, [0, 0, 1]])


@pytest.mark.parametrize("camera", ["plaza", "arterial"])
@pytest.mark.parametrize(("dx", "dy", "turn"), MOVES)
def test_real_frames_seen_from_another_pose_are_found_to_a_third_of_a_pixel(
    camera: str, dx: float, dy: float, turn: float
) -> None:
    before, after = two_frames(camera)
    reference, here = seen_from(before, 0, 0, 0)
    other, there = seen_from(after, dx, dy, turn)
    pose = register(reference, other)
    truth = (np.linalg.inv(there) @ here)[:2]
    height, width = reference.shape[:2]
    corners = np.array([[0, 0, 1], [width, 0, 1], [0, height, 1], [width, height, 1]], float)
    assert np.linalg.norm(corners @ (truth - pose.matrix).T, axis=1).max() < 0.34
    assert pose.registrable
    assert pose.same == (abs(dx) + abs(dy) + abs(turn) < 0.1)
    assert pose.rotation_deg == pytest.approx(turn, abs=0.05)


def test_a_warped_picture_lies_on_the_reference_and_says_what_it_cannot_show() -> None:
    frame, _ = two_frames("plaza")
    reference, _ = seen_from(frame, 0, 0, 0)
    other, _ = seen_from(frame, 8.4, -5.6, 0.5)
    pose = register(reference, other)
    warped, shown = pose.warp(other)
    before, after = (np.abs(image.astype(int) - reference)[shown].mean() for image in (other, warped))
    assert after < 0.35 * before
    assert 0.9 < shown.mean() < 1.0
    mask = np.zeros(reference.shape[:2], bool)
    mask[100:200, 300:400] = True
    ys, xs = np.nonzero(pose.warp_mask(mask))
    centre = pose.to_reference(np.array([[350.0, 150.0]]))[0]
    assert (xs.mean() + 0.5, ys.mean() + 0.5) == pytest.approx(tuple(centre), abs=0.1)


def test_a_large_movement_and_another_place_begin_new_epochs() -> None:
    plaza, later = two_frames("plaza")
    arterial, _ = two_frames("arterial")
    views = [seen_from(plaza, *move)[0] for move in ((0, 0, 0), (3, 2, 0), (45, 10, 0))]
    views.append(seen_from(later, 44, 11, 0)[0])
    views.append(np.asarray(cv2.resize(arterial, views[0].shape[1::-1]), np.uint8))
    found = placed(views)
    assert [one.epoch for one in found] == [0, 0, 1, 1, 2]
    assert found[3].pose.shift_px == pytest.approx(np.sqrt(2), abs=0.2)
    nearest = found[2].nearest
    assert nearest is not None
    assert nearest.shift_px == pytest.approx(np.hypot(45, 10), abs=0.5)
    assert found[0].nearest is None
    other = register(views[0], views[-1])
    assert not other.certain


def stills(day: str) -> list[Path]:
    return sorted(p for p in shared_data(f"cameras/parking/{day}").iterdir() if p.suffix in (".jpg", ".png"))


def test_a_real_camera_that_moves_a_little_from_day_to_day_stays_in_one_epoch() -> None:
    images = [read_still(stills(day)[0]) for day in ("day0", "day1", "day2", "day3")]
    found = placed(images)
    assert [one.epoch for one in found] == [0, 0, 0, 0]
    shifts = [one.pose.shift_px for one in found]
    assert max(shifts) == pytest.approx(5.7, abs=0.5), shifts
    # What is registered fits better than what is not: no day has to be believed.
    for image, pose in zip(images[1:], [one.pose for one in found[1:]], strict=True):
        raw = register(images[0], image).shift_px
        again = register(images[0], pose.warp(image)[0])
        assert again.shift_px < 0.3 < raw


def texture(seed: int) -> NDArray[np.float64]:
    """Blobs that share nothing with those of another seed."""
    noise = np.random.default_rng(seed).normal(size=(180, 320, 3))
    soft = cv2.GaussianBlur(noise, (0, 0), 3.0)
    return np.asarray(soft / soft.std(), np.float64)


def test_dusk_leads_from_day_to_night() -> None:
    """Nothing that is seen by day is seen by night; a camera that is moved meanwhile is another pose all the same."""
    day, night = texture(1), texture(2)

    def at(share: float, shift: tuple[int, int] = (0, 0)) -> Image:
        mixed = np.roll(day * (1 - share) + night * share, shift, axis=(0, 1))
        return np.clip(128 + 40 * mixed, 0, 255).astype(np.uint8)

    assert not register(at(0), at(1)).certain
    assert [one.epoch for one in placed([at(0), at(1)])] == [0, 1]
    found = placed([at(0), at(0.5), at(1, (2, 3))])
    assert [one.epoch for one in found] == [0, 0, 0]
    assert found[2].pose.shift_px == pytest.approx(np.hypot(2, 3), abs=0.3)
    assert [one.epoch for one in placed([at(0), at(0.5), at(1, (0, 40))])] == [0, 0, 1]


def test_what_is_unknown_in_either_picture_places_nothing() -> None:
    picture = np.clip(128 + 40 * texture(3), 0, 255).astype(np.uint8)
    half = np.zeros(picture.shape[:2], bool)
    half[:, :160] = True
    other = picture.copy()
    other[:, 160:] = np.clip(128 + 40 * texture(4), 0, 255).astype(np.uint8)[:, 160:]
    poses = Poses()
    poses.place(picture, ~np.zeros_like(half))
    pose = poses.place(other, half).pose
    assert pose.same
    assert pose.quality > 0.9


def test_a_pose_needs_no_picture_to_be_still() -> None:
    flat = np.full((90, 160, 3), 90, np.uint8)
    assert not register(flat, flat.copy()).certain
    assert isinstance(register(flat, flat), Pose)


def test_a_pose_is_the_same_to_the_last_bit_wherever_pictures_lie_in_memory() -> None:
    reference, other = two_frames("plaza")
    small = [cv2.resize(picture, (384, 288)) for picture in (reference, other)]  # sizes that a transform likes
    room = np.zeros(small[1].nbytes + 64, np.uint8)
    poses = []
    for offset in (0, 1, 4, 8, 16, 32):
        moved = room[offset : offset + small[1].nbytes].reshape(small[1].shape)
        moved[:] = small[1]
        poses.append(register(small[0], moved).matrix.tobytes())
    assert len(set(poses)) == 1
    grey = np.random.default_rng(2).uniform(0, 255, 4 * 60 * 80 + 64).astype(np.float32)
    placed = [grey[offset : offset + 60 * 80].reshape(60, 80) for offset in (0, 1, 2, 3, 5, 8)]
    for picture in placed:
        assert steepness(picture).tobytes() == steepness(picture.copy()).tobytes()


@pytest.mark.parametrize("turn_deg", [-2.0, -1.0, 1.0, 2.0])
def test_either_way_round_a_turn_is_found_alike(turn_deg: float) -> None:
    frame = two_frames("arterial")[0]
    view, _ = seen_from(frame, 0.0, 0.0, 0.0)
    turned, _ = seen_from(frame, 0.0, 0.0, turn_deg)
    pose = register(view, turned)
    assert pose.certain
    assert abs(pose.rotation_deg) == pytest.approx(abs(turn_deg), abs=0.05)


def test_every_angle_is_compared_with_the_same_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    given, correlate = [], cv2.phaseCorrelate

    def noting(one: Image, other: Image, window: Image) -> object:
        given.append(one.tobytes())
        return correlate(one, other, window)

    monkeypatch.setattr(cv2, "phaseCorrelate", noting)
    first, last = (cv2.resize(frame, (384, 288)) for frame in two_frames("plaza"))  # a size that its transform likes
    register(first, last)
    assert len(given) > 1
    assert len(set(given)) == 1
