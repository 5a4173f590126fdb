from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.material import shared_data
from walt_edge.camera import open_camera
from walt_edge.privacy.anonymiser import Anonymiser, PrivacyError
from walt_edge.privacy.faces import CENTERFACE_FILE, CenterFace, find_faces, models_folder


def test_without_the_model_there_is_no_detector(tmp_path: Path) -> None:
    assert find_faces(tmp_path) is None


def test_a_damaged_model_is_an_error_and_not_no_model(tmp_path: Path) -> None:
    (tmp_path / CENTERFACE_FILE).write_bytes(b"half of a mod")
    with pytest.raises(PrivacyError, match="damaged or another file: walt-edge models pull centerface"):
        find_faces(tmp_path)
    with pytest.raises(PrivacyError, match="cannot be read"):
        CenterFace(tmp_path / "missing.onnx")


def test_faces_of_the_real_camera_are_found() -> None:
    faces = find_faces(models_folder())
    if faces is None:
        pytest.skip("optional model not pulled: walt-edge models pull centerface")
    with open_camera(str(shared_data("cameras/plaza/vtest.avi"))) as camera:
        frame = camera.read(timeout_s=1)
        while frame is not None and frame.index < 560:
            frame = camera.read(timeout_s=1)
    assert frame is not None
    boxes = faces(frame.bgr)
    assert boxes.ndim == 2
    assert boxes.shape[1] == 4
    # A man stands there and looks to his right, his head 13 pixels wide.
    assert ((boxes[:, 0] < 657) & (boxes[:, 2] > 657) & (boxes[:, 1] < 311) & (boxes[:, 3] > 311)).any()
    image = Anonymiser(faces)(frame.bgr, [], np.zeros(frame.bgr.shape[:2], dtype=bool))
    assert image.anonymiser == "1 faces=centerface+head"
    assert image.filled[311, 657]
