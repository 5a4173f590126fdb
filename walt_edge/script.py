"""The commands of `walt-edge`."""

from __future__ import annotations

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
            "enroll",
            "become known at home, by a token of walt-loop enroll",
            module="walt_edge.commands.enroll",
            example="walt-edge enroll https://home.local:8843 --token-file token.txt --home ./walt",
        ),
        Command(
            "doctor",
            "look at everything that the agent needs, and say what to do",
            module="walt_edge.commands.doctor",
            example="walt-edge doctor --config /etc/walt/edge.yaml",
        ),
        Command(
            "config",
            "print the configuration that would be in effect, and who said what",
            module="walt_edge.commands.config",
            example="walt-edge config --config /etc/walt/edge.yaml",
        ),
        Command(
            "replay",
            "what an agent would send of a recording, the same bytes every time",
            module="walt_edge.commands.replay",
            example="walt-edge replay street.mp4 --out ./replayed",
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
