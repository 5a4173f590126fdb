"""A bundle's network in ONNX Runtime: one letterboxed picture in, candidates and their maps out."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from walt_edge.runtimes.network import Candidates, by_picture
from walt_edge.runtimes.session import CPU, Device, GpuOptions, SessionError, first_line, open_session

INPUT = "image"
OUTPUTS = ("boxes", "scores", "labels", "maps")
PICTURES = "pictures"
"""Whose an object is: an output of networks that look at any number of pictures."""


class WaltOnnx:
    """Runs a network; a `walt_edge.runtimes.network.Runtime`. It may be called from several threads at once.

    Args:
        model: The ONNX file's bytes.
        size_wh: What the network is to take, pixels.
        device: Where it runs.
        threads: For one picture; None takes every core.
        gpu: What a GPU may be asked.

    Raises:
        UsageError: ONNX Runtime is not installed, or has not the device that was asked for.
        SessionError: The model cannot be opened, or its inputs and outputs are not a WALT-Net's.
    """

    def __init__(
        self,
        model: bytes,
        *,
        size_wh: tuple[int, int],
        device: Device = "auto",
        threads: int | None = None,
        gpu: GpuOptions | None = None,
    ) -> None:
        blank = np.zeros((1, size_wh[1], size_wh[0], 3), np.uint8)
        self._session = open_session(
            model, device=device, threads=threads, gpu=gpu, check=lambda session: session.run(None, {INPUT: blank})
        )
        self._is_open = _takes_any_number(self._session, size_wh)

    @property
    def providers(self) -> tuple[str, ...]:
        """What runs it, first choice first, as ONNX Runtime names it."""
        return tuple(self._session.get_providers())

    @property
    def most_pictures(self) -> int:
        """0 for any number: the graph takes that, and a GPU is the quicker for it; else 1.

        A processor is not: several pictures no longer fit its caches (docs/decisions/0022).
        """
        return 0 if self._is_open and self.providers[0] != CPU else 1

    def __call__(self, image: NDArray[np.uint8]) -> Candidates:
        """Looks at one (H, W, 3) uint8 BGR picture of the network's size.

        Raises:
            SessionError: The runtime gives up.
        """
        return Candidates(*self._run(OUTPUTS, image[None]))

    def many(self, images_NHWC: NDArray[np.uint8]) -> list[Candidates]:
        """Looks at (B, H, W, 3) pictures together if the graph takes any number, else one after the other.

        Raises:
            SessionError: The runtime gives up.
        """
        if not self._is_open:
            return [self(image) for image in images_NHWC]
        *values, pictures = self._run((*OUTPUTS, PICTURES), images_NHWC)
        return by_picture(values, pictures, len(images_NHWC))

    def _run(self, outputs: tuple[str, ...], images_NHWC: NDArray[np.uint8]) -> list[NDArray[Any]]:
        try:
            values: list[NDArray[Any]] = self._session.run(list(outputs), {INPUT: images_NHWC})
        except Exception as error:  # the runtime's own exceptions share no other base
            raise SessionError(f"ONNX Runtime gave up: {first_line(error)}") from error
        return values


def _takes_any_number(session: Any, size_wh: tuple[int, int]) -> bool:
    """Whether a graph takes any number of pictures; raises SessionError if it is no WALT-Net's."""
    inputs = {entry.name: list(entry.shape) for entry in session.get_inputs()}
    outputs = {entry.name for entry in session.get_outputs()}
    # A graph that takes any number of pictures names its first side instead of counting it.
    is_open = bool(inputs.get(INPUT)) and isinstance(inputs[INPUT][0], str)
    if is_open:
        inputs[INPUT][0] = 1
    expected = {INPUT: [1, size_wh[1], size_wh[0], 3]}
    if inputs != expected or not outputs.issuperset(OUTPUTS):
        raise SessionError(f"inputs {inputs} and outputs {sorted(outputs)}, expected {expected} and {list(OUTPUTS)}")
    return is_open and PICTURES in outputs
