"""`walt-edge run`: watch a camera and send what is seen whole to the broker."""

from __future__ import annotations

import argparse
import logging
import math
import platform
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from types import FrameType

from walt_edge.camera import Camera, open_camera, redact
from walt_edge.capture.clock import boot_id
from walt_edge.config import Device, Endpoint, Home, Tls
from walt_edge.contract.messages import Info, Telemetry
from walt_edge.contract.topics import DeviceTopics
from walt_edge.faces import find_faces
from walt_edge.journal import Journal
from walt_edge.pipeline import Eyes, Pipeline, PipelineSettings
from walt_edge.privacy import Anonymiser
from walt_edge.runtimes.onnx_detector import OnnxDetector
from walt_edge.spool import Spool
from walt_edge.telemetry import Meter
from walt_edge.update.holder import ModelHolder
from walt_edge.update.options import add_update_arguments, make_updater
from walt_edge.uplink import Uplink, UplinkSettings
from walt_edge.watcher import Watcher

LOG = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    add = parser.add_argument
    add(
        "--rtsp",
        "--input",
        dest="source",
        metavar="URL",
        required=True,
        help="rtsp:// URL of the camera; a video file or a folder of frames is played once, as fast as it is watched",
    )
    add("--broker", metavar="HOST:PORT", default="localhost:1883", help="MQTT 5 broker at home (%(default)s)")
    add("--home", type=Path, metavar="DIR", default=Path("walt"), help="folder of this agent (./%(default)s)")
    add("--site", metavar="NAME", help="kept for the next start (first start: home)")
    add("--camera", metavar="NAME", help="kept for the next start (first start: cam-1)")
    add("--frames", type=_positive_int, metavar="N", help="stop after N watched frames")
    add(
        "--drain-s",
        type=_seconds,
        default=10.0,
        metavar="S",
        help="at the end, wait so long for home to acknowledge; the rest stays for the next start (%(default)s)",
    )
    _add_watching(parser.add_argument_group("watching"))
    _add_network(parser.add_argument_group("network"))
    add_update_arguments(parser.add_argument_group("models from home"))


def run(args: argparse.Namespace) -> int:
    """Watches until stopped, the source ends, or `--frames` were watched."""
    logging.getLogger().setLevel(args.log_level)
    endpoint = _endpoint(args)
    with ExitStack() as stack:
        stop = stack.enter_context(_stopping_on_signals())
        home = stack.enter_context(Home(args.home))
        device = home.device(args.site, args.camera)
        spool = stack.enter_context(Spool(args.home, args.quota_mb << 20))
        eyes, anonymiser = _make_eyes(args, device)
        journal = Journal(args.journal, args.journal_every, args.journal_mb << 20) if args.journal else None
        if journal is not None:
            stack.callback(journal.close)
        camera = stack.enter_context(_open(args))
        topics = DeviceTopics(device.site, device.device)
        settings = UplinkSettings(ack_timeout_s=args.ack_timeout_s, reconnect_max_s=args.reconnect_max_s)
        uplink = Uplink(endpoint, topics, spool, boot_id(), _info(device, anonymiser), settings)
        models = ModelHolder()
        updater = make_updater(args, models, uplink.report)
        if updater is not None:
            uplink.on_desired = updater.desire
            updater.restore()
            updater.start()
            stack.callback(updater.stop)
        uplink.start()
        stack.callback(uplink.stop)
        options = PipelineSettings(telemetry_s=args.telemetry_s)
        pipeline = Pipeline(camera, eyes, spool, uplink, Meter(boot_id()), journal, models, options)
        LOG.info("the anonymiser is %s", anonymiser)
        LOG.info("watching %s as %s/%s/%s", redact(args.source), device.site, device.device, device.camera)
        try:
            pipeline.run(stop, args.frames)
        finally:
            _drain(uplink, stop, args.drain_s)
            end = pipeline.telemetry()
            uplink.send_telemetry(end)
            LOG.info("%s", _summary(end))
    return 0


