"""Person or vehicle, from shape, size on the ground and motion. Unsure is an answer.

Each cue is a small log-odds, positive for a person. A person is upright, narrow at the head, and changes outline
while walking; a vehicle is wide, compact, and keeps its outline.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter, deque
from dataclasses import dataclass, field

from walt_edge.contract.labels import Label
from walt_edge.vision.shape import Shape, rigidity

_WINDOW = 60
_SURE = 0.85
_VOTE = 2.0  # log-odds of one look of a detector teacher
_VOTES = 4


@dataclass(slots=True)
class ClassEvidence:
    """What one track has shown of itself; only sightings that were not cut or merged are added."""

    shapes: deque[Shape] = field(default_factory=lambda: deque(maxlen=_WINDOW))
    votes: Counter[Label] = field(default_factory=Counter)
    rigid: deque[float] = field(default_factory=lambda: deque(maxlen=_WINDOW))

    def add(self, shape: Shape, stride: int) -> None:
        """Notes a sighting; `stride` sightings are about a third of a second, half a step of a walker."""
        if len(self.shapes) >= stride:
            self.rigid.append(rigidity(self.shapes[-stride], shape))
        self.shapes.append(shape)

    def classify(self) -> tuple[Label | None, float]:
        """The class, or None while unsure, and its probability."""
        if len(self.shapes) < 3:
            return None, 0.5
        person = 1 / (1 + math.exp(-self._log_odds()))
        label = Label.PERSON if person >= 0.5 else Label.VEHICLE
        score = max(person, 1 - person)
        return (label if score >= _SURE else None), score

    def _log_odds(self) -> float:
        def middle(name: str) -> float:
            # Of a few dozen floats, a tenth of what numpy's takes.
            return float(statistics.median([getattr(shape, name) for shape in self.shapes]))

        aspect = middle("aspect")
        odds = 9.0 * math.log(aspect / 1.5)
        odds += 2.0 * (0.5 - middle("head"))
        odds += 6.0 * (0.82 - middle("solidity"))
        odds += 6.0 * (0.72 - middle("fill"))
        if len(self.rigid) >= 3:
            odds += 8.0 * (0.84 - statistics.median(self.rigid))
        odds += _VOTE * max(-_VOTES, min(_VOTES, self.votes[Label.PERSON] - self.votes[Label.VEHICLE]))
        return max(-20.0, min(20.0, odds))
