"""What the gate reads of `walt-train evaluate --out FILE.json`: the cases, and what they were taken from.

The gate draws its own intervals of the cases, over all holdouts together and in each slice; the figures of the file
are for people.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from walt_edge.contract.errors import WaltError

GAMMA = 0.5
MOTION = "motion"
"""Name of generation 0 in an evaluation."""


class GateError(WaltError):
    """The evaluations cannot be read, or do not belong together."""


class Band(msgspec.Struct, frozen=True):
    """Of occlusion fractions, from `low` on."""

    low: float
    high: float


class Row(msgspec.Struct, frozen=True):
    """Mean IoU x 100 in a band; None without cases."""

    mask_iou: float | None
    box_iou: float | None = None
    cases: int = 0
    objects: int = 0


class Difference(msgspec.Struct, frozen=True):
    """The candidate minus the other one in a band, points; with its paired 95 % interval."""

    band: Band
    cases: int
    objects: int
    mask_points: float | None
    mask_interval: tuple[float, float] | None
    box_points: float | None = None
    box_interval: tuple[float, float] | None = None


class Case(msgspec.Struct, frozen=True, array_like=True):
    """One object in one frame, as `walt_train.metrics.amodal_iou.Case` writes it.

    Attributes:
        image: The frame's file.
        place: Of the object in the frame's depth order, 0 = nearest.
        object: The physical object: camera/track.
        label: `Label` value.
        amodal_area: Pixels.
        visible_area: Pixels.
        box_iou: 0..1; 0 = missed.
        mask_iou: Of the amodal masks, 0..1.
    """

    image: str
    place: int
    object: str
    label: int
    amodal_area: int
    visible_area: int
    box_iou: float = 0.0
    mask_iou: float = 0.0

    @property
    def occlusion(self) -> float:
        """Hidden area / amodal area, 0..1."""
        return (self.amodal_area - self.visible_area) / max(1, self.amodal_area)

    @property
    def truth(self) -> tuple[str, int, str, int, int, int]:
        """What does not depend on the model."""
        return self.image, self.place, self.object, self.label, self.amodal_area, self.visible_area


class Figures(msgspec.Struct, frozen=True):
    """Rows by γ, and every case."""

    at_gamma: dict[float, Row]
    cases: tuple[Case, ...] = ()
    frames: int = 0
    false_boxes: int = 0


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """One model on one holdout.

    Attributes:
        model: What was evaluated.
        model_sha256: Of its bundle; "" for `motion`.
        data_sha256: Names the truth.
        result: Its figures.
        against: The model that `differences` are from, or "".
        differences: By band.
    """

    model: str
    data_sha256: str
    result: Figures
    model_sha256: str = ""
    against: str = ""
    differences: tuple[Difference, ...] = ()


def read_evaluation(path: Path) -> Evaluation:
    """Reads what the gate needs of an evaluation.

    Raises:
        GateError: Missing, or no evaluation.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Evaluation)
    except OSError as error:
        raise GateError(f"cannot read {path}: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise GateError(f"{path} is no evaluation that this version reads ({error})") from error
