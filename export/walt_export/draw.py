"""Two answers to one picture, side by side: what a refused export looks like."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.instances import AmodalInstances
from walt_edge.contract.labels import Label

_COLOURS = {Label.PERSON: (60, 160, 255), Label.VEHICLE: (255, 170, 40)}
_MARK = (60, 60, 230)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_CAPTION_PX = 28

Picture = NDArray[np.uint8]


def draw_answers(
    image: Picture,
    answers: dict[str, AmodalInstances],
    mark_xyxy: tuple[float, float, float, float] | None = None,
) -> bytes:
    """A PNG of the same picture once for each answer, amodal outlines in the class's colour.

    Args:
        image: (H, W, 3) uint8 BGR.
        answers: By caption.
        mark_xyxy: What to point at, pixels.
    """
    panels = [_panel(image, caption, instances, mark_xyxy) for caption, instances in answers.items()]
    encoded: bytes = cv2.imencode(".png", np.concatenate(panels, axis=1))[1].tobytes()
    return encoded


def _panel(
    image: Picture, caption: str, instances: AmodalInstances, mark: tuple[float, float, float, float] | None
) -> Picture:
    panel = image.copy()
    for label, mask in zip(instances.labels.tolist(), instances.amodal, strict=True):
        outline, _ = cv2.findContours(
            mask.mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE, offset=(mask.x, mask.y)
        )
        cv2.drawContours(panel, outline, -1, _COLOURS[Label(label)], 1)
    if mark is not None:
        low, high = (tuple(round(side) for side in mark[at : at + 2]) for at in (0, 2))
        cv2.rectangle(panel, low, high, _MARK, 2)
    head = np.full((_CAPTION_PX, panel.shape[1], 3), 255, np.uint8)
    cv2.putText(head, f"{caption}: {len(instances)}", (6, 20), _FONT, 0.55, (40, 40, 40), 1, cv2.LINE_AA)
    return np.asarray(np.concatenate([head, panel]), np.uint8)
