"""An anonymiser that remembers what it was given, to anonymise the same again in other ways."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.masks import Mask, PatchMask
from walt_edge.privacy.anonymiser import AnonymisedImage, Anonymiser
from walt_edge.vision.sightings import Sighting


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """What an anonymiser is called with."""

    bgr: NDArray[np.uint8]
    sightings: Sequence[Sighting]
    moving: Mask
    also: Sequence[PatchMask] | None

    def anonymised(self, anonymiser: Anonymiser) -> AnonymisedImage:
        """By another one."""
        return anonymiser(self.bgr, self.sightings, self.moving, self.also)


class Recorder(Anonymiser):
    """Remembers the newest frame's.

    Attributes:
        given: With which it was called.
    """

    given: Given

    def __call__(
        self,
        bgr: NDArray[np.uint8],
        sightings: Sequence[Sighting],
        moving: Mask,
        also: Sequence[PatchMask] | None = None,
    ) -> AnonymisedImage:
        """Anonymises as ever."""
        self.given = Given(bgr, sightings, moving, also)
        return super().__call__(bgr, sightings, moving, also)
