"""A bundle with this version's suppression, without its checkpoint.

Operators are functions that the file brings along, by names that say their version: to renew one is to exchange the
function and the name by which it is called. No weight moves. What the bundle answers does, so that it needs a
threshold of its own.
"""

from __future__ import annotations

import re

import msgspec
import onnx

from walt_edge.contract.bundle import LICENCE, MODEL, Bundle, BundleManifest
from walt_edge.runtimes.walt_onnx import WaltOnnx
from walt_export.bundle import golden_answers, golden_pictures, made_with
from walt_export.ops import amodal_nms
from walt_export.ops.body import DOMAIN
from walt_export.ops.translations import attach_functions

_SUPPRESSION = re.compile(r"AmodalNMS_v\d+_k(\d+)")


def renewed(bundle: Bundle, score_threshold: float) -> tuple[BundleManifest, dict[str, bytes]]:
    """What `write_bundle` takes: the same network, suppressed as this version does, with golden answers of its own.

    What TensorRT builds of is left out, as it holds the suppression of before.

    Args:
        bundle: Of any version's suppression.
        score_threshold: Chosen for the answers as they will be.
    """
    model = onnx.load_from_string(bundle.files[MODEL])
    for node in model.graph.node:
        most = _SUPPRESSION.fullmatch(node.op_type) if node.domain == DOMAIN else None
        if most is not None:
            node.op_type = amodal_nms.name_for(int(most[1]))
    del model.functions[:]
    attach_functions(model, bundle.manifest.opset)
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString(deterministic=True)
    manifest = msgspec.structs.replace(
        bundle.manifest,
        score_threshold=score_threshold,
        operators=[function.name for function in model.functions],
        **made_with(),
    )
    kept = {name: bundle.files[name] for name in (LICENCE, *manifest.golden)}
    network = WaltOnnx(data, size_wh=manifest.size_wh, device="cpu", threads=1)
    return manifest, kept | {MODEL: data, **golden_answers(network, manifest, golden_pictures(bundle))}
