"""What `walt-edge detect` writes: amodal instances of every frame, COCO-like, one entry a frame."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from walt_edge.contract.errors import WaltError
from walt_edge.contract.files import write_whole
from walt_edge.contract.instances import AmodalInstances, InstancesError
from walt_edge.contract.labels import coco_categories
from walt_edge.contract.masks import MaskError, PatchMask, Rle, decode_rle, encode_rle


class PredictionsError(WaltError):
    """A predictions file is missing, malformed or contradicts itself."""


class Instance(msgspec.Struct, frozen=True, kw_only=True):
    """One object; fields as in `annotations.json` of rendered streets and composites.

    Attributes:
        bbox: Amodal box, x, y, width, height in pixels.
        category_id: `Label` value.
        score: 0..1.
        segmentation: Amodal mask.
        visible_segmentation: Amodal minus occluder.
        occluder_segmentation: What lies in front, inside the amodal box.
        occluded_segmentation: The objects behind, inside the amodal box.
        occlusion_fraction: Hidden over amodal area.
    """

    bbox: tuple[float, float, float, float]
    category_id: int
    score: float
    segmentation: Rle
    visible_segmentation: Rle
    occluder_segmentation: Rle
    occluded_segmentation: Rle
    occlusion_fraction: float


class FramePrediction(msgspec.Struct, frozen=True, kw_only=True):
    """One frame: its number in the recording, its file if it has one of its own, its size, its objects."""

    frame: int
    file_name: str
    width: int
    height: int
    instances: list[Instance]


class Predictions(msgspec.Struct, frozen=True, kw_only=True):
    """A whole recording, and the model that looked at it: its name, and the sha256 of its bundle where it has one."""

    model: str
    model_sha256: str = ""
    frames: list[FramePrediction]
    categories: list[dict[str, Any]] = msgspec.field(default_factory=coco_categories)
    version: int = 1


def frame_prediction(instances: AmodalInstances, frame: int, file_name: str = "") -> FramePrediction:
    """Encodes one frame's instances."""
    width, height = instances.frame_wh
    layers = zip(instances.amodal, instances.visible, instances.occluder, instances.occluded, strict=True)
    encoded = [[encode_rle(mask.full(height, width)) for mask in masks] for masks in layers]
    records = []
    for index, (whole, seen, front, back) in enumerate(encoded):
        x0, y0, x1, y1 = (round(float(value), 3) for value in instances.boxes_xyxy[index])
        records.append(
            Instance(
                bbox=(x0, y0, round(x1 - x0, 3), round(y1 - y0, 3)),
                category_id=int(instances.labels[index]),
                score=round(float(instances.scores[index]), 6),
                segmentation=whole,
                visible_segmentation=seen,
                occluder_segmentation=front,
                occluded_segmentation=back,
                occlusion_fraction=round(float(instances.occlusion_fractions[index]), 6),
            )
        )
    return FramePrediction(frame=frame, file_name=file_name, width=width, height=height, instances=records)


def frame_instances(prediction: FramePrediction) -> AmodalInstances:
    """Decodes one frame's instances.

    Raises:
        PredictionsError: A mask is malformed or not of the frame's size, or a number is out of range.
    """
    size = (prediction.height, prediction.width)
    records = prediction.instances

    def layer(name: str) -> tuple[PatchMask, ...]:
        rles = [getattr(record, name) for record in records]
        if any(rle.size != size for rle in rles):
            raise PredictionsError(f"frame {prediction.frame}: a mask is not of the frame's size {size}")
        return tuple(PatchMask.from_full(decode_rle(rle)) for rle in rles)

    boxes = np.array([record.bbox for record in records], np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    try:
        return AmodalInstances(
            (prediction.width, prediction.height),
            np.clip(boxes, 0, np.array([prediction.width, prediction.height] * 2, np.float32)),
            np.array([record.category_id for record in records], np.int64),
            np.array([record.score for record in records], np.float32),
            layer("segmentation"),
            layer("occluder_segmentation"),
            layer("occluded_segmentation"),
        )
    except (MaskError, InstancesError, OverflowError) as error:
        raise PredictionsError(f"frame {prediction.frame}: {error}") from error


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Writes the file whole or not at all.

    Raises:
        PredictionsError: It cannot be written.
    """
    try:
        write_whole(path, msgspec.json.encode(predictions))
    except OSError as error:
        raise PredictionsError(f"cannot write {path}: {error.strerror}; free space or give another --out") from error


def read_predictions(path: Path) -> Predictions:
    """Reads a predictions file; raises PredictionsError if it is missing or malformed."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Predictions)
    except OSError as error:
        raise PredictionsError(f"cannot read {path}: {error.strerror}; make it with walt-edge detect") from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise PredictionsError(f"{path} is no predictions file: {error}; make it with walt-edge detect") from error
