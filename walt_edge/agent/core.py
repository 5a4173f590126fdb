"""Builds an agent from its configuration and runs it: a lane for each camera; one spool, uplink and model for all."""

from __future__ import annotations

import logging
import platform
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING

from walt_edge.agent.gating import LookBudget, LookSettings, StillGate
from walt_edge.agent.journal import Journal
from walt_edge.agent.lanes import Lane
from walt_edge.agent.logs import configure
from walt_edge.agent.looking import Looker
from walt_edge.agent.models import open_models
from walt_edge.agent.notify import Notifier, Watchdog
from walt_edge.agent.outlet import Outlet
from walt_edge.agent.parts import (
    make_anonymiser,
    make_sampler,
    make_selector,
    make_watcher,
    sampling_settings,
    selector_settings,
)
from walt_edge.agent.pipeline import Pipeline, PipelineSettings
from walt_edge.agent.showing import Showing
from walt_edge.agent.sight import Sights
from walt_edge.agent.telemetry import Meter
from walt_edge.agent.view import View
from walt_edge.camera import Camera, open_camera
from walt_edge.capture.clock import boot_id
from walt_edge.config import Home
from walt_edge.contract.messages import Info, Reported, Telemetry
from walt_edge.contract.topics import DeviceTopics
from walt_edge.identity.credentials import Credentials
from walt_edge.identity.using import device_of, endpoint_of
from walt_edge.privacy.hardening import harden
from walt_edge.selecting.sampling import FrameSampler
from walt_edge.settings.reload import Reloaded, Reloader
from walt_edge.settings.tree import AgentConfig, CameraConfig
from walt_edge.spool.key import find_key
from walt_edge.spool.spool import Spool
from walt_edge.uplink.uplink import Uplink, UplinkSettings
from walt_edge.web.board import LiveBoard
from walt_edge.web.settings import WebError, WebSettings

if TYPE_CHECKING:
    from walt_edge.web.server import WebServer

LOG = logging.getLogger(__name__)

_TURN_S = 0.5


def run(
    config: AgentConfig,
    stop: threading.Event,
    frames: int | None = None,
    reloader: Reloader | None = None,
    notifier: Notifier | None = None,
) -> int:
    """Watches until `stop` is set or every source has ended; returns the exit status.

    Args:
        config: What to do, with at least one camera.
        stop: Asks for an orderly end: tracks are finished, home is given time to acknowledge.
        frames: End after so many watched frames of each camera.
        reloader: Asked between two turns whether the configuration has changed.
        notifier: Told when the agent is ready, alive and stopping.

    Raises:
        HardeningError: The kernel would let a crash write frames to a disk.
        WaltError: A recording, or the only camera at its first opening, cannot be watched.
    """
    harden()
    with ExitStack() as stack:
        agent = Agent(config, stop, frames, stack)
        agent.watch(reloader, notifier or Notifier({}))
    return 0


