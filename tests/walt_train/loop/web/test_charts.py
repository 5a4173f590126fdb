"""Charts: well-formed whatever they are given, escaped, and honest about what is not known."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest

from walt_train.loop.web.charts import Dot, Line, Mark, interval_chart, line_chart, sparkline

HOSTILE = '<script>alert("1")</script>&'


def path_of(markup: str, name: str) -> str:
    found = re.search(rf'class="{name}" d="([^"]*)"', markup)
    assert found, markup
    return found.group(1)


@pytest.mark.parametrize(
    "points",
    [
        [],
        [(0.0, 1.0)],
        [(0.0, None), (1.0, None)],
        [(5.0, 1.0), (5.0, 2.0)],
    ],
)
def test_what_is_no_line_says_so(points: list[tuple[float, float | None]]) -> None:
    assert "nothing known yet" in line_chart("Loss", [Line("", points)])


@pytest.mark.parametrize(
    "values",
    [
        [0.0, 0.0, 0.0],
        [1e-12, 2e-12],
        [1e12, -1e12, 5.0],
        [3.0, math.nan, 4.0],
        [3.0, math.inf, 4.0],
        [-7.0, -7.0],
    ],
)
def test_every_number_stays_inside_the_picture(values: list[float]) -> None:
    chart = line_chart("x", [Line("", [(float(n), v) for n, v in enumerate(values)])], is_time=False, low=None)
    ElementTree.fromstring(chart)
    for x, y in re.findall(r"[ML]([-\d.]+) ([-\d.]+)", path_of(chart, "chart-line chart-line-0")):
        assert 0 <= float(x) <= 640
        assert 0 <= float(y) <= 220
    assert "nan" not in chart
    assert "inf" not in chart


def test_a_gap_breaks_the_line_and_a_lone_point_is_seen() -> None:
    points = [(0.0, 1.0), (1.0, 2.0), (2.0, None), (3.0, 1.0), (4.0, None), (5.0, 2.0), (6.0, 2.0)]
    path = path_of(line_chart("x", [Line("", points)], is_time=False), "chart-line chart-line-0")
    assert path.count("M") == 3
    # Ends of no length with round caps are dots.
    assert re.search(r"M[-\d.]+ [-\d.]+h0M", path)


def test_the_larger_value_stands_higher_and_ends_are_marked() -> None:
    chart = line_chart("x", [Line("", [(0.0, 10.0), (10.0, 40.0)])], is_time=False, unit=" ms")
    (_, low), (_, high) = re.findall(r"[ML]([-\d.]+) ([-\d.]+)", path_of(chart, "chart-line chart-line-0"))
    assert float(high) < float(low)
    assert ">0 ms<" in chart
    assert ">40 ms<" in chart


def test_words_are_escaped_everywhere() -> None:
    points = [(0.0, 1.0), (86_400.0, 2.0)]
    line = Line(HOSTILE, points, low=[0.5, 1.5], high=[1.5, 2.5])
    for markup in (
        line_chart(HOSTILE, [line, Line("b", points)], unit=HOSTILE, marks=[Mark(10.0, HOSTILE)]),
        interval_chart(HOSTILE, [Dot(HOSTILE, 1.0, 0.5, 1.5, "good", HOSTILE), Dot("2", 2.0)], unit=HOSTILE),
        sparkline([1.0, 2.0], HOSTILE),
        sparkline([], HOSTILE),
    ):
        assert "<script" not in markup
        assert "&lt;script" in markup
        ElementTree.fromstring(markup)
        assert "style=" not in markup


def test_times_are_told_in_hours_of_a_day_and_in_days_of_a_week() -> None:
    def axis(seconds: float) -> str:
        begun = 1_795_000_000.0
        return line_chart("x", [Line("", [(begun, 1.0), (begun + seconds, 1.0)])])

    assert re.search(r">\d\d:00</text>", axis(86_400))
    assert re.search(r">\d\d [A-Z][a-z][a-z]</text>", axis(7 * 86_400))
    assert re.search(r">[A-Z][a-z][a-z] \d{4}</text>", axis(366 * 86_400))


def test_an_interval_reaches_from_its_low_to_its_high_end() -> None:
    chart = interval_chart("IoU", [Dot("1", 50.0, 40.0, 60.0, "good"), Dot("2", 55.0, kind="bad")])
    found = re.search(r'class="chart-interval good" d="M[\d.]+ ([\d.]+)V([\d.]+)"', chart)
    assert found
    dot = re.search(r'class="chart-dot good" cx="[\d.]+" cy="([\d.]+)"', chart)
    assert dot
    assert float(found.group(1)) > float(dot.group(1)) > float(found.group(2))
    assert chart.count("chart-interval ") == 1
