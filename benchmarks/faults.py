"""What a live camera survives, and how soon: random faults between it and an agent that watches.

    python -m benchmarks.faults --out docs/benchmarks/faults.json

The camera is GStreamer's server, which plays on whether or not anybody looks, with a keyframe a second; the faults
are done by a proxy before it, to the server's process and to the decoder's. Recovery is counted to the first decoded
frame that was captured after the fault. Beside it, what the decoder's process costs while all is well.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
from tqdm import tqdm

from benchmarks.fault_proxy import Weather
from benchmarks.fault_site import KINDS, UNAUTHORISED, Kind, Site, film, recovery_s, wait_until
from benchmarks.report import Report, arguments
from walt_edge.camera import OPEN_S, Transport
from walt_edge.capture.rtsp import RtspCamera
from walt_edge.rtsp_server import RtspServer

RECOVERY_S = 5.0
BACKOFF_S = 2.0
OVERTIME_S = 0.25
GROWTH_MB = 10.0
SHARE_BY_UDP = 5  # one fault in so many
COST_S = 20.0
MB = 1e6


@dataclass
class Outcome:
    """What came of the faults.

    Attributes:
        recoveries_s: By the name of the kind.
        overtime_s: By how much a read outlasted its timeout, at most.
        backward: How often a frame's number or time went back.
        most_decoders: Decoder processes at a time, once the camera had recovered.
        leaked_descriptors: More at the end than at the beginning, of the agent's process.
        growth_mb: Of the agent's own memory, from a fifth of the faults to the last.
        decoder_mb: Of the decoder's own memory, at most.
    """

    recoveries_s: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    overtime_s: float = 0.0
    backward: int = 0
    most_decoders: int = 0
    leaked_descriptors: int = 0
    growth_mb: float = 0.0
    decoder_mb: float = 0.0

    def all_s(self) -> list[float]:
        """All recoveries."""
        return [one for some in self.recoveries_s.values() for one in some]


def main() -> None:
    """Measures, prints a table, writes JSON."""
    args = arguments(__doc__).parse_args()
    faults = 25 if args.quick else 100
    report = Report("faults", {"seed": args.seed, "faults": faults})
    measure(report, faults, args.seed)
    measure_cost(report, COST_S / 4 if args.quick else COST_S)
    report.finish(args.out)


def measure(report: Report, faults: int, seed: int) -> None:
    """Adds the rows of a camera with faults.

    Args:
        report: Where the rows go.
        faults: How many; at least one of each kind.
        seed: Of their order and of all that is drawn for them.
    """
    outcome = Outcome()
    by_udp = faults // SHARE_BY_UDP
    suffer(outcome, faults - by_udp, seed, "tcp")
    suffer(outcome, by_udp, seed + 1, "udp")
    for kind in KINDS:
        if some := outcome.recoveries_s[kind.name]:
            report.add(f"recovery, {kind.name}, worst of {len(some)}", max(some), "s", better="lower")
    every = outcome.all_s()
    report.add("recovery to the first decoded frame, median", float(np.median(every)), "s", better="lower")
    report.add(f"the same, worst of {len(every)} faults", max(every), "s", target=RECOVERY_S, better="lower")
    half_open = outcome.recoveries_s["half-open"] + outcome.recoveries_s["half-open from the camera alone"]
    report.add("half-open, after detection, worst", max(half_open), "s", target=RECOVERY_S, better="lower")
    report.add("longest pause between attempts", longest_pause_s(seed), "s", target=BACKOFF_S, better="lower")
    report.add("read beyond its timeout, worst", outcome.overtime_s, "s", target=OVERTIME_S, better="lower")
    report.add("frames out of order", outcome.backward, "frames", target=0, better="lower")
    report.add("decoders at a time", outcome.most_decoders, "processes", target=1, better="lower")
    report.add("descriptors leaked", outcome.leaked_descriptors, "", target=0, better="lower")
    report.add("agent's memory grown by", outcome.growth_mb, "MB", target=GROWTH_MB, better="lower")
    report.add("decoder's own memory, worst", outcome.decoder_mb, "MB", better="lower")


def suffer(
    outcome: Outcome, faults: int, seed: int, transport: Transport, *, open_s: float = OPEN_S, stall_s: float = 5.0
) -> None:
    """Does random faults to a camera, one after another, and notes what came of each.

    Raises:
        TimeoutError: It did not recover from one.
    """
    with tempfile.TemporaryDirectory() as folder, Site(Path(folder), transport, open_s, stall_s, seed) as site:
        site.settle()
        descriptors = _descriptors(site)
        small_mb = 0.0
        for number, kind in enumerate(tqdm(list(_drawn(faults, seed, transport)), disable=None, leave=False)):
            outcome.recoveries_s[kind.name].append(recovery_s(site, kind))
            site.settle()
            outcome.most_decoders = max(outcome.most_decoders, len(site.decoders()))
            outcome.decoder_mb = max(outcome.decoder_mb, _own_mb(site.camera.decoder_pid))
            if number == faults // 5:
                small_mb = _own_mb(None)
        # Ends of connections come in by themselves.
        _settled(site, descriptors)
        outcome.leaked_descriptors += max(0, _descriptors(site) - descriptors)
        outcome.growth_mb = max(outcome.growth_mb, _own_mb(None) - small_mb)
        outcome.overtime_s = max(outcome.overtime_s, site.watch.overtime_s)
        outcome.backward += site.watch.backward


def longest_pause_s(seed: int) -> float:
    """The longest time between two attempts at a camera that refuses all of them, for ten seconds."""
    with tempfile.TemporaryDirectory() as folder, Site(Path(folder), "tcp", OPEN_S, 5.0, seed) as site:
        site.settle()
        since = time.monotonic()
        site.proxy.weather = Weather(reply=UNAUTHORISED)
        site.proxy.cut(reset=True)
        wait_until(lambda: time.monotonic() > since + 10.0, "ten seconds to pass")
        return float(np.diff([at for at in site.proxy.taken_at if at > since]).max())


def measure_cost(report: Report, lasts_s: float) -> None:
    """Adds what the decoder's process takes at 640x384 when every frame is asked for."""
    with tempfile.TemporaryDirectory() as folder:
        for fps in (5, 25):
            path = film(Path(folder) / f"{fps}.mp4", "libx264", (640, 384), fps)
            with RtspServer(path, live=True) as server, RtspCamera(server.url) as camera:
                _measure_cost(report, camera, fps, lasts_s)


