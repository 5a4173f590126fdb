"""COCO records of a drawn frame."""

from __future__ import annotations

import datetime as dt
import math
from typing import Any

import numpy as np

from walt_edge.contract.labels import Label, coco_categories
from walt_edge.contract.masks import PatchMask
from walt_train.data.layers import Layers, encode_patch, split_layers
from walt_train.rwalt import people, vehicles
from walt_train.rwalt.renderer import Drawn
from walt_train.rwalt.scene import Box3D, SceneObject
from walt_train.rwalt.street import Street

MAX_PER_FRAME = 1000
"""Annotation ids are 1000 x image id + place, so that any process can give them."""

Record = dict[str, Any]


def categories() -> list[Record]:
    """The contract's categories with the names of their keypoints."""
    keypoints = {
        Label.PERSON: (people.KEYPOINTS, people.SKELETON),
        Label.VEHICLE: (vehicles.KEYPOINTS, vehicles.SKELETON),
    }
    out = []
    for category in coco_categories():
        names, skeleton = keypoints[Label[str(category["name"]).upper()]]
        out.append({**category, "keypoints": list(names), "skeleton": [list(pair) for pair in skeleton]})
    return out


def camera_record(street: Street) -> Record:
    """Intrinsics and extrinsics: a world point X is at rotation @ (X - position) in the camera, in metres."""
    camera = street.layout.camera
    return {
        "name": street.camera_name,
        "intrinsics": camera.intrinsics.round(6).tolist(),
        "rotation": camera.rotation.round(9).tolist(),
        "position": camera.position.round(6).tolist(),
        "axes": "world: x along the road, y away from the camera, z up; camera: x right, y down, z forward; metres",
    }


def image_record(street: Street, index: int, file_name: str) -> Record:
    """The `images` entry of frame `index`."""
    width, height = street.config.size_wh
    return {
        "id": index + 1,
        "file_name": file_name,
        "width": width,
        "height": height,
        "time": iso(street.time(street.time_s(index))),
        "camera": street.camera_name,
        "frame": index,
    }


def iso(moment: dt.datetime) -> str:
    """ISO 8601 in UTC, microseconds, `Z`."""
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def annotation_records(street: Street, index: int, drawn: Drawn) -> list[Record]:
    """The `annotations` of a frame, nearest first."""
    layers = split_layers(drawn.amodal, drawn.ranks, drawn.static, street.config.size_wh)
    assert len(layers) <= MAX_PER_FRAME
    return [
        _record(street, index, order, thing, layer)
        for order, (thing, layer) in enumerate(zip(drawn.objects, layers, strict=True))
    ]


def static_record(street: Street, drawn: Drawn) -> Record:
    """The union of all static things, which is the same in every frame."""
    width, height = street.config.size_wh
    union = np.zeros((height, width), dtype=bool)
    for _, mask in drawn.static:
        union |= mask.full(height, width)
    return encode_patch(PatchMask(0, 0, union), street.config.size_wh).coco()


def _record(street: Street, index: int, order: int, thing: SceneObject, layers: Layers) -> Record:
    size = street.config.size_wh
    x0, y0, x1, y1 = layers.amodal.box_xyxy
    keypoints, labelled = _keypoints(street, thing, layers.visible)
    still = thing.track.still_at(street.time_s(index))
    return {
        "id": (index + 1) * MAX_PER_FRAME + order,
        "image_id": index + 1,
        "category_id": int(thing.label),
        "track_id": thing.track.track_id,
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "area": layers.amodal.area,
        "iscrowd": 0,
        "segmentation": encode_patch(layers.amodal, size).coco(),
        "visible_segmentation": encode_patch(layers.visible, size).coco(),
        "occluder_segmentation": encode_patch(layers.occluder, size).coco(),
        "occluded_segmentation": encode_patch(layers.occluded, size).coco(),
        "occlusion_fraction": round(layers.occlusion_fraction, 6),
        "depth_order": order,
        "truncated": _leaves_frame(street, thing, (x0, y0, x1, y1)),
        "stationary": None if still is None else [iso(street.time(moment)) for moment in still],
        "keypoints": keypoints,
        "num_keypoints": labelled,
        "bbox_3d": None if thing.box3d is None else _box3d_record(street, thing.box3d),
        "cuboid": None if thing.box3d is None else _cuboid(street, thing.box3d),
        "shape": street.shape_name(thing.track),
    }


def _leaves_frame(street: Street, thing: SceneObject, box: tuple[int, int, int, int]) -> bool:
    """Whether its amodal mask touches the frame's border, beyond which it may go on."""
    width, height = street.config.size_wh
    return box[0] <= 0 or box[1] <= 0 or box[2] >= width or box[3] >= height


def _keypoints(street: Street, thing: SceneObject, visible: PatchMask) -> tuple[list[float], int]:
    """COCO's x, y, v triples.

    v is 2 where the point's pixel belongs to the visible mask and its side faces the camera, 1 where it is in the
    frame but hidden, 0 (and x = y = 0) outside the frame.
    """
    camera = street.layout.camera
    width, height = street.config.size_wh
    seen = camera.project(thing.keypoints)
    away = np.einsum("ij,ij->i", thing.facing, thing.keypoints - camera.position) > 0
    x0, y0, x1, y1 = visible.box_xyxy
    out: list[float] = []
    labelled = 0
    for (u, v, depth), hidden_side in zip(seen.tolist(), away.tolist(), strict=True):
        if depth <= 0 or not (0 <= u < width and 0 <= v < height):
            out += [0, 0, 0]
            continue
        u, v = math.floor(u * 100) / 100, math.floor(v * 100) / 100  # rounded down, so that the pixel stays the same
        column, row = math.floor(u), math.floor(v)
        shown = x0 <= column < x1 and y0 <= row < y1 and bool(visible.mask[row - y0, column - x0])
        out += [u, v, 2 if shown and not hidden_side else 1]
        labelled += 1
    return out, labelled


def _box3d_record(street: Street, box: Box3D) -> Record:
    corners = box.corners()
    return {
        "centre": box.centre.round(4).tolist(),
        "size_lwh": [round(v, 4) for v in box.size_lwh],
        "yaw": round(box.yaw, 6),
        "corners_camera": street.layout.camera.to_camera(corners).round(4).tolist(),
    }


def _cuboid(street: Street, box: Box3D) -> list[list[float]] | None:
    """Its corners in pixels, those on the ground first; None where one is behind the camera."""
    seen = street.layout.camera.project(box.corners())
    return None if (seen[:, 2] <= 0).any() else seen[:, :2].round(2).tolist()
