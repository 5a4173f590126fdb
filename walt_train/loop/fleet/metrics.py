"""The fleet as Prometheus reads it: the edge's own names, `walt_fleet_` before them; site, device, camera as labels.

Labels are bounded by the fleet itself, which hears a bounded number of devices; above `most` cameras the figures of
single cameras and devices are left out, and sums, states and alerts by kind stay.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector, CollectorRegistry

from walt_edge.contract.errors import UsageError
from walt_train.loop.fleet.conditions import KINDS, Home
from walt_train.loop.fleet.fleet import Fleet
from walt_train.loop.fleet.judging import Alert, Subject
from walt_train.loop.fleet.state import CameraState, DeviceState, silence_s

CAMERAS_MOST: Final = 1000
_PREFIX: Final = "walt_fleet_"
_DEVICE: Final = ("site", "device")
_CAMERA: Final = ("site", "device", "camera")
_READ_S: Final = 10.0


class Figures:
    """What is shown.

    Args:
        fleet: Who is heard.
        home: What home knows of itself.
        alerts: Pending and raised.
        ingested: What became of envelopes so far, by state; None where this process takes none in.
        most: Above so many cameras none is shown by itself.
    """

    def __init__(
        self,
        fleet: Fleet,
        home: Callable[[], Home],
        alerts: Callable[[], Mapping[Subject, Alert]],
        ingested: Callable[[], Mapping[str, int]] | None = None,
        most: int = CAMERAS_MOST,
    ) -> None:
        self._fleet = fleet
        self._home = home
        self._alerts = alerts
        self._ingested = ingested
        self._most = most

    def render(self, accept: str) -> tuple[bytes, str]:
        """The page and its content type; `accept` is the request's header."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Once(self._families))
        # Not the library's own choice: it takes versions from the header, and raises on those that are none.
        if "application/openmetrics-text" in accept:
            text: bytes = openmetrics.generate_latest(registry)  # type: ignore[no-untyped-call]
            return text, openmetrics.CONTENT_TYPE_LATEST
        return generate_latest(registry), CONTENT_TYPE_PLAIN_0_0_4

    def _families(self) -> Iterator[Metric]:
        # Copies: the watch's thread goes on while we look.
        devices, cameras = list(self._fleet.devices.values()), list(self._fleet.cameras.values())
        home, alerts = self._home(), self._alerts()
        states: Counter[str] = Counter(device.status or "unknown" for device in devices)
        states.update({"online": 0, "offline": 0})
        yield _by("devices", "Devices by what they are.", "state", states)
        yield _gauge("cameras", "Cameras that are known.", len(cameras))
        yield _gauge("listening", "1 while the broker's messages come.", home.listening_us is not None)
        if home.free_bytes is not None:
            yield _gauge("home_disk_free_bytes", "Free where the store lies.", home.free_bytes)
        yield _totals(
            "messages",
            "Messages of devices by what became of them.",
            "outcome",
            {str(one): count for one, count in list(self._fleet.outcomes.items())},
        )
        if self._ingested is not None:
            yield _totals("envelopes", "Envelopes by what became of them here.", "state", self._ingested())
        raised = [subject for subject, alert in alerts.items() if alert.state == "raised"]
        yield from _of_alerts(raised, is_whole=len(cameras) <= self._most)
        if len(cameras) <= self._most:
            yield from _of_devices(devices)
            yield from _of_cameras(cameras)


