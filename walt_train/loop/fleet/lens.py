"""How clear a lens is, against what the same camera saw of old: dirt comes slowly, and is wiped off at once.

Each tile of the plate has a reference that rises within days and falls within weeks, so that a lens that was cleaned
is believed at once and one that grows dull is not got used to. The clearness is that of the worst quarter of the
tiles that ever showed structure: a blot in a corner counts, a dull sky does not. At dusk nobody judges.
"""

from __future__ import annotations

from typing import Final

import msgspec

DAYLIGHT: Final = 45.0
"""Mean grey level below which a picture says nothing of the lens."""

LEARNING_S: Final = 12 * 3600.0
"""Daylight that makes a reference; nothing is judged before."""

_RISE_S: Final = 3 * 86400.0
_FALL_S: Final = 45 * 86400.0
# A gap counts as so much time at most: what was not seen was not learned.
_STEP_S: Final = 600.0
# Fine contrast below which a tile is sky or a wall: it may lose nothing.
_STRUCTURE: Final = 0.008
_WORST_SHARE: Final = 0.25


class Clearness(msgspec.Struct, frozen=True, kw_only=True):
    """What a camera's picture looked like of old, and how clear it is now.

    Attributes:
        reference: Detail of each tile of old; () before daylight was seen.
        seen_s: How much daylight went into it, seconds.
        clear: The worst quarter of the tiles against their references, 0..1; 1 while there is nothing to judge by.
        clear_us: When that was judged, home's clock; 0: never.
    """

    reference: tuple[float, ...] = ()
    seen_s: float = 0.0
    clear: float = 1.0
    clear_us: int = 0

    def seen(self, detail: tuple[float, ...], brightness: float, elapsed_s: float, now_us: int) -> Clearness:
        """Takes one more look into account.

        Args:
            detail: Of each tile; () where the device does not tell.
            brightness: Mean of the picture; -1 where there is none.
            elapsed_s: Since the last look.
            now_us: Home's clock.
        """
        if not detail or brightness < DAYLIGHT:
            return self
        if len(self.reference) != len(detail):
            return Clearness(reference=detail)
        step_s = min(max(elapsed_s, 0.0), _STEP_S)
        seen_s = self.seen_s + step_s
        reference = tuple(
            old + (new - old) * _rate(step_s, seen_s, is_higher=new > old)
            for old, new in zip(self.reference, detail, strict=True)
        )
        if seen_s < LEARNING_S:
            return Clearness(reference=reference, seen_s=seen_s)
        clear = _worst(detail, self.reference)
        return Clearness(reference=reference, seen_s=seen_s, clear=clear, clear_us=now_us)


def _rate(step_s: float, seen_s: float, *, is_higher: bool) -> float:
    if seen_s < LEARNING_S:
        return step_s / max(seen_s, step_s, 1.0)  # The mean so far.
    return step_s / (_RISE_S if is_higher else _FALL_S)


def _worst(detail: tuple[float, ...], reference: tuple[float, ...]) -> float:
    shares = sorted(min(1.0, new / old) for new, old in zip(detail, reference, strict=True) if old >= _STRUCTURE)
    worst = shares[: max(1, round(_WORST_SHARE * len(reference)))]
    # Where hardly anything ever had structure, there is nothing that dirt could take.
    return sum(worst) / len(worst) if len(shares) >= _WORST_SHARE * len(reference) else 1.0
