"""What the gate asks for. A verdict keeps the rules that it was reached by."""

from __future__ import annotations

import msgspec


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """How candidates are judged. Points are mask IoU x 100.

    Attributes:
        gain_points: That a first generation must be better than the eyes without weights.
        harm_points: A slice that is surely worse, and by more than this, refuses.
        harm_level: Chance that noise alone refuses where no slice is worse; shared among the slices.
        objects_min: A slice of fewer physical objects is judged together with the other small ones.
        independent_cases_min: At γ = 0.5, from holdouts that are not of the devices which the model is for.
        seed: Of the bootstrap.
        time_margin_s: A frame is leaked if something that trained was captured so near to it, by the same camera.
        same_mask_iou: From here on two masks are one answer, as golden pictures are told to agree.
        same_cases_min: So many occluded objects that equal a model's own answer say that the model made the truth.
        same_share: And so many of all that it found.
        latency_factor: Of the champion's median time.
        memory_factor: Of the champion's memory.
        memory_slack_mb: What it may take beyond that: small models are all overhead.
        parity: Least (`_iou`, `_f1`) or greatest figures of the export's own comparison, by name.
    """

    gain_points: float = 5.0
    harm_points: float = 2.0
    harm_level: float = 0.1
    objects_min: int = 12
    independent_cases_min: int = 8
    seed: int = 0
    time_margin_s: float = 60.0
    same_mask_iou: float = 0.98
    same_cases_min: int = 5
    same_share: float = 0.05
    latency_factor: float = 1.5
    memory_factor: float = 1.5
    memory_slack_mb: float = 32.0
    parity: dict[str, float] = msgspec.field(
        default_factory=lambda: {
            "mask_iou": 0.98,
            "box_px": 0.1,
            "score": 0.001,
            "int8_mask_iou": 0.95,
            "int8_f1": 0.98,
        }
    )
