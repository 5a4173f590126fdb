"""Rendered streets that benchmarks watch, and their truth by frame."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import msgspec

from walt_edge.capture.stills import read_still
from walt_edge.contract.masks import PatchMask, Rle, decode_rle

_QUALITY = 85


def render(
    folder: Path, seed: int, preset: str, frames: int, *, size: str = "640x360", video: Path | None = None
) -> Path:
    """Renders a street into `folder` by `walt-train rwalt`, as a film too if `video` is given; returns the folder."""
    command = [str(Path(sys.executable).with_name("walt-train")), "rwalt", "--seed", str(seed), "--preset", preset]
    film = ["--video", str(video), "--no-images"] if video else []
    subprocess.run([*command, "--frames", str(frames), "--size", size, *film, "--out", str(folder)], check=True)
    return folder


def compress(images: Path) -> None:
    """Writes a folder's pictures again in the quality of a camera's own, a third of what the renderer writes."""
    for path in images.iterdir():
        cv2.imwrite(str(path), read_still(path), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])


def read_truth(street: Path) -> dict[int, list[dict[str, Any]]]:
    """A street's annotations by frame number."""
    content = json.loads((street / "annotations.json").read_text())
    number = {image["id"]: index for index, image in enumerate(content["images"])}
    found: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for annotation in content["annotations"]:
        found[number[annotation["image_id"]]].append(annotation)
    return found


def true_mask(annotation: Mapping[str, Any], of: str = "segmentation") -> PatchMask:
    """A mask of a rendered object: its whole extent, or `visible_segmentation`."""
    return PatchMask.from_full(decode_rle(msgspec.convert(annotation[of], Rle)))
