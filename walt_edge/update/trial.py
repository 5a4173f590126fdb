"""A model is tried in a process of its own before the agent opens it: `python -m walt_edge.update.trial BUNDLE`.

What a runtime makes of a model from elsewhere is not known before: it may take all memory, never end, or end the
process. The child prints one line of JSON: `Measured`, or why there is none.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import math
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from walt_edge.contract.bundle import Limits
from walt_edge.contract.errors import UsageError, WaltError
from walt_edge.runtimes.session import Device, GpuOptions, first_line, uses_gpu
from walt_edge.update.child import ChildAnswer, ask_child, be_humble, bound_memory
from walt_edge.update.errors import RefusedError

if TYPE_CHECKING:
    from walt_edge.detector import Detector

LOG = logging.getLogger(__name__)

_ROUNDS = 3
_UNDISTURBED = 1.25


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """How a model does on this machine.

    Attributes:
        sha256: Of its bundle.
        latency_ms_p50: Median time of a golden picture, from picture to instances.
        latency_ms_p99: The 99th percentile of the best round: other work on the device only adds to it.
        memory_mb: What it added to the process.
    """

    sha256: str
    latency_ms_p50: float
    latency_ms_p99: float
    memory_mb: float


class Verdict(ChildAnswer, frozen=True, kw_only=True, omit_defaults=True):
    """What the child prints.

    Attributes:
        measured: How it does; None if it could not be tried.
    """

    measured: Measured | None = None


@dataclass(frozen=True, slots=True)
class Trial:
    """Tries bundles in a child process.

    Attributes:
        device: Where it is to run.
        threads: For one picture; None takes every core.
        runs: Pictures of a round.
        cache: Where ONNX Runtime's TensorRT provider keeps what it builds, for this process too.
        timeout_s: Then it is given up.
        command: What is run, with the bundle and the options behind it.
    """

    device: Device = "auto"
    threads: int | None = None
    runs: int = 20
    cache: Path | None = None
    timeout_s: float = 300.0
    command: Sequence[str] = (sys.executable, "-m", "walt_edge.update.trial")

    def __call__(self, bundle: Path, is_cancelled: Callable[[], bool] = lambda: False) -> Measured:
        """Tries a bundle.

        Raises:
            RefusedError: It does not load, disagrees, crashes or comes to no end.
            NotNowError: This machine lacks what it takes, for now.
            CancelledError: Not wanted any more.
        """
        words = [*self.command, str(bundle), "--device", self.device, "--runs", str(self.runs)]
        words += ["--parent", str(os.getpid())]
        if self.threads is not None:
            words += ["--threads", str(self.threads)]
        if self.cache is not None:
            words += ["--cache", str(self.cache)]
        verdict = ask_child(words, Verdict, self.timeout_s, is_cancelled)
        if verdict.measured is None:
            raise RefusedError("the process that tried it measured nothing")
        return verdict.measured


def check_limits(measured: Measured, *limits: Limits) -> None:
    """Raises RefusedError if a model needs more than any of the limits."""
    for limit in limits:
        if limit.latency_ms is not None and measured.latency_ms_p99 > limit.latency_ms:
            raise RefusedError(
                f"it takes {measured.latency_ms_p99:.0f} ms a picture here (p99), allowed {limit.latency_ms:g} ms"
            )
        if limit.memory_mb is not None and measured.memory_mb > limit.memory_mb:
            raise RefusedError(f"it takes {measured.memory_mb:.0f} MB here, allowed {limit.memory_mb:g} MB")


def resident_mb() -> float:
    """What this process keeps in memory, its share of what others keep too counted once (PSS), megabytes."""
    rollup = Path("/proc/self/smaps_rollup")
    with contextlib.suppress(OSError):
        for line in rollup.read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def measure(bundle: Path, *, device: Device, threads: int | None, runs: int, gpu: GpuOptions) -> Measured:
    """Opens a bundle, has it answer its golden pictures, and looks how long it takes and what it keeps.

    Raises:
        UsageError: ONNX Runtime is not installed, or has not the device.
        WaltError: The bundle is damaged, does not load, fails, or disagrees.
    """
    from walt_edge.detector import Detector
    from walt_edge.runtimes.session import require_runtime

    require_runtime()
    before_mb = resident_mb()
    detector = Detector.load(bundle, device=device, threads=threads, gpu=gpu)
    detector.check_golden()
    times_ms = _best_round_ms(detector, runs)
    return Measured(
        sha256=detector.sha256,
        latency_ms_p50=round(statistics.median(times_ms), 3),
        latency_ms_p99=round(_p99(times_ms), 3),
        memory_mb=round(max(0.0, resident_mb() - before_mb), 1),
    )


def _best_round_ms(detector: Detector, runs: int) -> list[float]:
    """The quickest round: other work on the device only adds to its times. One that nothing disturbed will do."""
    best: list[float] = []
    for _ in range(_ROUNDS):
        times_ms = _round_ms(detector, runs)
        best = min(best or times_ms, times_ms, key=_p99)
        if _p99(best) < _UNDISTURBED * statistics.median(best):
            break
    return best


def _round_ms(detector: Detector, runs: int) -> list[float]:
    times_ms = []
    for picture in islice(cycle(detector.golden_pictures()), runs):
        start_s = time.perf_counter()
        detector.predict(picture)
        times_ms.append(1e3 * (time.perf_counter() - start_s))
    return times_ms


def _p99(times_ms: Sequence[float]) -> float:
    return sorted(times_ms)[math.ceil(0.99 * len(times_ms)) - 1]


def _try(args: argparse.Namespace) -> Verdict:
    try:
        if args.parent is not None and not uses_gpu(args.device):
            bound_memory()
        gpu = GpuOptions(cache=args.cache)
        measured = measure(args.bundle, device=args.device, threads=args.threads, runs=args.runs, gpu=gpu)
        return Verdict(measured=measured)
    except UsageError as error:
        return Verdict(lacking=str(error))
    except MemoryError:
        return Verdict(lacking="not enough memory to open it here: free some, or wish for a smaller one")
    except WaltError as error:
        return Verdict(unfit=str(error))
    except Exception as error:
        # The process's boundary: a model is data from elsewhere, and may make a runtime raise anything.
        LOG.debug("%s does not load", args.bundle, exc_info=True)
        return Verdict(unfit=f"it does not load: {type(error).__name__}: {first_line(error)}")


def main(argv: Sequence[str] | None = None) -> int:
    """Prints a `Verdict` as one line of JSON; returns 0 if it was measured, else 1."""
    parser = argparse.ArgumentParser(prog="python -m walt_edge.update.trial", description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "tensorrt"))
    parser.add_argument("--threads", type=int)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--cache", type=Path, help="where ONNX Runtime's TensorRT provider keeps what it built")
    parser.add_argument("--parent", type=int, help="process with which to end")
    args = parser.parse_args(argv)
    if args.parent is not None:
        be_humble(args.parent)
    verdict = _try(args)
    sys.stdout.write(msgspec.json.encode(verdict).decode() + "\n")
    return 0 if verdict.measured is not None else 1


if __name__ == "__main__":
    raise SystemExit(main())
