"""The calibrated confidence that nothing hides a part of an object, from the named parts that every crop carries.

A logistic model of the logarithms of the parts with weights that are never negative: more doubt in any part never
makes a clip surer, and the share of each part in a verdict can be told. The coefficients are package data, fitted on
rendered streets by `python -m benchmarks.mining --fit`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

import msgspec

from walt_edge.contract.errors import WaltError
from walt_edge.contract.masks import decode_rle
from walt_edge.contract.messages import CropHeader

FILE_NAME, INSTANCES_FILE = "confidence.json", "confidence-instances.json"
INSTANCES = "instances-1"
"""How the model of clips begins that a WALT-Net chose: other parts are known of them."""
FLOOR = 0.02
"""A part below this says no more than this: its logarithm stays finite."""
_AREA_SURE_PX = 8192.0


class ConfidenceError(WaltError):
    """The coefficients are missing or malformed."""


class Coefficients(msgspec.Struct, frozen=True, kw_only=True):
    """A fitted model.

    Attributes:
        bias: Log-odds of an object against which nothing speaks.
        weights: Log-odds lost for each unit of -log(part); a part that is not named here decides nothing.
        threshold: From this confidence on 98% were whole (by motion: 97%), of cameras that the model had not seen.
        seeds: Of the streets it was fitted on.
        objects: How many objects they showed.
    """

    bias: float
    weights: dict[str, float]
    threshold: float
    seeds: list[int] = []
    objects: int = 0

    def log_odds(self, parts: Mapping[str, float]) -> float:
        """Of "nothing is hidden"; a missing part speaks not against it."""
        return self.bias - sum(weight * doubt(parts.get(name, 1.0)) for name, weight in self.weights.items())


def doubt(part: float) -> float:
    """-log(part), from 0 for a part of 1 to about 4."""
    return -math.log(min(1.0, max(FLOOR, part)))


def evidence(header: CropHeader) -> dict[str, float]:
    """All that speaks for a crop, each 0..1: its own parts, how sure its class is, and how large it is."""
    return whole_evidence(header.confidence_parts, header.score, int(decode_rle(header.mask).sum()))


def whole_evidence(parts: Mapping[str, float], score: float, area_px: int) -> dict[str, float]:
    """The same before there is a header: parts, score of the class, area of the mask."""
    return {**parts, "class": score, "size": min(1.0, max(1, area_px) / _AREA_SURE_PX)}


def calibrate(parts: Mapping[str, float], coefficients: Coefficients | None = None) -> float:
    """Probability, 0..1, that at most 2% of the object is hidden.

    Args:
        parts: `CropHeader.confidence_parts`, or better `evidence(header)`.
        coefficients: Of whoever chose it: `coefficients_of`; None are those of motion.
    """
    odds = (coefficients or package_coefficients()).log_odds(parts)
    return 1.0 / (1.0 + math.exp(-odds)) if odds >= 0 else math.exp(odds) / (1.0 + math.exp(odds))


def explain(parts: Mapping[str, float], coefficients: Coefficients | None = None) -> list[tuple[str, float]]:
    """(part, its share 0..1 of all doubt), largest first; empty where nothing speaks against the object."""
    model = coefficients or package_coefficients()
    lost = {name: weight * doubt(parts.get(name, 1.0)) for name, weight in model.weights.items()}
    total = sum(lost.values())
    shares = [(name, value / total) for name, value in lost.items() if value > 0]
    return sorted(shares, key=lambda pair: -pair[1])


def coefficients_of(model: str) -> Coefficients:
    """Those for clips of a model, as `Origin.model` names it."""
    return package_coefficients(INSTANCES_FILE if model.startswith(INSTANCES) else FILE_NAME)


@cache
def package_coefficients(name: str = FILE_NAME) -> Coefficients:
    """Those that come with the package; raises ConfidenceError where they are missing or malformed."""
    try:
        data = files(__package__).joinpath(name).read_bytes()
        return msgspec.json.decode(data, type=Coefficients)
    except (OSError, msgspec.DecodeError) as error:
        raise ConfidenceError(
            f"{name} of {__package__} cannot be read: {error}; fit it by python -m benchmarks.mining --fit"
        ) from error
