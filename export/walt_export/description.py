"""What a bundle says of itself, in lines that a person reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import msgspec
import onnx
from onnx import helper

from walt_edge.contract.bundle import MODEL, Bundle, answer_name
from walt_edge.contract.predictions import Predictions
from walt_export.cost import PartCost
from walt_export.profiling import Profile

Fact = tuple[str, str]
"""Its name and what there is to say; a name "" goes on with the fact before."""

_TOLD = frozenset(
    {"name", "size_wh", "labels", "score_threshold", "candidates", "pictures", "outputs", "precision", "opset"}
    | {"operators", "parameters", "gflops", "parity", "lineage", "golden", "files"}
    | {"walt_version", "versions", "format"}
)
"""Fields of the manifest that `describe` puts into words of its own."""


def describe(bundle: Bundle, model: onnx.ModelProto) -> Iterator[Fact]:
    """Everything that the manifest says, and of the graph what it is made of."""
    manifest = bundle.manifest
    yield "name", manifest.name
    yield "bundle", f"format {manifest.format}, written by walt-amodal {manifest.walt_version}"
    yield "", f"made with {', '.join(f'{name} {version}' for name, version in sorted(manifest.versions.items()))}"
    yield "", f"sha256 {bundle.sha256}"
    width, height = manifest.size_wh
    yield "input", f"{width}x{height} pixels, BGR, uint8; frames are letterboxed into its top left corner"
    yield "", f"{manifest.pictures or 'any number of'} picture{'' if manifest.pictures == 1 else 's'} at a time"
    yield "outputs", ", ".join(manifest.outputs)
    yield "classes", ", ".join(label.title for label in manifest.labels)
    yield "threshold", f"{manifest.score_threshold:.4g}"
    yield "candidates", f"at most {manifest.candidates} in a frame"
    yield "parameters", f"{manifest.parameters:,}"
    yield "operations", f"{manifest.gflops:.2f} GFLOPs for a frame with all candidates, functions apart"
    yield "precision", f"{manifest.precision}; constants stored as {_precision(model)}"
    yield "graph", f"opset {manifest.opset}: {_operators(model)}"
    yield "functions", ", ".join(manifest.operators) or "none"
    yield "parity", ", ".join(f"{name} {value:g}" for name, value in sorted(manifest.parity.items()))
    yield from _lineage(bundle)
    # Whatever a later manifest says beside that.
    for name, value in msgspec.to_builtins(manifest).items():
        if name not in _TOLD:
            yield name, value if isinstance(value, str) else msgspec.json.encode(value).decode()
    yield from _files(bundle)


def cost_table(costs: Sequence[PartCost]) -> Iterator[str]:
    """Lines of a table with their sums."""
    timed = any(one.ms is not None for one in costs)
    width = max(len(one.part) for one in costs)
    yield f"{'part':<{width}}  {'parameters':>11}  {'bytes':>11}  {'GFLOPs':>7}" + ("       ms" if timed else "")
    ms = sum(one.ms or 0.0 for one in costs) if timed else None
    total = PartCost(
        "all",
        sum(one.parameters for one in costs),
        sum(one.size_bytes for one in costs),
        sum(one.gflops for one in costs),
        ms,
    )
    for one in (*costs, total):
        row = f"{one.part:<{width}}  {one.parameters:>11,}  {one.size_bytes:>11,}  {one.gflops:>7.3f}"
        yield row if one.ms is None else f"{row}  {one.ms:>7.2f}"


def measured_on(profile: Profile) -> str:
    """How the milliseconds came about."""
    threads = "1 thread" if profile.threads == 1 else f"{profile.threads} threads"
    found = ", ".join(map(str, profile.found))
    return f"ONNX Runtime, CPU, {threads}, {profile.runs} runs of the golden pictures (it gave {found} objects)"


def _precision(model: onnx.ModelProto) -> str:
    sizes = Counter[str]()
    for one in model.graph.initializer:
        sizes[helper.tensor_dtype_to_np_dtype(one.data_type).name] += one.ByteSize()
    return ", ".join(f"{kind} ({size / 1e6:.2f} MB)" for kind, size in sizes.most_common() if size >= 1e4)


def _operators(model: onnx.ModelProto) -> str:
    counts = Counter(
        f"{node.domain}.{node.op_type}" if node.domain else node.op_type for node in model.graph.node
    ).most_common()
    return f"{len(model.graph.node)} nodes, " + ", ".join(f"{name} {count}" for name, count in counts)


def _lineage(bundle: Bundle) -> Iterator[Fact]:
    lineage = bundle.manifest.lineage
    yield "lineage", f"recipe {lineage.recipe}, {lineage.steps} steps, seed {lineage.seed}"
    yield "", f"checkpoint sha256 {lineage.checkpoint_sha256}"
    yield "", f"data sha256 {lineage.data_sha256}"
    for one in lineage.started:
        yield "", f"began with weights that were trained on {one}"


def _files(bundle: Bundle) -> Iterator[Fact]:
    names = [MODEL, *sorted(set(bundle.files) - {MODEL})]
    for index, name in enumerate(names):
        size = f"{len(bundle.files[name]):,} bytes{_objects(bundle, name)}"
        yield "" if index else "files", f"{name}, {size}, sha256 {bundle.manifest.files[name]}"


def _objects(bundle: Bundle, name: str) -> str:
    """How many objects a golden picture's answer holds."""
    if name not in map(answer_name, bundle.manifest.golden):
        return ""
    try:
        frames = msgspec.json.decode(bundle.files[name], type=Predictions).frames
    except msgspec.MsgspecError:
        return ", unreadable"
    return f", {sum(len(frame.instances) for frame in frames)} objects"
