"""`walt-edge`: what runs beside a camera."""

from __future__ import annotations

import sys

from walt_edge.contract.console import Command, Script

SCRIPT = Script(
    prog="walt-edge",
    description="Watches a fixed camera, anonymises, collects the objects it sees whole, and sends them home.",
    commands=(
        Command(
            "run",
            "watch a camera and send what is seen whole to the broker",
            module="walt_edge.commands.run",
            example="walt-edge run --rtsp rtsp://192.168.1.20/stream --broker home.local:1883 --home ./walt",
        ),
        Command(
            "mine",
            "the same mining on a video or folder, without a broker",
            module="walt_edge.commands.mine",
            example="walt-edge mine --input street.mp4 --out ./clipart",
        ),
        Command(
            "camera",
            "play a video, a folder of frames or a rendered street as an RTSP camera",
            module="walt_edge.commands.camera",
            example="walt-edge camera --input street.mp4 --port 8554",
        ),
        Command(
            "models",
            "fetch optional models (face detector)",
            module="walt_edge.commands.models",
            example="walt-edge models pull centerface",
        ),
        Command(
            "detect",
            "amodal instances of an image, video or folder",
            module="walt_edge.commands.detect",
            example="walt-edge detect --model street.walt --input street.mp4 --out instances.json",
        ),
    ),
)


def main() -> None:
    """Entry point of the console script."""
    sys.exit(SCRIPT.main())