class _Once(Collector):
    """Asks for figures at a scrape only."""

    def __init__(self, families: Callable[[], Iterator[Metric]]) -> None:
        self._families = families

    def describe(self) -> Iterable[Metric]:
        """Nothing beforehand."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """All metric families."""
        return self._families()


def _of_alerts(raised: list[Subject], *, is_whole: bool) -> Iterator[Metric]:
    counts = Counter(subject.kind for subject in raised)
    family = GaugeMetricFamily(_PREFIX + "alerts", "Alerts that are raised.", labels=["kind", "level"])
    for name, kind in KINDS.items():
        family.add_metric([name, kind.level.name.lower()], counts[name])
    yield family
    if is_whole:
        one = GaugeMetricFamily(_PREFIX + "alert", "1 while it is raised.", labels=["kind", *_CAMERA])
        for subject in raised:
            one.add_metric(list(subject), 1)
        yield one


_Device = Callable[[DeviceState], float | None]
_DEVICE_GAUGES: Final[tuple[tuple[str, str, _Device], ...]] = (
    ("online", "1 while it is.", lambda one: one.status == "online"),
    ("heard_timestamp_seconds", "When its telemetry last came.", lambda one: one.heard_us / 1e6),
    ("clock_skew_seconds", "Its clock less home's.", lambda one: one.skew_s if one.told else None),
    ("spool_bytes", "Bytes on its disk.", lambda one: one.told.spool.bytes if one.told else None),
    (
        "disk_free_bytes",
        "Free where its spool lies.",
        lambda one: (
            one.told.disk.free_bytes if one.told and one.told.disk and one.told.disk.free_bytes >= 0 else None
        ),
    ),
    ("model_release", "The model's release; 0 = none.", lambda one: one.reported.release if one.reported else None),
)


def _of_devices(devices: list[DeviceState]) -> Iterator[Metric]:
    for name, what, value in _DEVICE_GAUGES:
        family = GaugeMetricFamily(_PREFIX + name, what, labels=_DEVICE)
        for one in devices:
            told = value(one)
            if told is not None:
                family.add_metric([one.site, one.device], float(told))
        yield family
    states = GaugeMetricFamily(
        _PREFIX + "spool_envelopes", "Accepted envelopes by what became of them.", labels=[*_DEVICE, "state"]
    )
    for one in devices:
        for state in ("acked", "dropped", "rejected", "depth") if one.told else ():
            states.add_metric([one.site, one.device, state], getattr(one.told.spool if one.told else None, state))
    yield states


_Camera = Callable[[CameraState], float]
_CAMERA_COUNTERS: Final[tuple[tuple[str, str, _Camera], ...]] = (
    ("frames_received", "Frames that a camera gave.", lambda one: one.told.frames_received),
    ("frames_processed", "Of these, watched.", lambda one: one.told.frames_processed),
    ("objects_seen", "Tracks.", lambda one: one.told.objects_seen),
    ("crops_chosen", "Crops that were sealed.", lambda one: one.told.crops_chosen),
    ("anonymiser_failures", "Frames of which nothing was kept.", lambda one: one.told.anonymiser_failures),
    ("camera_reconnects", "Times a camera was lost and found again.", lambda one: one.told.camera_reconnects),
)
_CAMERA_GAUGES: Final[tuple[tuple[str, str, _Camera], ...]] = (
    ("uptime_seconds", "Since its agent's start.", lambda one: one.told.uptime_s),
    ("frame_silence_seconds", "Since its newest frame, when it told.", silence_s),
    ("frame_age_seconds", "From a frame's capture to the end of its step, median.", lambda one: _s(one, "age")),
    ("step_seconds", "One frame's step, 99th percentile.", lambda one: _s(one, "step")),
    ("look_seconds", "One look of the model, median; 0 = none.", lambda one: _s(one, "look")),
    ("lens_clear", "The worst quarter of the picture against what it was of old.", lambda one: one.lens.clear),
    (
        "moved_timestamp_seconds",
        "When it was last found to stand elsewhere; 0 = never.",
        lambda one: one.moved_us / 1e6,
    ),
)


def _s(one: CameraState, what: str) -> float:
    told = one.told
    return {"age": told.frame_age_ms_p50, "step": told.step_ms_p99, "look": told.infer_ms_p50}[what] / 1e3


def _of_cameras(cameras: list[CameraState]) -> Iterator[Metric]:
    for name, what, value in _CAMERA_COUNTERS:
        counter = CounterMetricFamily(_PREFIX + name, what, labels=_CAMERA)
        for one in cameras:
            counter.add_metric([one.site, one.device, one.camera], value(one))
        yield counter
    for name, what, value in _CAMERA_GAUGES:
        gauge = GaugeMetricFamily(_PREFIX + name, what, labels=_CAMERA)
        for one in cameras:
            gauge.add_metric([one.site, one.device, one.camera], float(value(one)))
        yield gauge


def _gauge(name: str, what: str, value: float) -> Metric:
    return GaugeMetricFamily(_PREFIX + name, what, value=float(value))


def _by(name: str, what: str, label: str, counts: Mapping[str, int]) -> Metric:
    family = GaugeMetricFamily(_PREFIX + name, what, labels=[label])
    for value, count in sorted(counts.items()):
        family.add_metric([value], count)
    return family


def _totals(name: str, what: str, label: str, counts: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(_PREFIX + name, what, labels=[label])
    for value, count in sorted(dict(counts).items()):
        family.add_metric([str(value)], count)
    return family


class MetricsServer:
    """Serves `/metrics` by HTTP in threads of its own, between `start` and `stop`.

    Args:
        figures: What is shown.
        host: Where to listen; whoever reaches it can read.
        port: 0: any that is free.
        read_s: How long a request may take to come.

    Raises:
        UsageError: Somebody else listens there, or it is no address of ours.
    """

    def __init__(self, figures: Figures, host: str, port: int, read_s: float = _READ_S) -> None:
        class Handler(_Handler):
            shown = figures
            timeout = read_s

        try:
            self._server = _Server((host, port), Handler)
        except OSError as error:
            raise UsageError(f"--metrics {host}:{port}: {error.strerror or error}") from error
        self._thread = threading.Thread(target=self._server.serve_forever, name="fleet-metrics", daemon=True)

    @property
    def url(self) -> str:
        """Where it is."""
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}/metrics"

    def start(self) -> None:
        """Begins to serve."""
        self._thread.start()

    def stop(self) -> None:
        """Ends it."""
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    # Threads that a slow reader holds; more are turned away at once.
    most = 16

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self._free = threading.Semaphore(self.most)

    def verify_request(self, request: object, client_address: object) -> bool:
        return self._free.acquire(blocking=False)

    def process_request_thread(self, request: object, client_address: object) -> None:
        try:
            super().process_request_thread(request, client_address)  # type: ignore[arg-type]
        finally:
            self._free.release()

    def handle_error(self, request: object, client_address: object) -> None:
        """A reader that went away is nobody's business."""


class _Handler(BaseHTTPRequestHandler):
    shown: Figures
    server_version = "walt-loop"
    sys_version = ""

    def do_GET(self) -> None:
        """The page."""
        if self.path.partition("?")[0] != "/metrics":
            self.send_error(404)
            return
        text, kind = self.shown.render(self.headers.get("Accept", ""))
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the library's name)
        """Scrapes are no news."""
