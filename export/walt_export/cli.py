"""`walt-export`: from a checkpoint to a bundle that every runtime reads."""

from __future__ import annotations

import sys

from walt_edge.contract.console import Command, Script

SCRIPT = Script(
    prog="walt-export",
    description="Exports a trained WALT-Net to ONNX and TensorRT, and proves that it gives the same masks.",
    default="bundle",
    commands=(
        Command("bundle", "export a checkpoint (also: walt-export --trt)", extra="export"),
        Command("verify", "repeat a bundle's golden images", extra="export"),
    ),
)


def main() -> None:
    """Entry point of the console script."""
    sys.exit(SCRIPT.main())