def _measure_cost(report: Report, camera: RtspCamera, fps: int, lasts_s: float) -> None:
    for _ in range(2 * fps):
        camera.read(5.0)
    decoder = psutil.Process(camera.decoder_pid)
    began_at, before = time.monotonic(), decoder.cpu_times()
    while time.monotonic() - began_at < lasts_s:
        camera.read(5.0)
    after, passed_s = decoder.cpu_times(), time.monotonic() - began_at
    used_s = after.user + after.system - before.user - before.system
    report.add(f"decoder's process, 640x384 at {fps} fps", 100 * used_s / passed_s, "% of a core", better="lower")
    try:
        report.add(f"its memory at {fps} fps, PSS", decoder.memory_full_info().pss / MB, "MB", better="lower")
    except psutil.AccessDenied:  # it is not dumpable, and root alone may look
        report.add(f"its memory at {fps} fps, RSS", decoder.memory_info().rss / MB, "MB", better="lower")


def _drawn(faults: int, seed: int, transport: Transport) -> Iterator[Kind]:
    """Kinds at random, each once before any comes twice."""
    chance = random.Random(seed)
    kinds = [kind for kind in KINDS if transport == "tcp" or kind.over_udp]
    chance.shuffle(kinds)
    for number in range(max(faults, len(kinds))):
        yield kinds[number] if number < len(kinds) else chance.choice(kinds)


def _descriptors(site: Site) -> int:
    """This process's, without the proxy's two for each connection."""
    return int(psutil.Process().num_fds()) - 2 * site.proxy.connections


def _settled(site: Site, descriptors: int) -> None:
    try:
        wait_until(lambda: _descriptors(site) <= descriptors, "descriptors to be closed")
    except TimeoutError:
        tqdm.write(f"{_descriptors(site)} descriptors, {descriptors} at the beginning")


def _own_mb(pid: int | None) -> float:
    """Memory that a process has to itself, MB; this one's for None."""
    memory = psutil.Process(pid).memory_info()
    return float(memory.rss - memory.shared) / MB


if __name__ == "__main__":
    main()
