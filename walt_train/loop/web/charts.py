"""Charts as SVG, drawn on the server: no script, no file from elsewhere, and readable without colours.

A chart is a string of markup whose words are escaped; its colours and fonts are classes of `charts.css`, so that it
follows light and dark, and a strict content policy has nothing to object to.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from markupsafe import Markup

_WIDTH: Final = 640.0
_HEIGHT: Final = 220.0
_LEFT: Final = 52.0
_RIGHT: Final = 12.0
_TOP: Final = 12.0
_BOTTOM: Final = 28.0
_TICKS: Final = 4
_DAY_S: Final = 86_400
_SPARK: Final = (96.0, 22.0)
_STEPS_S: Final = (300, 900, 3600, 3 * 3600, 6 * 3600, _DAY_S, 2 * _DAY_S, 7 * _DAY_S, 30 * _DAY_S, 91 * _DAY_S)
Point = tuple[float, float | None]
"""x (seconds UTC, or a number) and y; None: nothing is known there, and the line is broken."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a chart.

    Attributes:
        name: What it is, for the legend.
        points: In order of x.
        low: Lower edge of a band around it, or () for none; as long as `points`.
        high: Its upper edge.
    """

    name: str
    points: Sequence[Point]
    low: Sequence[float | None] = ()
    high: Sequence[float | None] = ()


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment that is marked in a chart: x and a word."""

    x: float
    word: str


@dataclass(frozen=True, slots=True)
class Dot:
    """A figure with its interval, one of several beside each other.

    Attributes:
        name: Below it.
        value: The figure.
        low: Lower end of its interval; None where there is none.
        high: Upper end.
        kind: Its class of colour: `good`, `bad` or `plain`.
        title: What is told of it.
    """

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    kind: Literal["good", "bad", "plain"] = "plain"
    title: str = ""


@dataclass(frozen=True, slots=True)
class _Frame:
    x0: float
    x1: float
    y0: float
    y1: float

    def x(self, value: float) -> float:
        return _LEFT + (value - self.x0) / ((self.x1 - self.x0) or 1.0) * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        return _HEIGHT - _BOTTOM - (value - self.y0) / ((self.y1 - self.y0) or 1.0) * (_HEIGHT - _TOP - _BOTTOM)


def line_chart(
    title: str,
    lines: Sequence[Line],
    *,
    unit: str = "",
    is_time: bool = True,
    low: float | None = 0.0,
    high: float | None = None,
    marks: Sequence[Mark] = (),
) -> Markup:
    """Lines over time, or over a number.

    Args:
        title: What it shows; read out where nobody sees it.
        lines: At most four have colours of their own.
        unit: Of y.
        is_time: Whether x is seconds since 1970 UTC.
        low: Lower end of y; None: the least value.
        high: Upper end of y; None: the largest value.
        marks: Moments to mark.

    Returns:
        A figure; one that says so where there are fewer than two points.
    """
    known = [(x, y) for line in lines for x, y in line.points if y is not None and math.isfinite(y)]
    if len({x for x, _ in known}) < 2:
        return Markup(
            '<figure class="chart"><figcaption>{}</figcaption><p class="chart-none">{}</p></figure>'
        ).format(title, "nothing known yet")
    frame = _frame(known, lines, low, high)
    ticks = _time_ticks(frame.x0, frame.x1) if is_time else _number_ticks(frame.x0, frame.x1)
    body = _grid(frame, unit, ticks)
    for place, line in enumerate(lines):
        body += _band(frame, line, place) + _polyline(frame, line, place)
    for mark in marks:
        if frame.x0 <= mark.x <= frame.x1:
            body += _mark(frame, mark)
    return _figure(title, body, [line.name for line in lines if line.name], _spoken(title, lines, unit))


def interval_chart(title: str, dots: Sequence[Dot], *, unit: str = "") -> Markup:
    """Figures beside each other, each with its interval."""
    if not dots:
        return line_chart(title, ())
    ends = [end for dot in dots for end in (dot.value, dot.low, dot.high) if end is not None]
    y0, y1 = _rounded(min(*ends, 0.0) if min(ends) < 0 else min(ends) * 0.9, max(ends) * 1.05)
    frame = _Frame(-0.5, len(dots) - 0.5, y0, y1)
    every = max(1, math.ceil(len(dots) / 12))
    body = _grid(frame, unit, [(float(n), dot.name) for n, dot in enumerate(dots) if n % every == 0])
    for number, dot in enumerate(dots):
        x = frame.x(number)
        if dot.low is not None and dot.high is not None:
            low, high = frame.y(dot.low), frame.y(dot.high)
            body += Markup('<path class="chart-interval {}" d="M{} {}V{}"/>').format(
                dot.kind, _n(x), _n(low), _n(high)
            )
        body += Markup('<circle class="chart-dot {}" cx="{}" cy="{}" r="4"><title>{}</title></circle>').format(
            dot.kind, _n(x), _n(frame.y(dot.value)), dot.title or f"{dot.name}: {dot.value:.1f}{unit}"
        )
    spoken = f"{title}: " + "; ".join(f"{dot.name} {dot.value:.1f}{unit}" for dot in dots[-6:])
    return _figure(title, body, [], spoken)


def sparkline(values: Sequence[float | None], title: str) -> Markup:
    """A line without axes, as large as a word; None breaks it."""
    width, height = _SPARK
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return Markup('<span class="spark-none" title="{}">–</span>').format(title)
    top = max(known) or 1.0
    step = width / (len(values) - 1)
    points = [(n * step, None if v is None else height - 1 - v / top * (height - 2)) for n, v in enumerate(values)]
    path = _path(points, lambda x: x, lambda y: y)
    return Markup(
        '<svg class="spark" viewBox="0 0 {} {}" width="{}" height="{}" role="img" aria-label="{}">'
        '<title>{}</title><path d="{}"/></svg>'
    ).format(*map(_n, (width, height, width, height)), title, title, path)


