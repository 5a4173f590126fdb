"""Pictures that calibrate: what a camera's activations are measured on."""

from __future__ import annotations

from pathlib import Path
from typing import Final, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from walt_export.errors import ExportError

CALIBRATION: Final = "calibration"
"""The folder beside a checkpoint; `walt-train` writes it."""
_SUFFIXES = {".jpg", ".jpeg", ".png"}
_JUDGED_EVERY = 4

Image = NDArray[np.uint8]
_T = TypeVar("_T")


def read_calibration(folder: Path) -> dict[str, Image]:
    """The pictures of a folder by file name, in the order of their names: (H, W, 3) uint8 BGR, any size.

    Raises:
        ExportError: There are none, or one cannot be read.
    """
    paths = sorted(path for path in folder.glob("*") if path.suffix.lower() in _SUFFIXES) if folder.is_dir() else []
    if not paths:
        raise ExportError(
            f"no pictures to calibrate INT8 on (*.jpg, *.png) in {folder}: walt-train writes them; "
            "or give --calibrate FOLDER with some 32 anonymised frames of the camera"
        )
    return {path.name: _read(path) for path in paths}


def halves(pictures: dict[str, _T]) -> tuple[dict[str, _T], dict[str, _T]]:
    """What calibrates and what judges: of four pictures one is held back; a single picture only calibrates."""
    judges = {name: picture for index, (name, picture) in enumerate(pictures.items(), 1) if not index % _JUDGED_EVERY}
    return {name: picture for name, picture in pictures.items() if name not in judges}, judges


def _read(path: Path) -> Image:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ExportError(f"cannot read the calibration picture {path}: {error.strerror}") from error
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if picture is None:
        raise ExportError(f"the calibration picture {path} cannot be decoded: take it out, or write it again")
    return np.asarray(picture, np.uint8)
