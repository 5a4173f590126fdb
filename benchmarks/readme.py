"""Writes README's figures from the benchmarks' files: `python -m benchmarks.readme` (`--check` only compares).

Every figure in the README stands between the two markers, and comes from a file that `python -m benchmarks.NAME
--out docs/benchmarks/NAME.json` wrote.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "benchmarks"
_HEAD = ("| benchmark | what | measured | target |", "|---|---|---|---|")
_MANY = 60
"""Rows of a file from which on only those with a target are shown."""
BEGIN, END = "<!-- figures: python -m benchmarks.readme -->", "<!-- end of figures -->"


def figures(results: Path) -> str:
    """Rows that have a target, then all others to be unfolded, and the machine that they were measured on."""
    contents = {path.stem: json.loads(path.read_text()) for path in sorted(results.glob("*.json"))}
    rows = [(name, row) for name, content in contents.items() for row in content["rows"]]
    asked = [_row(*pair) for pair in rows if pair[1].get("target") is not None]
    few = [name for name, content in contents.items() if len(content["rows"]) <= _MANY]
    beside = [_row(*pair) for pair in rows if pair[1].get("target") is None and pair[0] in few]
    many = [f"All of [{name}](docs/benchmarks/{name}.json)." for name in contents if name not in few]
    machines = sorted({_machine(content["machine"]) for content in contents.values()})
    trained = [
        f"Trainings of {name} ran on: {content['run']['trained on']}."
        for name, content in contents.items()
        if "trained on" in content.get("run", {})
    ]
    folded = ["<details><summary>What was measured beside that: limits, peers, facts</summary>", "", *_HEAD, *beside]
    return "\n".join(
        [
            *(*_HEAD, *asked, "", *folded, "", *many, "", "</details>", ""),
            *(f"Measured on: {machine}." for machine in machines),
            *trained,
        ]
    )


def _row(name: str, row: dict[str, Any]) -> str:
    target = row.get("target")
    sign = "at least" if row["better"] == "higher" else "at most"
    wanted = "" if target is None else f"{sign} {_number(target)} {row['unit']}"
    return f"| {name} | {row['what']} | {_number(row['value'])} {row['unit']} | {wanted} |"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def _machine(facts: dict[str, Any]) -> str:
    return ", ".join(
        f"{key} {value}" for key, value in facts.items() if key in ("cpu", "cores", "gpu", "python", "system")
    )


def replaced(readme: str, table: str) -> str:
    """The README with the text between the markers replaced; raises ValueError if the markers are missing."""
    head, tail = readme.index(BEGIN) + len(BEGIN), readme.index(END)
    return f"{readme[:head]}\n{table}\n{readme[tail:]}"


def main() -> int:
    """Rewrites the README, or with `--check` exits 1 if it is not what the files say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if the README is out of date")
    check = parser.parse_args().check
    path = ROOT / "README.md"
    before = path.read_text()
    after = replaced(before, figures(RESULTS))
    if check and before != after:
        print("README.md is out of date: run python -m benchmarks.readme", file=sys.stderr)
        return 1
    path.write_text(after)
    return 0


if __name__ == "__main__":
    sys.exit(main())
