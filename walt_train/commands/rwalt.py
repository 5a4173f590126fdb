"""`walt-train rwalt`: renders a fixed camera's street with exact amodal truth."""

from __future__ import annotations

import argparse
import datetime as dt
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tqdm import tqdm

from walt_edge.contract.errors import UsageError
from walt_train.rwalt.dataset import ANNOTATIONS, FORMATS, Output, write_dataset
from walt_train.rwalt.layout import PRESETS
from walt_train.rwalt.street import LIGHTS, SHAPES, StreetConfig

PLAY_FILE = "street.mp4"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's options."""
    parser.add_argument(
        "--seed", type=int, default=0, metavar="S", help="decides everything that is not said here (0)"
    )
    parser.add_argument("--frames", type=int, default=100, metavar="N", help="how many frames (100)")
    parser.add_argument("--size", default="640x360", metavar="WxH", help="frame size, pixels (640x360)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="gets images/ and annotations.json")
    parser.add_argument("--preset", default="street", help=f"how much goes on: {', '.join(PRESETS)} (street)")
    parser.add_argument("--light", default="auto", choices=LIGHTS, help="auto: the seed decides, one in four at dusk")
    parser.add_argument(
        "--fps", type=float, default=10.0, metavar="F", help="frames a second (10); 0.02 is a time-lapse"
    )
    parser.add_argument(
        "--start", metavar="TIME", help="UTC time of the street's beginning, ISO 8601 (the seed decides)"
    )
    parser.add_argument(
        "--skip", type=int, default=0, metavar="K", help="begin K frames later in the same street (0)"
    )
    parser.add_argument("--meshes", type=Path, metavar="DIR", help="use the GLB meshes of a folder too")
    parser.add_argument(
        "--shapes", default="all", choices=SHAPES, help="tuning: without a third of the vehicle shapes (all)"
    )
    parser.add_argument("--format", default="jpg", choices=FORMATS, help="of the images (jpg)")
    parser.add_argument("--video", type=Path, metavar="FILE", help="write an H.264 video as well (.mp4)")
    parser.add_argument("--no-images", action="store_true", help="labels (and video) only")
    parser.add_argument("--play", type=int, metavar="PORT", help="then play it as an RTSP camera until stopped")
    parser.add_argument("--workers", type=int, default=0, metavar="N", help="processes (one a core)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar and no summary")


def run(args: argparse.Namespace) -> int:
    """Renders; returns the exit status."""
    config = StreetConfig(
        seed=args.seed,
        frames=args.frames,
        size_wh=_size(args.size),
        fps=args.fps,
        preset=args.preset,
        light=args.light,
        start=_start(args.start),
        meshes=args.meshes,
        skip=args.skip,
        shapes=args.shapes,
    )
    if args.workers < 0:
        raise UsageError(f"{args.workers} workers: give at least 1, or 0 for one a core")
    video = args.video or (args.out / PLAY_FILE if args.play is not None else None)
    output = Output(args.out, None if args.no_images else args.format, video)
    bar = tqdm(total=config.frames, unit="frame", disable=args.quiet or not sys.stderr.isatty())
    with bar:
        for written in write_dataset(config, output, _workers(args.workers, config.frames)):
            bar.update(written - bar.n)
    if not args.quiet:
        sys.stdout.write(f"{config.frames} frames in {args.out / ANNOTATIONS}" + (f", {video}\n" if video else "\n"))
    return _play(video, args.play) if args.play is not None and video is not None else 0


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if match is None:
        raise UsageError(f"size '{text}' is not WIDTHxHEIGHT, such as 640x360")
    return int(match[1]), int(match[2])


def _start(text: str | None) -> dt.datetime | None:
    if text is None:
        return None
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"start '{text}' is not an ISO 8601 time, such as 2026-06-01T09:30:00Z") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)


def _workers(wanted: int, frames: int) -> int:
    """A process costs about two seconds to start, which a short run does not earn back."""
    if wanted:
        return wanted
    return 1 if frames < 60 else max(1, len(os.sched_getaffinity(0)))


def _play(video: Path, port: int) -> int:
    beside = Path(sys.executable).with_name("walt-edge")
    command = str(beside) if beside.exists() else shutil.which("walt-edge")
    if command is None:
        raise UsageError("walt-edge is not on the path: install walt-amodal, or play the video with another server")
    arguments = [command, "camera", "--input", str(video), "--port", str(port), "--path", "/street", "--loop"]
    return subprocess.run(arguments, check=False).returncode
