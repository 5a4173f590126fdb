"""Judging a fresh network on the validation split, and the pictures by which others can check that they run it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch

from walt_edge.contract.files import write_whole
from walt_edge.contract.instances import AmodalInstances
from walt_edge.runtimes.onnx_detector import letterbox
from walt_edge.vision.amodal import assemble
from walt_train.data.sample import AmodalSample, Samples
from walt_train.metrics.amodal_iou import evaluate_frames
from walt_train.metrics.threshold import choose_threshold
from walt_train.model.waltnet import WaltNet

GOLDEN = "golden"
CALIBRATION = "calibration"
_GOLDEN_COUNT = 3
_CALIBRATION_COUNT = 32
_CALIBRATION_QUALITY = 95


def predict_frame(net: WaltNet, sample: AmodalSample, score_threshold: float) -> AmodalInstances:
    """What the network sees in a sample's picture, in pixels of the frame."""
    width, height = net.network.input_wh
    picture, scale = letterbox(sample.image_bgr, (height, width))
    image = torch.from_numpy(picture)[None].to(net.anchors.device)
    boxes, scores, labels, maps = (value.cpu().numpy() for value in net.predict(image)[:4])
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


def write_golden(samples: Samples, folder: Path) -> None:
    """Writes whole validation pictures, for export to say what the network finds in them."""
    target = folder / GOLDEN
    target.mkdir(parents=True, exist_ok=True)
    for index in range(min(_GOLDEN_COUNT, len(samples))):
        encoded = cv2.imencode(".png", samples.sample(0, index).image_bgr)[1]
        write_whole(target / f"{index}.png", encoded.tobytes())


def write_calibration(samples: Samples, folder: Path, size_wh: tuple[int, int]) -> None:
    """Writes validation pictures on which export measures activations for INT8: 32 at most, none of them golden.

    Args:
        samples: The validation split.
        folder: The checkpoint's.
        size_wh: The network's input, pixels; larger pictures are made to fit it, as the network sees them.
    """
    target = folder / CALIBRATION
    target.mkdir(parents=True, exist_ok=True)
    for older in target.glob("*.jpg"):
        older.unlink()
    last = len(samples) - 1
    places = np.linspace(_GOLDEN_COUNT, last, min(_CALIBRATION_COUNT, max(0, last + 1 - _GOLDEN_COUNT))).astype(int)
    seen = {samples.sample(0, index).name for index in range(min(_GOLDEN_COUNT, len(samples)))}
    for index in places.tolist():
        sample = samples.sample(0, index)
        if sample.name not in seen:  # a folder of few frames shows them again
            seen.add(sample.name)
            _write_fitting(sample, target / f"{index:04d}.jpg", size_wh)


def _write_fitting(sample: AmodalSample, path: Path, size_wh: tuple[int, int]) -> None:
    height, width = sample.image_bgr.shape[:2]
    scale = min(1.0, size_wh[0] / width, size_wh[1] / height)
    fitting = cv2.resize(sample.image_bgr, (max(1, round(width * scale)), max(1, round(height * scale))))
    encoded = cv2.imencode(".jpg", fitting, [cv2.IMWRITE_JPEG_QUALITY, _CALIBRATION_QUALITY])[1]
    write_whole(path, encoded.tobytes())
