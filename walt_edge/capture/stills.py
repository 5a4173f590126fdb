"""Pictures in folders: which there are, in which order, and their pixels; no decoder of video is needed for them."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from walt_edge.camera import CameraError

STILL_SUFFIXES = (".jpg", ".jpeg", ".png")


def find_stills(path: Path) -> list[Path]:
    """The stills of a folder, or of the folder `images` in it, in natural order.

    Raises:
        CameraError: There are none.
    """
    stills = list_stills(path)
    if not stills and (path / "images").is_dir():
        stills = list_stills(path / "images")
    if not stills:
        raise CameraError(f"{path} holds no {', '.join(STILL_SUFFIXES)} files: give a folder of frames or a video")
    return stills


def list_stills(folder: Path) -> list[Path]:
    """The stills of a folder in natural order: runs of digits compare as numbers."""
    stills = (p for p in folder.iterdir() if p.suffix.lower() in STILL_SUFFIXES and not p.name.startswith("."))
    return sorted(
        stills, key=lambda p: [(int(s), "") if s.isdigit() else (-1, s) for s in re.split(r"(\d+)", p.name)]
    )


def read_still(path: Path) -> NDArray[np.uint8]:
    """The (H, W, 3) uint8 BGR picture in a file; raises CameraError if there is none."""
    try:
        data = np.frombuffer(path.read_bytes(), dtype=np.uint8)
        bgr = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    except (OSError, cv2.error) as error:
        raise CameraError(f"{path} cannot be read ({error}): replace or remove it") from error
    if bgr is None:
        raise CameraError(f"{path} is not an image that can be decoded: replace or remove it")
    return np.asarray(bgr, dtype=np.uint8)
