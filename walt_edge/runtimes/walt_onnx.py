"""A bundle's network in ONNX Runtime: one letterboxed picture in, candidates and their maps out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from walt_edge.runtimes.network import Candidates
from walt_edge.runtimes.session import Device, SessionError, first_line, open_session

INPUT = "image"
OUTPUTS = ("boxes", "scores", "labels", "maps")


class WaltOnnx:
    """Runs a network. It may be called from several threads at once.

    Args:
        model: The ONNX file's bytes.
        size_wh: What the network is to take, pixels.
        device: Where it runs.
        threads: For one picture; None takes every core.

    Raises:
        UsageError: ONNX Runtime is not installed.
        SessionError: The model cannot be opened, or its inputs and outputs are not a WALT-Net's.
    """

    def __init__(
        self, model: bytes, *, size_wh: tuple[int, int], device: Device = "auto", threads: int | None = None
    ) -> None:
        self._session = open_session(model, device=device, threads=threads)
        # A graph that takes any number of pictures names its first side instead of counting it.
        inputs = {
            entry.name: [1 if isinstance(entry.shape[0], str) else entry.shape[0], *entry.shape[1:]]
            for entry in self._session.get_inputs()
        }
        outputs = {entry.name for entry in self._session.get_outputs()}
        expected = {INPUT: [1, size_wh[1], size_wh[0], 3]}
        if inputs != expected or not outputs.issuperset(OUTPUTS):
            raise SessionError(
                f"inputs {inputs} and outputs {sorted(outputs)}, expected {expected} and {list(OUTPUTS)}"
            )

    @property
    def providers(self) -> tuple[str, ...]:
        """What runs it, first choice first, as ONNX Runtime names it."""
        return tuple(self._session.get_providers())

    def __call__(self, image: NDArray[np.uint8]) -> Candidates:
        """Looks at one (H, W, 3) uint8 BGR picture of the network's size.

        Raises:
            SessionError: The runtime gives up.
        """
        try:
            values = self._session.run(list(OUTPUTS), {INPUT: image[None]})
        except Exception as error:  # the runtime's own exceptions share no other base
            raise SessionError(f"ONNX Runtime gave up: {first_line(error)}") from error
        return Candidates(*values)
