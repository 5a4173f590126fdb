"""Writes samples as a folder of amodal COCO annotations, in the format of `walt-train rwalt`."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.errors import WaltError
from walt_edge.contract.labels import coco_categories
from walt_edge.contract.masks import PatchMask
from walt_train.data.coco import ANNOTATIONS
from walt_train.data.layers import Layers, encode_patch, sample_layers
from walt_train.data.sample import AmodalObject, AmodalSample, Samples

IMAGES = "images"
MAX_PER_IMAGE = 1000
"""Annotation ids are 1000 x image id + place."""

Record = dict[str, Any]


class OutputError(WaltError):
    """The data set cannot be written."""


def write_samples(folder: Path, samples: Samples, info: Mapping[str, Any], *, epoch: int = 0) -> Iterator[int]:
    """Writes an epoch; yields the number of samples written so far.

    `annotations.json` appears whole at the end, or not at all.

    Args:
        folder: Gets `images/` (PNG, lossless) and `annotations.json`.
        samples: What to write.
        info: Facts for the file's `info`; `content_sha256`, of decoded pixels and records, is added.
        epoch: Which epoch.

    Raises:
        OutputError: The folder cannot be written.
    """
    path, partial = folder / ANNOTATIONS, folder / f".{ANNOTATIONS}.partial"
    try:
        (folder / IMAGES).mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        try:
            with partial.open("wb") as file:
                yield from _write(file, folder, samples, info, epoch)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot write to {folder}: {error.strerror}; free space or choose another --out"
        ) from error


def _write(file: BinaryIO, folder: Path, samples: Samples, info: Mapping[str, Any], epoch: int) -> Iterator[int]:
    digest = hashlib.sha256()
    images: list[Record] = []
    file.write(b'{"annotations":[')
    mark = b"\n"
    for index in range(len(samples)):
        sample = samples.sample(epoch, index)
        image = image_record(sample, index + 1)
        (folder / image["file_name"]).write_bytes(_png(sample.image_bgr))
        digest.update(hashlib.sha256(sample.image_bgr.tobytes()).digest() + msgspec.json.encode(image))
        for record in annotation_records(sample, index + 1):
            data = msgspec.json.encode(record)
            digest.update(data)
            file.write(mark + data)
            mark = b",\n"
        images.append(image)
        yield index + 1
    tail = {
        "images": images,
        "categories": coco_categories(),
        "cameras": [{"name": name} for name in sorted({image["camera"] for image in images})],
        "info": {**info, "data_sha256": samples.sha256, "content_sha256": digest.hexdigest()},
    }
    file.write(b"\n]," + msgspec.json.encode(tail)[1:])


def _png(bgr: NDArray[np.uint8]) -> bytes:
    done, data = cv2.imencode(".png", bgr, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not done:
        raise OutputError(f"cannot encode an image of shape {bgr.shape} as PNG")
    return bytes(data)


def image_record(sample: AmodalSample, image_id: int) -> Record:
    """The `images` entry of a sample."""
    height, width = sample.image_bgr.shape[:2]
    return {
        "id": image_id,
        "file_name": f"{IMAGES}/{image_id:06d}.png",
        "width": width,
        "height": height,
        "time": sample.time,
        "camera": sample.camera,
        "frame": sample.frame,
        "name": sample.name,
    }


def annotation_records(sample: AmodalSample, image_id: int) -> list[Record]:
    """The `annotations` entries of a sample, nearest first."""
    height, width = sample.image_bgr.shape[:2]
    pairs = zip(sample.objects, sample_layers(sample), strict=True)
    return [
        {"id": image_id * MAX_PER_IMAGE + order, "image_id": image_id, "depth_order": order}
        | _record(thing, layers, (width, height))
        for order, (thing, layers) in enumerate(pairs)
    ]


def _record(thing: AmodalObject, layers: Layers, size_wh: tuple[int, int]) -> Record:
    x0, y0, x1, y1 = layers.amodal.box_xyxy

    def encoded(patch: PatchMask) -> Record:
        return encode_patch(patch, size_wh).coco()

    return {
        "category_id": int(thing.label),
        "track_id": thing.track_id,
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "area": layers.amodal.area,
        "iscrowd": 0,
        "segmentation": encoded(layers.amodal),
        "visible_segmentation": encoded(layers.visible),
        "occluder_segmentation": encoded(layers.occluder),
        "occluded_segmentation": encoded(layers.occluded),
        "occlusion_fraction": round(layers.occlusion_fraction, 6),
        "truncated": x0 <= 0 or y0 <= 0 or x1 >= size_wh[0] or y1 >= size_wh[1],
        **_points(thing, size_wh),
    }


def _points(thing: AmodalObject, size_wh: tuple[int, int]) -> Record:
    """COCO's x, y, v triples, 0, 0, 0 outside the picture; and the corners of the 3D box, which may leave it."""
    record: Record = {}
    if thing.keypoints is not None:
        inside = ((thing.keypoints[:, :2] >= 0) & (thing.keypoints[:, :2] < size_wh)).all(axis=1)
        labelled = inside & (thing.keypoints[:, 2] > 0)
        triples = np.where(labelled[:, None], thing.keypoints, 0.0)
        record["keypoints"] = [value for x, y, v in triples.tolist() for value in (round(x, 3), round(y, 3), int(v))]
        record["num_keypoints"] = int(np.count_nonzero(labelled))
    if thing.cuboid is not None:
        record["cuboid"] = [[round(x, 3), round(y, 3)] for x, y in thing.cuboid.tolist()]
    return record
