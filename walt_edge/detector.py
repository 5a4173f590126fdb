"""The SDK's face: a bundle that looks at pictures.

>>> from walt_edge import Detector
>>> detector = Detector.load("street.walt")  # doctest: +SKIP
>>> instances = detector.predict(image_bgr)  # doctest: +SKIP
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.bundle import MODEL, Bundle, BundleError, BundleManifest, answer_name
from walt_edge.contract.errors import WaltError
from walt_edge.contract.instances import AmodalInstances
from walt_edge.contract.predictions import Predictions, frame_instances
from walt_edge.golden import difference
from walt_edge.packaged import general_model
from walt_edge.runtimes.network import Runtime, look, look_many
from walt_edge.runtimes.session import Device, GpuOptions, SessionError
from walt_edge.runtimes.walt_onnx import WaltOnnx


class ImageError(WaltError):
    """What was given is no picture that a detector takes."""


class GoldenError(WaltError):
    """A runtime's answer to a golden picture is not the one that came with the model."""


class Detector:
    """A model that gives amodal instances. It may be called from several threads at once.

    Args:
        bundle: The model with all that belongs to it.
        device: Where it runs.
        threads: For one picture; None takes every core.
        gpu: What a GPU may be asked.
        runtime: What runs the model instead of ONNX Runtime, an engine for example; `device`, `threads` and `gpu` are
            its affair then.

    Raises:
        UsageError: ONNX Runtime is not installed, or has not the device.
        BundleError: The model in the bundle cannot be run.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        device: Device = "auto",
        threads: int | None = None,
        gpu: GpuOptions | None = None,
        runtime: Runtime | None = None,
    ) -> None:
        self._manifest = bundle.manifest
        self._sha256 = bundle.sha256
        # The runtime keeps the model's bytes in its own way; only what is asked for later stays here.
        self._golden = {
            name: (bundle.files[name], bundle.files[answer_name(name)]) for name in bundle.manifest.golden
        }
        try:
            self._runtime: Runtime = runtime or WaltOnnx(
                bundle.files[MODEL], size_wh=bundle.manifest.size_wh, device=device, threads=threads, gpu=gpu
            )
        except SessionError as error:
            raise BundleError(f"the model in bundle {bundle.manifest.name} cannot be used: {error}") from error

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str] | None = None,
        *,
        device: Device = "auto",
        threads: int | None = None,
        gpu: GpuOptions | None = None,
    ) -> Self:
        """Opens a bundle that `walt-export` wrote.

        Args:
            path: The bundle's file; None takes the general model that comes with the package.
            device: `auto` takes the GPU if it runs the model, `cpu` never; `cuda` and `tensorrt` insist on it.
            threads: For one picture; None takes every core.
            gpu: What a GPU may be asked.

        Raises:
            BundleError: Missing, damaged, or its model cannot be run.
            UsageError: ONNX Runtime is not installed, or has not the device.
        """
        bundle = Bundle.read(general_model() if path is None else Path(path))
        return cls(bundle, device=device, threads=threads, gpu=gpu)

    @property
    def manifest(self) -> BundleManifest:
        """What the bundle says of itself."""
        return self._manifest

    @property
    def sha256(self) -> str:
        """Of the whole bundle, 64 hex digits."""
        return self._sha256

    @property
    def providers(self) -> tuple[str, ...]:
        """What runs it, first choice first."""
        return self._runtime.providers

    @property
    def most_pictures(self) -> int:
        """How many pictures are best looked at together here; 0 for any number."""
        return self._runtime.most_pictures

    def predict(self, image_bgr: NDArray[np.uint8], *, score_threshold: float | None = None) -> AmodalInstances:
        """Amodal instances of one picture, best first.

        Args:
            image_bgr: (H, W, 3) uint8, any size; it is left as it is.
            score_threshold: Instances that score less are left out; None takes the one that the model was given on
                validation data.

        Raises:
            ImageError: Not such a picture.
            SessionError: The runtime gives up.
        """
        _check_image(image_bgr)
        least = self._manifest.score_threshold if score_threshold is None else score_threshold
        return self._look(image_bgr, least, strictly=self._manifest.suppresses_strictly)

    def predict_many(
        self, images_bgr: Sequence[NDArray[np.uint8]], *, score_threshold: float | None = None
    ) -> list[AmodalInstances]:
        """Amodal instances of several pictures, of one moment of several cameras for example: as `predict` of each.

        On a GPU, a bundle of which `manifest.pictures` is 0 (`walt-export --dynamic-batch`) looks at all of them
        together; on a processor one after the other, which is faster there.

        Args:
            images_bgr: Each (H, W, 3) uint8, any sizes; they are left as they are.
            score_threshold: As for `predict`.

        Raises:
            ImageError: One is no such picture.
            SessionError: The runtime gives up.
        """
        for image in images_bgr:
            _check_image(image)
        least = self._manifest.score_threshold if score_threshold is None else score_threshold
        return look_many(
            self._runtime,
            images_bgr,
            size_wh=self._manifest.size_wh,
            score_threshold=least,
            strictly=self._manifest.suppresses_strictly,
        )

    def golden_pictures(self) -> list[NDArray[np.uint8]]:
        """The golden pictures, decoded anew; raises GoldenError if there is none, or one is no picture."""
        if not self._golden:
            raise GoldenError(f"bundle {self._manifest.name} has no golden pictures: export it again")
        return [_decode(name, picture) for name, (picture, _) in self._golden.items()]

    def check_golden(self) -> None:
        """Compares this runtime's answers to the golden pictures with those that came with the model.

        They must be the same instances, within the tolerances that `walt_edge.golden` states and explains: masks of
        IoU 0.98, boxes within 1 px, scores within 0.02.

        Raises:
            GoldenError: The first picture that disagrees, or there is none to compare.
        """
        pictures = self.golden_pictures()
        for picture, (name, (_, answer)) in zip(pictures, self._golden.items(), strict=True):
            expected = _read_answer(name, answer)
            threshold = self._manifest.score_threshold
            # Strictly: what is weighed afterwards is this code's work, not the runtime's, and would magnify rounding.
            found = self._look(picture, threshold, strictly=True)
            words = difference(found, expected, score_threshold=threshold)
            if words:
                raise GoldenError(
                    f"{name} of {self._manifest.name} disagrees on this machine: {words}; keep the model before it"
                )

    def _look(self, image_bgr: NDArray[np.uint8], score_threshold: float, *, strictly: bool) -> AmodalInstances:
        return look(
            self._runtime,
            image_bgr,
            size_wh=self._manifest.size_wh,
            score_threshold=score_threshold,
            strictly=strictly,
        )


def _check_image(image: Any) -> None:
    if not isinstance(image, np.ndarray):
        raise ImageError(f"a picture is an (H, W, 3) uint8 array in BGR order, not a {type(image).__name__}")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ImageError(f"a picture is an (H, W, 3) uint8 array in BGR order, not {image.shape} {image.dtype}")


def _decode(name: str, data: bytes) -> NDArray[np.uint8]:
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if picture is None:
        raise GoldenError(f"{name} is no picture: export the bundle again")
    return np.asarray(picture, np.uint8)


def _read_answer(name: str, data: bytes) -> AmodalInstances:
    try:
        (frame,) = msgspec.json.decode(data, type=Predictions).frames
        return frame_instances(frame)
    except (ValueError, RecursionError, WaltError) as error:
        raise GoldenError(f"the answer to {name} cannot be read ({error}): export the bundle again") from error
