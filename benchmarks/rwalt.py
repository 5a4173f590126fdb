"""How fast streets are rendered with exact labels, and how many of their objects are hidden.

    python -m benchmarks.rwalt --out rwalt.json [--quick]

Everything runs on one core, in processor time, so that other work on the machine shows less. The plain picture
(no masks, no labels) of the same frames is what the labels' cost is held against.
"""

from __future__ import annotations

import os
import time

import numpy as np

from benchmarks.report import Report, arguments
from walt_train.rwalt.annotate import annotation_records
from walt_train.rwalt.renderer import Renderer
from walt_train.rwalt.street import Street, StreetConfig

SIZE_WH = (640, 360)


def main() -> None:
    """Measures both presets and reports."""
    args = arguments(__doc__).parse_args()
    os.environ["LP_NUM_THREADS"] = "0"  # the rasteriser stays on this process's one core
    streets, frames = (1, 10) if args.quick else (3, 40)
    report = Report("rwalt", {"seed": args.seed, "streets": streets, "frames": frames, "width": SIZE_WH[0]})
    for preset in ("street", "busy"):
        _measure(report, preset, range(args.seed, args.seed + streets), frames)
    report.finish(args.out)


def _measure(report: Report, preset: str, seeds: range, frames: int) -> None:
    plain_s = labelled_s = 0.0
    hidden: list[float] = []
    for seed in seeds:
        street = Street(StreetConfig(seed=seed, frames=frames * 8, size_wh=SIZE_WH, preset=preset, light="day"))
        renderer = Renderer(street)
        renderer.draw(0)
        for index in range(0, frames * 8, 8):
            start = time.process_time()
            renderer.draw(index, with_masks=False)
            middle = time.process_time()
            records = annotation_records(street, index, renderer.draw(index))
            labelled_s += time.process_time() - middle
            plain_s += middle - start
            hidden += [record["occlusion_fraction"] for record in records]
        renderer.close()
    count = frames * len(seeds)
    fractions = np.array(hidden)
    busy = preset == "busy"
    report.add(
        f"{preset}: picture and all labels, a core", count / labelled_s, "frames/s", target=None if busy else 8.0
    )
    report.add(f"{preset}: the same pictures without labels (the limit)", count / plain_s, "frames/s")
    report.add(f"{preset}: share of the limit", 100 * plain_s / labelled_s, "%", target=60.0)
    report.add(f"{preset}: objects a frame", len(fractions) / count)
    report.add(f"{preset}: at least half hidden", 100 * (fractions >= 0.5).mean(), "%", target=20.0 if busy else None)
    report.add(f"{preset}: seen whole", 100 * (fractions == 0).mean(), "%", target=None if busy else 30.0)


if __name__ == "__main__":
    main()