class Agent:
    """The running agent.

    Args:
        config: What to do.
        stop: Asks for an end.
        frames: End after so many watched frames of each camera.
        stack: Closes, in the reverse order, what is opened here.
    """

    def __init__(self, config: AgentConfig, stop: threading.Event, frames: int | None, stack: ExitStack) -> None:
        self._config = config
        self._stop = stop
        home = stack.enter_context(Home(config.home))
        first = config.cameras[0]
        self.device = device = device_of(home, config, first.name if len(config.cameras) == 1 else None)
        key = find_key(config.home, device.device, config.spool.key)
        self.spool = stack.enter_context(Spool(config.home, config.spool.quota_mb << 20, key))
        # One for each camera: a face detector serves one thread.
        self._meters = {name: Meter(boot_id(), name) for name in map(self._name, config.cameras)}
        self._anonymisers = {name: make_anonymiser(config.privacy, meter) for name, meter in self._meters.items()}
        self.anonymiser = self._anonymisers[self._name(first)].version
        self.uplink = self._make_uplink()
        self.reported: Reported | None = None
        self.models, self.updater = open_models(config, self._report, stack)
        self.looker = Looker(self.models)
        self.selector = stack.enter_context(make_selector(config, config.home))
        self.board = LiveBoard(self._name(camera) for camera in config.cameras)
        self.lanes = [self._make_lane(camera, frames) for camera in config.cameras]
        if self.updater is not None:
            self.uplink.on_desired = self.updater.desire
        self._look_after_certificate(stack)
        self.uplink.start()
        stack.callback(self.uplink.stop)
        self.view = View(self)
        self._page: WebServer | None = None
        stack.callback(self._end_page)
        self._serve()

    def watch(self, reloader: Reloader | None, notifier: Notifier) -> None:
        """Watches to the end; then gives home time to acknowledge.

        Raises:
            WaltError: What ended a lane for good.
        """
        LOG.info("the anonymiser is %s", self.anonymiser)
        for lane in self.lanes:
            lane.start()
        notifier.ready()
        watchdog = Watchdog(notifier, lambda: self.view.is_alive().is_well, self.view.line)
        watchdog.start()
        while left := [lane for lane in self.lanes if not lane.has_ended]:
            left[0].join(_TURN_S)
            reloaded = reloader.poll() if reloader is not None else None
            if reloaded is not None:
                self._take_over(reloaded)
        notifier.stopping()
        watchdog.stop()
        self._say_goodbye()
        for lane in self.lanes:
            if lane.error is not None:
                raise lane.error

    def _take_over(self, reloaded: Reloaded) -> None:
        """What may change while the agent runs does; see `walt_edge.settings.reload.HOT`."""
        self._config = reloaded.config
        configure(reloaded.config)
        self.selector.configure(selector_settings(reloaded.config))
        if reloaded.changes.touches("web"):
            self._end_page()
            self._serve()
        for lane, camera in zip(self.lanes, self._config.cameras, strict=True):
            if lane.pipeline is not None:
                self._set_hot(lane.pipeline, self._config_of(camera))

    def _report(self, reported: Reported) -> None:
        """Which model runs, for home and for the page."""
        self.reported = reported
        self.uplink.report(reported)

    def _say_goodbye(self) -> None:
        # Asked to stop, it waits only if there is a connection to wait on.
        if not self._stop.is_set() or self.uplink.connected:
            self.uplink.wait_drained(self._config.drain_s)
        for lane in self.lanes:
            if lane.pipeline is not None:
                end = lane.pipeline.telemetry()
                self.uplink.send_telemetry(end)
                LOG.info("%s", _summary(end))

    # -- parts --------------------------------------------------------------------------------------------

    def _make_uplink(self) -> Uplink:
        broker, device = self._config.broker, self.device
        settings = UplinkSettings(ack_timeout_s=broker.ack_timeout_s, reconnect_max_s=broker.reconnect_max_s)
        topics = DeviceTopics(device.site, device.device)
        return Uplink(endpoint_of(self._config), topics, self.spool, boot_id(), self._info(), settings)

    def _look_after_certificate(self, stack: ExitStack) -> None:
        """An enrolled agent renews its certificate; the next connection shows the new one."""
        config = self._config  # as it was given: a reload's says everything explicitly
        if Credentials(config.home).read() is None:
            return
        from walt_edge.identity.renewal import Renewal  # speaks HTTPS: only who is enrolled shall pay

        def use() -> None:
            self.uplink.endpoint = endpoint_of(config)

        renewal = stack.enter_context(Renewal(config.home, use))
        self.uplink.certificate = renewal.state
        renewal.start()

    def _info(self) -> Info:
        names = tuple(self._name(camera) for camera in self._config.cameras)
        return Info(
            version=version("walt-amodal"),
            camera=names[0],
            machine=platform.machine(),
            python=platform.python_version(),
            anonymiser=self.anonymiser,
            cameras=names if len(names) > 1 else (),
            channel=self._config.updates.channel if self._config.updates.url else "",
        )

    def _name(self, camera: CameraConfig) -> str:
        return camera.name or self.device.camera

    def _make_lane(self, camera: CameraConfig, frames: int | None) -> Lane:
        alone = len(self._config.cameras) == 1
        return Lane(
            self._name(camera),
            partial(self._opened, camera),
            is_live=camera.is_live,
            must_open=alone and not camera.wait_for_camera,
            stop=self._stop,
            frames=frames,
            # A configuration that came while the camera was being opened holds too.
            on_open=lambda pipeline: self._set_hot(pipeline, self._config_of(camera)),
        )

    @contextmanager
    def _opened(self, camera: CameraConfig) -> Iterator[Pipeline]:
        """A camera with all that watches it."""
        config, name = self._config_of(camera), self._name(camera)
        meter = self._meters[name]
        with ExitStack() as stack:
            journal = self._open_journal(name)
            if journal is not None:
                stack.callback(journal.close)
            watcher = make_watcher(config, self.device, name, self._anonymisers[name])
            sampler = make_sampler(config, self.device, name, self.anonymiser, config.home)
            stack.callback(sampler.close)
            source = stack.enter_context(self._open_camera(camera))
            LOG.info("watching %s as %s/%s/%s", camera.url, self.device.site, self.device.device, name)
            # A recording is watched whole: what it gives shall not depend on the machine.
            budget = LookBudget(cameras=len(config.cameras)) if camera.is_live else None
            yield Pipeline(
                source,
                watcher,
                self._outlet(meter, sampler),
                meter,
                self.models,
                Sights(self.looker, meter, budget),
                StillGate() if camera.is_live else None,
                Showing(name, journal, self.board),
            )

    def _outlet(self, meter: Meter, sampler: FrameSampler | None) -> Outlet:
        spool = self.spool
        return Outlet(spool, self.uplink, meter, self.selector, sampler, spool.path.parent, spool.quota_bytes)

    def _config_of(self, camera: CameraConfig) -> AgentConfig:
        config = self._config
        if camera.is_live:
            return config
        # A short film lies in one block of time: it would be held out whole, or not at all.
        return config.model_copy(update={"frames": config.frames.model_copy(update={"holdout_share": 0.0})})

    def _set_hot(self, pipeline: Pipeline, config: AgentConfig) -> None:
        """Each value is replaced whole, so that the lane's thread sees the old one or the new one."""
        limits = config.inference
        pipeline.settings = PipelineSettings(telemetry_s=config.telemetry_s)
        pipeline.outlet.sampling = sampling_settings(config)
        if pipeline.gate is not None:
            pipeline.gate.is_open = not limits.gate
        if pipeline.sights is not None and pipeline.sights.budget is not None:
            look = LookSettings(max_fps=limits.max_fps or 0.0, cpu_budget=limits.cpu_budget)
            pipeline.sights.budget.settings = look

    def _open_camera(self, camera: CameraConfig) -> Camera:
        retry = camera.wait_for_camera or len(self._config.cameras) > 1
        return open_camera(
            camera.url.get_secret_value(),
            fps=camera.fps,
            transport=camera.transport,
            retry_first=retry,
            open_s=camera.open_s,
            stall_s=camera.stall_s,
            hardware=camera.hwaccel,
        )

    def _open_journal(self, name: str) -> Journal | None:
        diary = self._config.journal
        if diary.folder is None:
            return None
        folder = diary.folder if len(self._config.cameras) == 1 else diary.folder / name
        return Journal(folder, diary.every, diary.mb << 20)

    def _serve(self) -> None:
        """Serves the page; the agent watches without it where it cannot be."""
        web = self._config.web
        if not web.enabled:
            return
        from walt_edge.web.server import WebServer  # 20 MB that only who has a page shall pay

        try:
            settings = WebSettings(web.host, web.port, web.secret(), web.tls_cert, web.tls_key)
            page = WebServer(self.view, settings)
            page.start()
        except WebError as error:
            LOG.error("watching on without a page: %s", error)
        else:
            self._page = page

    def _end_page(self) -> None:
        if self._page is not None:
            self._page.stop()
            self._page = None


def _summary(end: Telemetry) -> str:
    spool = end.spool
    return (
        f"{end.camera}: watched {end.frames_processed} of {end.frames_received} frames, saw {end.objects_seen} "
        f"objects, chose {end.crops_chosen} crops; spool: {spool.accepted} accepted = {spool.acked} at home + "
        f"{spool.depth} waiting + {spool.dropped} dropped + {spool.rejected} rejected"
    )
