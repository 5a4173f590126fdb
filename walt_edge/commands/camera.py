"""`walt-edge camera`: plays a video, a folder of frames or a rendered street as an RTSP camera."""

from __future__ import annotations

import argparse
import sys

from walt_edge.contract.errors import WaltError
from walt_edge.rtsp_server import RtspServer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument(
        "--input",
        required=True,
        metavar="PATH",
        help="a video, or a folder of frames (walt-train rwalt writes images/)",
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: %(default)s, this machine)"
    )
    parser.add_argument("--port", type=int, default=8554, help="TCP port, 0 for a free one (default: %(default)s)")
    parser.add_argument("--path", default="/street", help="path of the stream (default: %(default)s)")
    parser.add_argument("--fps", type=float, help="frames a second (default: the video's own; 10 for a folder)")
    parser.add_argument(
        "--codec", default="h264", choices=("h264", "h265", "mjpeg"), help="how to compress (default: %(default)s)"
    )
    ends = parser.add_mutually_exclusive_group()
    ends.add_argument("--loop", action="store_true", help="begin again at the end without a break")
    ends.add_argument("--live", action="store_true", help="play on whether or not anybody looks, as a camera does")
    ends.add_argument("--once", action="store_true", help="stop when the film has been played to its end")


def run(args: argparse.Namespace) -> int:
    """Plays until Ctrl-C (exit 130), or to the end of the film with --once."""
    server = RtspServer(
        args.input,
        args.port,
        args.path,
        fps=args.fps,
        loop=args.loop,
        once=args.once,
        live=args.live,
        codec=args.codec,
        host=args.host,
    )
    with server:
        sys.stdout.write(f"{server.url}\n")
        sys.stdout.flush()
        status = server.wait()
    if status != 0:
        raise WaltError(f"the camera server stopped with status {status}: start it again")
    return 0
