"""Whether several cameras' pictures are looked at faster together than one after the other, on this processor.

    python -m benchmarks.together --out docs/benchmarks/together.json

The packaged model takes any number of pictures. It is given its golden pictures one at a time and in batches, in
turns, warm. Milliseconds are of processor time a picture (the median of all rounds), which what else runs on the
machine changes little; memory is what a process of its own holds resident that did nothing else.
"""

from __future__ import annotations

import subprocess
import sys
import time
from statistics import median

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import Report, arguments
from walt_edge.contract.bundle import MODEL, Bundle
from walt_edge.detector import Detector
from walt_edge.packaged import general_model
from walt_edge.runtimes.onnx_detector import letterbox
from walt_edge.runtimes.walt_onnx import WaltOnnx
from walt_edge.update.trial import resident_mb

BATCHES = (1, 2, 3, 4, 8)
THREADS = (1, 2)
_WARM = 2
_HOLDS = "import sys; from benchmarks.together import resident; print(resident(int(sys.argv[1])))"


def main() -> int:
    """Measures, prints, writes."""
    parser = arguments(__doc__)
    args = parser.parse_args()
    rounds = 3 if args.quick else 30
    report = Report("together", {"rounds": rounds})
    for threads in THREADS:
        for count, milliseconds in _times(threads, rounds).items():
            what = f"a picture of {count} looked at together, {threads} thread{'s'[: threads - 1]}"
            report.add(what, milliseconds, "ms", better="lower")
    for count in BATCHES:
        told = subprocess.run(
            [sys.executable, "-c", _HOLDS, str(count)], capture_output=True, text=True, check=True, timeout=300
        )
        report.add(f"resident after pictures by {count}", float(told.stdout), "MB", better="lower")
    report.finish(args.out)
    return 0


def resident(count: int) -> float:
    """What this process holds after it has looked at so many pictures at once, MB."""
    network, pictures = _opened(threads=2)
    for turn in range(4):
        network.many(_batch(pictures, turn, count))
    return resident_mb()


def _times(threads: int, rounds: int) -> dict[int, float]:
    network, pictures = _opened(threads)
    took: dict[int, list[float]] = {count: [] for count in BATCHES}
    for turn in range(_WARM + rounds):
        for count in BATCHES:
            batch = _batch(pictures, turn, count)
            began = time.process_time()
            network.many(batch)
            took[count].append(1e3 * (time.process_time() - began) / count)
    return {count: median(all_ms[_WARM:]) for count, all_ms in took.items()}


def _opened(threads: int) -> tuple[WaltOnnx, NDArray[np.uint8]]:
    """The packaged network, and its golden pictures in its size, (5, H, W, 3)."""
    bundle = Bundle.read(general_model())
    width, height = bundle.manifest.size_wh
    network = WaltOnnx(bundle.files[MODEL], size_wh=(width, height), device="cpu", threads=threads)
    golden = Detector(bundle, runtime=network).golden_pictures()
    return network, np.stack([letterbox(picture, (height, width))[0] for picture in golden])


def _batch(pictures: NDArray[np.uint8], first: int, count: int) -> NDArray[np.uint8]:
    return np.asarray(pictures[(first + np.arange(count)) % len(pictures)], np.uint8)


if __name__ == "__main__":
    sys.exit(main())