def _make_eyes(args: argparse.Namespace, device: Device) -> tuple[Eyes, str]:
    """The watcher, and the version of its anonymiser."""
    anonymiser = Anonymiser(faces=find_faces(args.models))
    detector = OnnxDetector(args.detector) if args.detector else None
    watcher = Watcher(
        site=device.site, device=device.device, camera=device.camera, anonymiser=anonymiser, detector=detector
    )
    return watcher, anonymiser.version


def _open(args: argparse.Namespace) -> Camera:
    return open_camera(args.source, fps=args.fps, transport=args.transport, retry_first=args.wait_for_camera)


def _endpoint(args: argparse.Namespace) -> Endpoint:
    wants_tls = args.tls or args.ca or args.cert or args.key
    return Endpoint.parse(args.broker, Tls(args.ca, args.cert, args.key) if wants_tls else None)


def _info(device: Device, anonymiser: str) -> Info:
    return Info(
        version=version("walt-amodal"),
        camera=device.camera,
        machine=platform.machine(),
        python=platform.python_version(),
        anonymiser=anonymiser,
    )


def _drain(uplink: Uplink, stop: threading.Event, drain_s: float) -> None:
    """Waits for home; when asked to stop, only if there is a connection to wait on."""
    if not stop.is_set() or uplink.connected:
        uplink.wait_drained(drain_s)


def _summary(end: Telemetry) -> str:
    spool = end.spool
    return (
        f"watched {end.frames_processed} of {end.frames_received} frames, saw {end.objects_seen} objects, "
        f"chose {end.crops_chosen} crops; spool: {spool.accepted} accepted = {spool.acked} at home + {spool.depth} "
        f"waiting + {spool.dropped} dropped + {spool.rejected} rejected"
    )


@contextmanager
def _stopping_on_signals() -> Iterator[threading.Event]:
    """SIGTERM and Ctrl-C ask for an orderly end; the second of them ends at once."""
    stop = threading.Event()

    def ask(signum: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        LOG.info("stopping: finishing tracks; once more to stop at once")

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _add_watching(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--detector", type=Path, metavar="FILE", help="ONNX model with COCO boxes that sharpens the choice")
    add("--models", type=Path, metavar="DIR", help="where pulled models lie (WALT_HOME/models)")
    add("--fps", type=_seconds, metavar="F", help="rate of a file or folder that does not tell its own")
    add("--transport", choices=("tcp", "udp"), default="tcp", help="how the camera sends (%(default)s)")
    add("--wait-for-camera", action="store_true", help="keep trying if the camera cannot be reached at the start")
    add("--quota-mb", type=_positive_int, default=1024, metavar="MB", help="disk for the spool (%(default)s)")
    add("--journal", type=Path, metavar="DIR", help="write what was seen, and anonymised pictures, for a report")
    add("--journal-every", type=_positive_int, default=25, metavar="K", help="a picture every K frames (%(default)s)")
    add("--journal-mb", type=_positive_int, default=500, metavar="MB", help="the journal ends there (%(default)s)")
    add("--log-level", default="INFO", choices=("DEBUG", "INFO", "WARNING", "ERROR"), help="(%(default)s)")


def _add_network(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--tls", action="store_true", help="TLS with the system's certificate authorities; --ca turns it on too")
    add("--ca", type=Path, metavar="FILE", help="certificate authority of the broker")
    add("--cert", type=Path, metavar="FILE", help="this device's certificate")
    add("--key", type=Path, metavar="FILE", help="its private key")
    add("--telemetry-s", type=_seconds, default=30.0, metavar="S", help="between telemetry messages (%(default)s)")
    add(
        "--ack-timeout-s",
        type=_seconds,
        default=60.0,
        metavar="S",
        help="send again without home's acknowledgement, doubling (%(default)s)",
    )
    add(
        "--reconnect-max-s",
        type=_seconds,
        default=300.0,
        metavar="S",
        help="longest pause between attempts to connect (%(default)s)",
    )


def _positive_int(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not 1 or more")
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and value >= 0):
        raise argparse.ArgumentTypeError(f"{value} is not a number from 0")
    return value