def _figure(title: str, body: Markup, names: Sequence[str], spoken: str) -> Markup:
    legend = Markup("").join(
        Markup('<span class="chart-key chart-key-{}">{}</span>').format(n % 4, name) for n, name in enumerate(names)
    )
    return Markup(
        '<figure class="chart"><figcaption>{} {}</figcaption>'
        '<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg></figure>'
    ).format(title, legend, _n(_WIDTH), _n(_HEIGHT), spoken, body)


def _spoken(title: str, lines: Sequence[Line], unit: str) -> str:
    """What somebody hears who does not see it."""
    told = []
    for line in lines:
        known = [y for _, y in line.points if y is not None and math.isfinite(y)]
        if known:
            told.append(f"{line.name or title} {_short(min(known))} to {_short(max(known))}, now {_short(known[-1])}")
    return f"{title}{f' ({unit})' if unit else ''}: {'; '.join(told)}"


def _frame(
    known: Sequence[tuple[float, float]], lines: Sequence[Line], low: float | None, high: float | None
) -> _Frame:
    edges = [edge for line in lines for edge in (*line.low, *line.high) if edge is not None and math.isfinite(edge)]
    ys = [y for _, y in known] + edges
    bottom, top = _rounded(min(ys) if low is None else low, max(ys) if high is None else high)
    return _Frame(
        min(x for x, _ in known),
        max(x for x, _ in known),
        bottom if low is None else low,
        top if high is None else high,
    )


def _rounded(low: float, high: float) -> tuple[float, float]:
    """Ends that ticks divide evenly."""
    span = (high - low) or abs(high) or 1.0
    step = _nice(span / _TICKS)
    return math.floor(low / step) * step, max(math.ceil(high / step) * step, math.floor(low / step) * step + step)


def _nice(step: float) -> float:
    magnitude = 10.0 ** math.floor(math.log10(step))
    return next(factor * magnitude for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if factor * magnitude >= step * 0.999)


def _number_ticks(x0: float, x1: float) -> list[tuple[float, str]]:
    step = _nice((x1 - x0) / 5)
    first = math.ceil(x0 / step)
    return [(n * step, _short(n * step)) for n in range(first, math.floor(x1 / step) + 1)]


def _time_ticks(x0: float, x1: float) -> list[tuple[float, str]]:
    step = next((step for step in _STEPS_S if (x1 - x0) / step <= 7), _STEPS_S[-1])
    pattern = "%H:%M" if step < _DAY_S else "%d %b" if step < 30 * _DAY_S else "%b %Y"
    first = math.ceil(x0 / step) * step
    return [(float(x), time.strftime(pattern, time.gmtime(x))) for x in range(int(first), int(x1) + 1, step)]


def _grid(frame: _Frame, unit: str, ticks: Sequence[tuple[float, str]]) -> Markup:
    step = _nice((frame.y1 - frame.y0) / _TICKS)
    body = Markup("")
    for number in range(math.ceil(frame.y0 / step - 1e-9), math.floor(frame.y1 / step + 1e-9) + 1):
        y = frame.y(number * step)
        body += Markup('<path class="chart-grid" d="M{} {}H{}"/>').format(_n(_LEFT), _n(y), _n(_WIDTH - _RIGHT))
        body += Markup('<text class="chart-y" x="{}" y="{}">{}</text>').format(
            _n(_LEFT - 6), _n(y + 4), f"{_short(number * step)}{unit}"
        )
    for x, word in ticks:
        body += Markup('<text class="chart-x" x="{}" y="{}">{}</text>').format(_n(frame.x(x)), _n(_HEIGHT - 8), word)
    return body


def _polyline(frame: _Frame, line: Line, place: int) -> Markup:
    return Markup('<path class="chart-line chart-line-{}" d="{}"/>').format(
        place % 4, _path(line.points, frame.x, frame.y)
    )


def _band(frame: _Frame, line: Line, place: int) -> Markup:
    edges = [
        (x, low, high)
        for (x, _), low, high in zip(line.points, line.low, line.high, strict=False)
        if low is not None and high is not None
    ]
    if len(edges) < 2:
        return Markup("")
    there = [f"{_n(frame.x(x))} {_n(frame.y(high))}" for x, _, high in edges]
    back = [f"{_n(frame.x(x))} {_n(frame.y(low))}" for x, low, _ in reversed(edges)]
    return Markup('<path class="chart-band chart-band-{}" d="M{}Z"/>').format(place % 4, "L".join(there + back))


def _mark(frame: _Frame, mark: Mark) -> Markup:
    x = frame.x(mark.x)
    return Markup('<path class="chart-mark" d="M{} {}V{}"><title>{}</title></path>').format(
        _n(x), _n(_TOP), _n(_HEIGHT - _BOTTOM), mark.word
    )


def _path(points: Sequence[Point], x_of: Callable[[float], float], y_of: Callable[[float], float]) -> str:
    words, is_down = [], False
    for x, y in points:
        if y is None or not math.isfinite(y):
            is_down = False
            continue
        words.append(f"{'L' if is_down else 'M'}{_n(x_of(x))} {_n(y_of(y))}")
        is_down = True
    # A point that stands alone is a dot: a line of no length with round ends.
    return "".join(f"{word}h0" if word[0] == "M" else word for word in words)


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _short(value: float) -> str:
    """At most three digits that matter, and a word for thousands."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            return f"{value / (1e3 if unit == 'k' else limit):.3g}{unit}"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
