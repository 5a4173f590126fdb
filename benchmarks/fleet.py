"""Home looks after its cameras by itself: rollouts, the gate, retraining, and the pages that show it.

    python -m benchmarks.fleet --out docs/benchmarks/fleet.json

Four parts, each a benchmark of its own: bad models on a simulated fleet (`fleet_rollouts`), generations that look
better and learned from what judges them (`fleet_gate`), a trainer that is killed again and again
(`fleet_retraining`), and every page of the dashboard at size (`fleet_pages`).
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks import fleet_gate, fleet_pages, fleet_retraining, fleet_rollouts
from benchmarks.report import Report, Row, arguments

Part = Callable[[bool, Path], list[Row]]
PARTS: dict[str, Part] = {
    "rollouts": fleet_rollouts.rows,
    "gate": fleet_gate.rows,
    "retraining": fleet_retraining.rows,
    "pages": fleet_pages.rows,
}


def main() -> int:
    """Measures all parts, or those that are asked for."""
    parser = arguments(__doc__)
    parser.add_argument("--only", action="append", choices=list(PARTS), help="one part; may be repeated")
    args = parser.parse_args()
    report = Report("fleet", {"quick": int(args.quick)})
    for name in args.only or PARTS:
        with tempfile.TemporaryDirectory(prefix=f"walt-{name}-") as folder:
            report.rows += PARTS[name](args.quick, Path(folder))
    report.finish(args.out)
    return 0 if all(row.met for row in report.rows) else 1


if __name__ == "__main__":
    sys.exit(main())
