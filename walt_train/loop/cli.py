"""`walt-loop`: what runs at home."""

from __future__ import annotations

import sys

from walt_edge.contract.console import Command, Script

SCRIPT = Script(
    prog="walt-loop",
    description="Takes in what the cameras saw whole, and makes their models better.",
    commands=(
        Command(
            "ingest",
            "store every crop that the broker brings, exactly once",
            module="walt_train.loop.commands.ingest",
            extra="loop",
            example="walt-loop ingest --broker localhost:1883 --store ./store",
        ),
        Command(
            "store",
            "what a store holds; export a camera's clip art",
            module="walt_train.loop.commands.store",
            extra="loop",
            example="walt-loop store --store ./store --export ./clipart --camera cam-1",
        ),
        Command(
            "demo",
            "a camera, an agent, a broker and a store on this machine, and a report of what they did",
            module="walt_train.loop.commands.demo",
            extra="loop",
            example="walt-loop demo --out demo-out",
        ),
        Command(
            "publish",
            "sign a bundle and set the desired version",
            module="walt_train.loop.commands.publish",
            extra="loop",
            example="walt-loop publish street-1.walt --repository ./updates --keys ./keys "
            "--broker localhost:1883 --device home/walt-0123456789abcdef",
        ),
        Command(
            "serve",
            "composite, train, export, judge and roll out by itself",
            module="walt_train.loop.commands.serve",
            extra="loop",
            example="walt-loop serve --store ./store --home ./loop --broker localhost:1883 --truth cam-1=./truth",
        ),
    ),
)


def main() -> None:
    """Entry point of the console script."""
    sys.exit(SCRIPT.main())
