"""A real bundle with a real ONNX model, made by hand, whose answers can be told beforehand.

The picture's red plane is taken as the amodal layer, green as the occluder and blue as the occluded one, inside four
places that never move; a place's score is how red it is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import onnx.checker
import onnx.parser
from numpy.typing import NDArray

from tests.bundles import manifest
from walt_edge.contract.bundle import LICENCE, MODEL, BundleManifest, write_bundle
from walt_edge.contract.labels import Label
from walt_edge.contract.predictions import Predictions, frame_prediction
from walt_edge.runtimes.network import look
from walt_edge.runtimes.walt_onnx import WaltOnnx

SIZE_WH = (320, 192)
PLACES = ((16, 16, 44, 72), (60, 16, 88, 72), (240, 20, 268, 76), (120, 40, 220, 100))
LABELS = (Label.PERSON, Label.PERSON, Label.PERSON, Label.VEHICLE)

_TEXT = """
<ir_version: 10, opset_import: ["" : 20]>
colours (uint8[COUNT,HEIGHT,WIDTH,3] image)
    => (float[N,4] boxes, float[N] scores, int64[N] labels, float[N,3,28,28] maps, int64[N] pictures)
<float[4,4] four_places = {PLACES}, int64[4] four_kinds = {LABELS}, int64[3] layers = {2,1,0}, int64[1] four = {4},
 float full = {255.0}, float least = {0.05}, int64 zero = {0}, int64 one = {1}, int64[2] cells = {1,2},
 int64[1] flat = {-1}, int64[1] row = {0}, int64[1] column = {1}>
{
    shape = Shape<start = 0, end = 1>(image)
    count = Squeeze(shape, row)
    numbers = Range(zero, count, one)
    upright = Unsqueeze(numbers, column)
    shape_B4 = Concat<axis = 0>(shape, four)
    batch_B4 = Expand(upright, shape_B4)
    batch = Reshape(batch_B4, flat)
    kinds = Tile(four_kinds, shape)
    repeats = Concat<axis = 0>(shape, column)
    places = Tile(four_places, repeats)
    levels = Cast<to = 1>(image)
    planes = Transpose<perm = [0,3,1,2]>(levels)
    shares = Div(planes, full)
    pooled = RoiAlign<output_height = 28, output_width = 28, sampling_ratio = 2>(shares, places, batch)
    all_maps = Gather<axis = 1>(pooled, layers)
    amodal = Gather<axis = 1>(all_maps, zero)
    redness = ReduceMean<keepdims = 0>(amodal, cells)
    sure = Greater(redness, least)
    found = NonZero(sure)
    index = Reshape(found, flat)
    boxes = Gather(places, index)
    EXTRA
    redder = Add(redness, extra)
    scores = Gather(redder, index)
    labels = Gather(kinds, index)
    maps = Gather(all_maps, index)
    pictures = Gather(batch, index)
}
"""


NOTHING = "extra = Constant<value_float = 0.0>()"


def model(size_wh: tuple[int, int] = SIZE_WH, *, pictures: int = 1, extra: str = NOTHING) -> bytes:
    """The ONNX file's bytes.

    Args:
        size_wh: Of its input.
        pictures: How many it takes at once; 0: any number.
        extra: Nodes that give a number `extra`, which is added to the scores.
    """
    values = {
        "COUNT": str(pictures or "B"),
        "EXTRA": extra,
        "WIDTH": str(size_wh[0]),
        "HEIGHT": str(size_wh[1]),
        "PLACES": ",".join(f"{float(side)}" for place in PLACES for side in place),
        "LABELS": ",".join(str(int(label)) for label in LABELS),
    }
    text = _TEXT
    for name, value in values.items():
        text = text.replace(name, value)
    parsed = onnx.parser.parse_model(text)
    onnx.checker.check_model(parsed)
    data: bytes = parsed.SerializeToString()
    return data


class Together(WaltOnnx):
    """Gives the processor all pictures at once, as a GPU is given them."""

    most_pictures = 0


def picture(*places: int, scale: int = 1) -> NDArray[np.uint8]:
    """A picture in which these places are full, `scale` times as large as the network's input."""
    bgr = np.zeros((SIZE_WH[1] * scale, SIZE_WH[0] * scale, 3), np.uint8)
    for index in places:
        x0, y0, x1, y1 = (value * scale for value in PLACES[index])
        bgr[y0:y1, x0:x1, 2] = 255
    return bgr


def golden(name: str, image: NDArray[np.uint8], described: BundleManifest, network: bytes) -> dict[str, bytes]:
    """A licence, and a golden picture with its answer, as they lie in a bundle."""
    runtime = WaltOnnx(network, size_wh=described.size_wh, device="cpu")
    found = look(runtime, image, size_wh=described.size_wh, score_threshold=described.score_threshold)
    answer = Predictions(model=described.name, frames=[frame_prediction(found, 0)])
    encoded: bytes = cv2.imencode(".png", image)[1].tobytes()
    licence = {LICENCE: b"its licence"}
    return {**licence, f"golden/{name}.png": encoded, f"golden/{name}.json": msgspec.json.encode(answer)}


def write_colour_bundle(path: Path, **changes: Any) -> Path:
    """Writes the bundle; `changes` replace fields of its manifest."""
    described = msgspec.structs.replace(manifest(), **changes)
    network = model(pictures=described.pictures)
    files = {MODEL: network, **golden("0", picture(0, 3, scale=2), described, network)}
    write_bundle(path, described, files)
    return path
