"""Judging a fresh network on the validation split."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from walt_edge.contract.instances import AmodalInstances
from walt_edge.runtimes.onnx_detector import letterbox
from walt_edge.vision.amodal import assemble
from walt_train.data.sample import AmodalSample, Samples
from walt_train.metrics.amodal_iou import evaluate_frames
from walt_train.metrics.threshold import choose_threshold
from walt_train.model.waltnet import WaltNet


def predict_frame(net: WaltNet, sample: AmodalSample, score_threshold: float) -> AmodalInstances:
    """What the network sees in a sample's picture, in pixels of the frame."""
    width, height = net.network.input_wh
    picture, scale = letterbox(sample.image_bgr, (height, width))
    device = net.anchors.device
    scene = None
    if sample.scene_bgr is not None:
        scene = torch.from_numpy(letterbox(sample.scene_bgr, (height, width))[0])[None].to(device)
    answer = net.predict(torch.from_numpy(picture)[None].to(device), scene)
    boxes, scores, labels, maps = (value.cpu().numpy() for value in answer[:4])
    frame_h, frame_w = sample.image_bgr.shape[:2]
    return assemble(
        boxes, scores, labels, maps, scale=scale, frame_wh=(frame_w, frame_h), score_threshold=score_threshold
    )


def judge(net: WaltNet, samples: Samples, count: int) -> tuple[float, dict[str, float | None]]:
    """Chooses the score threshold and measures with it.

    Args:
        net: In eval mode.
        samples: The validation split.
        count: How many samples to look at; each frame once.

    Returns:
        The threshold; by name and γ the counts, the IoU x 100 and the recall 0..1, None where there was no case.
    """
    seen = list(_predictions(net, samples, count))
    threshold = choose_threshold(seen)
    result = evaluate_frames(seen, score_threshold=threshold)
    figures: dict[str, float | None] = {"frames": float(result.frames)}
    for gamma, row in result.at_gamma.items():
        figures |= {
            f"cases_{gamma}": float(row.cases),
            f"mask_iou_{gamma}": row.mask_iou,
            f"box_iou_{gamma}": row.box_iou,
            f"recall_{gamma}": row.recall,
        }
    return threshold, figures


def _predictions(net: WaltNet, samples: Samples, count: int) -> Iterator[tuple[AmodalInstances, AmodalSample]]:
    seen: set[str] = set()
    for index in range(min(count, len(samples))):
        sample = samples.sample(0, index)
        if sample.name in seen:  # a folder of few frames has shown them all
            return
        seen.add(sample.name)
        yield predict_frame(net, sample, 0.0), sample
