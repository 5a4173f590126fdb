"""`walt-export`: from a checkpoint to a bundle that every runtime reads."""

from __future__ import annotations

import sys

from walt_edge.contract.console import Command, Script

SCRIPT = Script(
    prog="walt-export",
    description="Exports a trained WALT-Net to ONNX and TensorRT, and proves that it gives the same masks.",
    default="bundle",
    default_takes_word=True,
    commands=(
        Command(
            "bundle",
            "export a checkpoint (also: walt-export CHECKPOINT --out BUNDLE)",
            module="walt_export.commands.bundle",
            extra="export",
            example="walt-export ./walt/models/checkpoint.pt --out street.walt",
        ),
        Command(
            "verify",
            "repeat a bundle's golden images on this machine",
            module="walt_export.commands.verify",
            extra="cpu",
            example="walt-export verify street.walt",
        ),
        Command(
            "inspect",
            "what a bundle says of itself, and what its network costs by part",
            module="walt_export.commands.inspect",
            extra="export",
            example="walt-export inspect street.walt --out cost.png",
        ),
    ),
)


def main() -> None:
    """Entry point of the console script."""
    sys.exit(SCRIPT.main())
