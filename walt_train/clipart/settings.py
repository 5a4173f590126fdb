"""How composites are made; part of a data set's name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from walt_edge.contract.errors import UsageError

Order = Literal["depth", "random"]
Placement = Literal["original", "spread", "mixed"]
ORDERS: tuple[Order, ...] = get_args(Order)
PLACEMENTS: tuple[Placement, ...] = get_args(Placement)


@dataclass(frozen=True, slots=True, kw_only=True)
class ComposeSettings:
    """Chances are 0..1.

    Attributes:
        order: `depth`: what touches the ground lower in the picture is nearer. `random`: as in the paper.
        placement: `original`: where each object was seen, as in the paper. `spread`: anywhere on the ground, at the
            scale that the height line of its class gives. `mixed`: half and half.
        objects: Fewest and most objects drawn for a composite; what finds no place is left out.
        cluster_chance: That an object is put near one that is there already.
        crop_chance: That a window of 0.6 to 1 of the frame is taken instead of all of it.
        frame_chance: That the background is a real frame with the moving things erased, where there are such.
        behind_chance: That an object is put behind a static thing, where there are such.
        hole_chance: That what no plate knows shows any piece of the scene instead of a smooth filling: the camera
            will show something there, and it must not be taken for an object.
        harmonise: Whether an object's colours are brought from the light it was seen in to that of its new place.
        by_confidence: Whether a clip is drawn the more often, the surer it is that nothing hides a part of it: by its
            odds, up to those of the calibrated threshold, and softer where few objects were seen (`sureness`).
        shadow: How much light the deepest contact shadow takes; 0 for none.
        light_jitter: How far the composite's gain and gamma may go, 0 for none.
        clip_jitter: How far an object's own gain may go beside it.
    """

    order: Order = "depth"
    placement: Placement = "mixed"
    objects: tuple[int, int] = (2, 12)
    cluster_chance: float = 0.6
    crop_chance: float = 0.0
    frame_chance: float = 0.5
    behind_chance: float = 0.15
    hole_chance: float = 0.7
    harmonise: bool = True
    by_confidence: bool = True
    shadow: float = 0.4
    light_jitter: float = 0.15
    clip_jitter: float = 0.06

    def __post_init__(self) -> None:
        """Checks every range.

        Raises:
            UsageError: A value is out of its range.
        """
        if self.order not in ORDERS:
            raise UsageError(f"order '{self.order}' is none of {', '.join(ORDERS)}")
        if self.placement not in PLACEMENTS:
            raise UsageError(f"placement '{self.placement}' is none of {', '.join(PLACEMENTS)}")
        if not 1 <= self.objects[0] <= self.objects[1]:
            raise UsageError(f"{self.objects[0]} to {self.objects[1]} objects: give 1 or more, the fewer first")
        for name in ("cluster_chance", "crop_chance", "frame_chance", "behind_chance", "hole_chance"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{name} {getattr(self, name):g} is not between 0 and 1")
        for name in ("shadow", "light_jitter", "clip_jitter"):
            if not 0 <= getattr(self, name) <= 0.5:
                raise UsageError(f"{name} {getattr(self, name):g} is not between 0 and 0.5")


TRAINING = ComposeSettings(crop_chance=0.5)
"""Cropped, since mining rejects what the border cuts and the camera will see it all the same."""

JUDGING = ComposeSettings(light_jitter=0.0)
"""Whole frames in their own light, as the camera sends them."""
