"""CenterFace: faces that geometry does not find, down to 8-12 pixels.

Optional: `walt-edge models pull centerface` fetches its weights (MIT), pinned by hash. Every cell of its heat map
above a low score gives a box; they are not thinned out, since filling twice harms nobody.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from walt_edge.privacy.anonymiser import PrivacyError

CENTERFACE_FILE: Final = "centerface.onnx"
CENTERFACE_SHA256: Final = "09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc"
LOW_SCORE = 0.15
_STRIDE = 4  # pixels of the picture per cell of the heat map
_MULTIPLE = 32  # the network halves its input five times
_MAX_LOG_SIDE = 7.0  # exp(7) cells of 4 px are larger than any picture
_OUTPUTS = ("537", "538", "539")  # heat map, log height and width, offset in y and x


def models_folder() -> Path:
    """Where models are kept: `models` below WALT_HOME (default `./walt`)."""
    return Path(os.environ.get("WALT_HOME") or "walt") / "models"


def find_faces(folder: Path | None = None, *, min_score: float = LOW_SCORE) -> CenterFace | None:
    """The face detector, if it was pulled into `folder` (default: `models_folder()`); None if not.

    Raises:
        PrivacyError: The file is there and damaged: going on without it would promise less than is configured.
    """
    path = (folder or models_folder()) / CENTERFACE_FILE
    return CenterFace(path, min_score=min_score) if path.exists() else None


class CenterFace:
    """The detector, through OpenCV's own runtime. One thread at a time.

    Args:
        path: `centerface.onnx`.
        min_score: Of a face, 0..1; low on purpose.

    Raises:
        PrivacyError: The file cannot be read, or is not the one that is pinned.
    """

    name: Final = "centerface"

    def __init__(self, path: Path, *, min_score: float = LOW_SCORE) -> None:
        try:
            data = path.read_bytes()
        except OSError as error:
            raise PrivacyError(
                f"{path} cannot be read ({error.strerror}): walt-edge models pull centerface"
            ) from error
        if hashlib.sha256(data).hexdigest() != CENTERFACE_SHA256:
            raise PrivacyError(f"{path} is damaged or another file: walt-edge models pull centerface")
        self._network = cv2.dnn.readNetFromONNX(np.frombuffer(data, dtype=np.uint8))
        self._min_score = min_score

    def __call__(self, bgr: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Boxes of the faces in an (H, W, 3) uint8 picture: (N, 4), half-open xyxy pixels, overlapping ones included.

        Raises:
            PrivacyError: The network's answer is not finite.
        """
        height, width = bgr.shape[:2]
        padded = cv2.copyMakeBorder(bgr, 0, -height % _MULTIPLE, 0, -width % _MULTIPLE, cv2.BORDER_REPLICATE)
        self._network.setInput(cv2.dnn.blobFromImage(padded, swapRB=True))
        heat, log_sides, offsets = (np.asarray(out)[0] for out in self._network.forward(_OUTPUTS))
        if not all(np.isfinite(out).all() for out in (heat, log_sides, offsets)):
            raise PrivacyError("the face detector's answer is not finite")
        return self._boxes(heat[0], log_sides, offsets)

    def _boxes(
        self, heat: NDArray[np.float32], log_sides: NDArray[np.float32], offsets: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        rows, columns = np.nonzero(heat > self._min_score)
        half = np.exp(np.minimum(log_sides[:, rows, columns], _MAX_LOG_SIDE)) * (_STRIDE / 2)
        y = (rows + offsets[0, rows, columns] + 0.5) * _STRIDE
        x = (columns + offsets[1, rows, columns] + 0.5) * _STRIDE
        return np.stack([x - half[1], y - half[0], x + half[1], y + half[0]], axis=1).astype(np.float32)
