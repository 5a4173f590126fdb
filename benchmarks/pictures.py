"""Diagrams of the benchmarks, drawn from the figures that they measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray

mpl.use("Agg")  # no screen

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

_COLOURS = ("#1b6ca8", "#e07b39", "#3a9a5b", "#8e5ea2", "#777777")
_WIDTH_INCHES, _HEIGHT_INCHES = 8.0, 4.2


@dataclass(frozen=True, slots=True)
class Bar:
    """What is told of each group.

    Attributes:
        name: In the legend.
        values: One for each group.
        spans: Their intervals, if they have any.
    """

    name: str
    values: Sequence[float]
    spans: Sequence[tuple[float, float] | None] = ()


@dataclass(frozen=True, slots=True)
class Curve:
    """A line with a band around it: what was measured at each place, by seed.

    Attributes:
        places: (N,).
        values: (S, N), S seeds.
    """

    places: NDArray[np.float64]
    values: NDArray[np.float64]


def draw_bars(path: Path, title: str, groups: Sequence[str], bars: Sequence[Bar]) -> None:
    """Lying bars, the first group on top, with their figures beside them and their intervals as whiskers."""
    with _axes(path, title, height_inches=1.2 + len(groups) * (0.1 + 0.2 * len(bars)), grid="x") as axes:
        width = 0.8 / len(bars)
        for place, bar in enumerate(bars):
            at = np.arange(len(groups)) + (place - (len(bars) - 1) / 2) * width
            axes.barh(at, bar.values, width, label=bar.name, color=_COLOURS[place % len(_COLOURS)])
            spans = bar.spans or [None] * len(bar.values)
            for y, value, span in zip(at, bar.values, spans, strict=True):
                low, high = span or (value, value)
                axes.plot((low, high), (y, y), color="black", linewidth=0.8)
                axes.annotate(
                    f"{value:.1f}", (max(high, 0.0), y), (4, 0), textcoords="offset points", fontsize=8, va="center"
                )
        axes.set_yticks(np.arange(len(groups)), groups)
        axes.invert_yaxis()
        axes.margins(x=0.1)
        axes.legend(fontsize=8)


def draw_curves(path: Path, title: str, across: str, up: str, curves: Mapping[str, Curve]) -> None:
    """The mean over seeds as a line, the range over seeds as a band."""
    with _axes(path, title) as axes:
        for place, (name, curve) in enumerate(curves.items()):
            colour = _COLOURS[place % len(_COLOURS)]
            axes.plot(curve.places, curve.values.mean(axis=0), label=name, color=colour, marker="o", markersize=3)
            axes.fill_between(
                curve.places, curve.values.min(axis=0), curve.values.max(axis=0), color=colour, alpha=0.15
            )
        axes.set_xlabel(across)
        axes.set_ylabel(up)
        axes.legend(fontsize=8)


@contextmanager
def _axes(
    path: Path, title: str, height_inches: float = _HEIGHT_INCHES, grid: Literal["x", "y"] = "y"
) -> Iterator[Axes]:
    figure, axes = plt.subplots(figsize=(_WIDTH_INCHES, height_inches), layout="constrained")
    axes.set_title(title, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, alpha=0.3)
    axes.set_axisbelow(True)
    try:
        yield axes
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=110)
    finally:
        plt.close(figure)
