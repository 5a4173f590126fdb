"""Teachers by name: a WALT-Net, an ONNX detector, an mmdet checkpoint; all answer to `walt_edge.runtimes.Teacher`.

Detectors are asked beside motion. A WALT-Net tells objects apart by itself and is followed (`crowds`).
"""

from __future__ import annotations

from pathlib import Path

from walt_edge.contract.errors import UsageError
from walt_edge.packaged import GENERAL, named_model
from walt_edge.runtimes import Teacher

MOTION = "motion"
"""The teacher that needs no weights."""


def open_teacher(spec: str) -> Teacher | None:
    """The teacher of a name, who is asked beside motion; None for motion alone.

    Args:
        spec: `motion`, `general`, `FILE.walt`, `FILE.onnx` or `mmdet:CONFIG:CHECKPOINT`.

    Raises:
        UsageError: No such kind of teacher, or what it needs is not installed.
        WaltError: Its files cannot be used.
    """
    if spec == MOTION:
        return None
    if spec == GENERAL or spec.endswith(".walt"):
        from walt_train.mining.instances import InstanceTeacher

        return InstanceTeacher.read(named_model(spec))
    if spec.endswith(".onnx"):
        from walt_edge.runtimes.onnx_detector import OnnxDetector  # an extra: only where asked for

        return OnnxDetector(Path(spec))
    kind, _, rest = spec.partition(":")
    config, _, checkpoint = rest.partition(":")
    if kind == "mmdet" and config and checkpoint:
        return _mmdet(Path(config), Path(checkpoint))
    raise UsageError(
        f"no teacher '{spec}': give motion, general, a FILE.walt, a FILE.onnx, or mmdet:CONFIG:CHECKPOINT"
    )


def _mmdet(config: Path, checkpoint: Path) -> Teacher:
    try:
        from walt_train.model.mm_adapter.teacher import load_mmdet_teacher
    except ModuleNotFoundError as error:
        raise UsageError(f"an mmdet teacher needs {error.name}: pip install 'walt-amodal[train]'") from error
    return load_mmdet_teacher(config, checkpoint)
