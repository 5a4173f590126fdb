"""Writes the figures of docs/guides/capacity.md from docs/benchmarks/ingest.json (`--check` only compares).

python -m benchmarks.capacity [--check]
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from benchmarks.readme import RESULTS, ROOT
from walt_train.loop.simulate.plan import ROWS, Assumptions, Costs, Prices, plan
from walt_train.loop.simulate.planning import described

GUIDE = ROOT / "docs" / "guides" / "capacity.md"
FIGURES = RESULTS / "ingest.json"
BEGIN, END = "<!-- figures: python -m benchmarks.capacity -->", "<!-- end of figures -->"
CAMERAS = (100, 1_000, 10_000)


def tables(figures: Path) -> str:
    """What was measured, what is assumed, what follows for three sizes of fleets."""
    costs, content = Costs.read(figures), json.loads(figures.read_text())
    units = {row["what"]: row["unit"] for row in content["rows"]}
    machine = ", ".join(f"{key} {value}" for key, value in content["machine"].items())
    measured = [f"| {what} | {_short(getattr(costs, name))} {units[what]} |" for name, what in ROWS.items()]
    given = [
        f"| {meaning} | {default:g} | `--{prefix}{name.replace('_', '-')}` |"
        for kind, prefix in ((Assumptions, ""), (Prices, "price-"))
        for name, meaning, default in described(kind)
    ]
    plans = [plan(cameras, costs) for cameras in CAMERAS]
    rows = zip(*(one.lines() for one in plans), strict=True)
    follows = [f"| {same[0][0]} | {' | '.join(value for _, value in same)} |" for same in rows]
    return "\n".join(
        [
            *(f"Measured on: {machine}.", "", "| measured | |", "|---|---|", *measured, ""),
            *("| assumed, or a price in any currency | | option |", "|---|---|---|", *given, ""),
            *("| follows | | | |", "|---|---|---|---|", *follows),
        ]
    )


def written(guide: str, text: str) -> str:
    """The guide with the text between its markers replaced."""
    head, tail = guide.index(BEGIN) + len(BEGIN), guide.index(END)
    return f"{guide[:head]}\n\n{text}\n\n{guide[tail:]}"


def main() -> int:
    """Rewrites the guide, or with `--check` exits 1 if it is not what the file says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if the guide is out of date")
    check = parser.parse_args().check
    before = GUIDE.read_text()
    after = written(before, tables(FIGURES))
    if check and before != after:
        print("docs/guides/capacity.md is out of date: run python -m benchmarks.capacity", file=sys.stderr)
        return 1
    GUIDE.write_text(after)
    return 0


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    sys.exit(main())
