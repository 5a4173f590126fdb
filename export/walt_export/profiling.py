"""Where the time goes when ONNX Runtime runs a network on this machine: its own profiler, by part."""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray

from walt_edge.runtimes.session import SessionError, first_line, require_runtime, session_options
from walt_edge.runtimes.walt_onnx import INPUT as IMAGE
from walt_export.parts import REST, Parts, carry_parts

_KERNEL: Final = "_kernel_time"
_WARM_UP = 2


@dataclass(frozen=True, slots=True)
class Profile:
    """What was measured.

    Attributes:
        ms: By part, the mean over pictures of each node's median over runs, so that what disturbs one run counts in
            none; what the runtime spends between nodes is in `rest`.
        threads: That it had.
        runs: Of each picture.
        found: How many objects the graph gave for each picture, before any threshold.
    """

    ms: Mapping[str, float]
    threads: int
    runs: int
    found: tuple[int, ...]

    @property
    def total_ms(self) -> float:
        """Of a picture."""
        return sum(self.ms.values())


def profile(
    model: onnx.ModelProto, parts: Parts, images: Sequence[NDArray[np.uint8]], *, threads: int, runs: int
) -> Profile:
    """Runs a network on the CPU and adds up the time of its nodes by part.

    Args:
        model: Its nodes, those of its functions too, are given names where they have none.
        parts: Of its graph.
        images: (H, W, 3) uint8 BGR of the network's size, one at least.
        threads: For one picture.
        runs: Of each picture, after two that warm up.

    Raises:
        UsageError: ONNX Runtime is not installed.
        SessionError: It cannot open or run the model.
    """
    for place, body in enumerate([model.graph, *model.functions]):
        for index, node in enumerate(body.node):
            node.name = node.name or f"unnamed_{place}_{index}"
    with tempfile.TemporaryDirectory() as scratch:
        session = _open(model.SerializeToString(), Path(scratch), threads)
        found = tuple(_run(session, image, _WARM_UP + runs) for image in images)
        events = json.loads(Path(session.end_profiling()).read_text())
        optimised = onnx.load(str(_optimised(Path(scratch))), load_external_data=False).graph
    part_of = {node.name: part for node, part in zip(optimised.node, carry_parts(optimised, parts), strict=True)}
    each, length = list(_runs(events)), _WARM_UP + runs
    by_picture = [_by_part(each[i * length + _WARM_UP : (i + 1) * length], part_of) for i in range(len(images))]
    names = {name for one in by_picture for name in one}
    ms = {name: float(np.mean([one.get(name, 0.0) for one in by_picture])) for name in names}
    return Profile(ms, threads, runs, found)


def _optimised(scratch: Path) -> Path:
    return scratch / "optimised.onnx"


def _open(model: bytes, scratch: Path, threads: int) -> Any:
    options = session_options(threads)
    options.enable_profiling = True
    options.profile_file_prefix = str(scratch / "profile")
    options.optimized_model_filepath = str(_optimised(scratch))
    try:
        return require_runtime().InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's own exceptions share no other base
        raise SessionError(f"ONNX Runtime cannot open the model: {first_line(error)}") from error


def _run(session: Any, image: NDArray[np.uint8], times: int) -> int:
    """Runs it so often; returns how many objects it gave."""
    try:
        for _ in range(times):
            (scores,) = session.run(["scores"], {IMAGE: image[None]})
    except Exception as error:  # the runtime's own exceptions share no other base
        raise SessionError(f"ONNX Runtime gave up: {first_line(error)}") from error
    return int(np.size(scores))


def _runs(events: Sequence[Mapping[str, Any]]) -> Iterator[tuple[dict[str, float], float]]:
    """Of each run the milliseconds of its nodes by name, and of all of it."""
    nodes: dict[str, float] = defaultdict(float)
    for event in events:
        ms = event.get("dur", 0) / 1000
        if event.get("cat") == "Node" and event["name"].endswith(_KERNEL):
            nodes[event["name"].removesuffix(_KERNEL)] += ms
        elif event["name"] == "model_run":
            yield dict(nodes), ms
            nodes.clear()


def _by_part(runs: Sequence[tuple[dict[str, float], float]], part_of: Mapping[str, str]) -> dict[str, float]:
    """Milliseconds of one picture by part."""
    ms: dict[str, float] = defaultdict(float)
    for name in runs[0][0]:
        ms[part_of.get(name, REST)] += float(np.median([nodes.get(name, 0.0) for nodes, _ in runs]))
    ms[REST] += float(np.median([total_ms - sum(nodes.values()) for nodes, total_ms in runs]))
    return dict(ms)
