"""What every benchmark shares: rows with units and targets, the machine's facts, a table, a JSON file."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, SupportsFloat

from tqdm import tqdm

Better = Literal["higher", "lower"]


@dataclass(frozen=True, slots=True)
class Row:
    """One measured figure.

    Attributes:
        what: What was measured, in words that make sense in a table.
        value: The figure.
        unit: Its unit, "" for a ratio.
        target: What it must reach, or None for a limit, a peer or a fact beside it.
        better: Which way is better.
    """

    what: str
    value: float
    unit: str
    target: float | None
    better: Better

    @property
    def met(self) -> bool:
        """Whether the target is reached; a row without one always is."""
        if self.target is None:
            return True
        return self.value >= self.target if self.better == "higher" else self.value <= self.target


@dataclass(slots=True)
class Report:
    """A benchmark's figures as they come in.

    Attributes:
        name: The benchmark's name.
        facts: How it was run (seed, sizes), written beside the machine's facts.
        rows: What was measured so far.
    """

    name: str
    facts: dict[str, str | int | float] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)

    def add(
        self,
        what: str,
        value: SupportsFloat,
        unit: str = "",
        *,
        target: float | None = None,
        better: Better = "higher",
    ) -> None:
        """Notes a figure and prints it at once, so that a long run shows where it is."""
        row = Row(what, float(value), unit, target, better)
        self.rows.append(row)
        tqdm.write(f"  {_line(row)}", file=sys.stderr)

    def finish(self, out: Path | None) -> None:
        """Prints the table and writes the JSON file."""
        width = max(len(row.what) for row in self.rows)
        print(f"{self.name}")
        for row in self.rows:
            print(f"  {row.what:<{width}}  {_line(row)[len(row.what) + 2 :]}")
        if out is not None:
            content = {"rows": [asdict(row) for row in self.rows], "machine": machine(), "run": self.facts}
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(json.dumps(content, indent=1) + "\n")


def arguments(description: str | None) -> argparse.ArgumentParser:
    """A parser with the options that every benchmark has."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, metavar="FILE", help="where to write the figures as JSON")
    parser.add_argument("--quick", action="store_true", help="a smaller run, within a minute")
    parser.add_argument("--seed", type=int, default=1)
    return parser


def machine() -> dict[str, str | int]:
    """What the figures were measured on."""
    gpu = _gpu()
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        **({"gpu": gpu} if gpu else {}),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def _gpu() -> str:
    torch = sys.modules.get("torch")  # what does not use it need not wait for its import
    return torch.cuda.get_device_name() if torch is not None and torch.cuda.is_available() else ""


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _line(row: Row) -> str:
    wanted = ""
    if row.target is not None:
        sign = "at least" if row.better == "higher" else "at most"
        wanted = f"   ({sign} {row.target:g}{'' if row.met else ': MISSED'})"
    return f"{row.what}  {row.value:,.3f} {row.unit}{wanted}"
