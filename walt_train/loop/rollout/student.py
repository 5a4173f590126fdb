"""Student's t: the quantile that a comparison of few devices is held against, without a library of statistics."""

from __future__ import annotations

import math
from statistics import NormalDist

_TAIL = 1e-12


def quantile(tail: float, freedom: float) -> float:
    """How large t is that is exceeded with a probability of `tail`, by Hill, Algorithm 396, CACM 13 (1970).

    Args:
        tail: One-sided, above 0 and at most 0.5.
        freedom: Degrees of freedom, at least 1.

    Returns:
        t, with an error below a thousandth of it.
    """
    both = 2 * min(max(tail, _TAIL), 0.5)
    if freedom < 2:
        return 1 / math.tan(both * math.pi / 2)
    if freedom < 3:
        return math.sqrt(2 / (both * (2 - both)) - 2)
    return math.sqrt(freedom * _hill(both, freedom))


def _hill(both: float, n: float) -> float:
    """The square of t by the degrees of freedom; the names are the paper's."""
    a = 1 / (n - 0.5)
    b = 48 / (a * a)
    c = ((20700 * a / b - 98) * a - 16) * a + 96.36
    d = ((94.5 / (b + c) - 3) / b + 1) * math.sqrt(a * math.pi / 2) * n
    y: float = (d * both) ** (2 / n)
    if y <= 0.05 + a:
        inner = (n + 6) / (n * y) - 0.089 * d - 0.822
        return ((1 / (inner * (n + 2) * 3) + 0.5 / (n + 4)) * y - 1) * (n + 1) / (n + 2) + 1 / y
    x = NormalDist().inv_cdf(both / 2)
    y = x * x
    if n < 5:
        c += 0.3 * (n - 4.5) * (x + 0.6)
    c = (((0.05 * d * x - 5) * x - 7) * x - 2) * x + b + c
    y = (((((0.4 * y + 6.3) * y + 36) * y + 94.5) / c - y - 3) / b + 1) * x
    return math.expm1(a * y * y)
