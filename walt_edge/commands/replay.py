"""`walt-edge replay`: what an agent would have sent of a recording, the same bytes every time."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from tqdm import tqdm

from walt_edge.agent.logs import configure
from walt_edge.camera import Frame
from walt_edge.settings.flags import add_file_arguments, sources


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    add = parser.add_argument
    add("recording", metavar="FILE", help="a video file, or a folder of frames")
    add("--out", required=True, type=Path, metavar="DIR", help="for envelopes, journal and counts")
    add("--frames", type=int, metavar="N", help="watch N frames, then end")
    add("--seed", type=int, default=0, metavar="S", help="draws another boot, and so other holdouts (%(default)s)")
    add_file_arguments(parser.add_argument_group("configuration"))


def run(args: argparse.Namespace) -> int:
    """Replays, and prints the sha256 of all that came of it."""
    from walt_edge.agent.replaying import replay

    config = sources(args).load()
    configure(config)
    logging.getLogger("walt_edge.watching.watcher").setLevel(logging.WARNING)
    with tqdm(unit=" frames", total=args.frames, disable=not sys.stderr.isatty()) as bar:

        def watched(frame: Frame) -> None:
            bar.update()

        found = replay(args.recording, config, args.out, frames=args.frames, seed=args.seed, tell=watched)
    sent = ", ".join(f"{count} {kind}s" for kind, count in sorted(found.envelopes.items())) or "nothing"
    sys.stdout.write(f"{found.frames} frames: {sent}: {args.out}\nsha256 {found.sha256}  {found.files} files\n")
    return 0
