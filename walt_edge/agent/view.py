"""How the agent is doing, for its page, its health and its metrics."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING

import msgspec

from walt_edge.agent.telemetry import LaneFigures
from walt_edge.spool.spool import SpoolError
from walt_edge.web.processes import ProcessMeter
from walt_edge.web.status import (
    SILENCE_LIMIT_S,
    AgentFigures,
    Health,
    LiveFrame,
    ModelFigures,
    SelectorFigures,
    SpoolFigures,
    UpdateFigures,
    UplinkFigures,
    alive,
    ready,
)

if TYPE_CHECKING:
    from walt_edge.agent.core import Agent
    from walt_edge.agent.lanes import Lane


class View:
    """The agent as its page sees it; `walt_edge.web.status.AgentView`. Safe to ask from any thread.

    Args:
        agent: The agent.
    """

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._process = ProcessMeter()
        self._version = version("walt-amodal")
        self._began_s = time.monotonic()

    def cameras(self) -> Sequence[str]:
        """The cameras' names."""
        return [lane.name for lane in self._agent.lanes]

    def live(self, camera: str) -> LiveFrame | None:
        """The newest frame of a camera."""
        return self._agent.board.live(camera) if camera in self.cameras() else None

    def is_alive(self) -> Health:
        """Whether the loop of every lane that has not ended comes round; asks lanes alone, and no disk."""
        return alive([_figures_of(lane) for lane in self._agent.lanes if not lane.has_ended])

    def is_ready(self) -> Health:
        """Whether frames come, are anonymised and can be kept."""
        return ready(self.figures())

    def figures(self) -> AgentFigures:
        """All figures."""
        agent = self._agent
        return AgentFigures(
            site=agent.device.site,
            device=agent.device.device,
            version=self._version,
            anonymiser=agent.anonymiser,
            uptime_s=time.monotonic() - self._began_s,
            lanes=tuple(map(_figures_of, agent.lanes)),
            spool=self._spool(),
            uplink=self._uplink(),
            model=self._model(),
            updates=self._updates(),
            selector=self._selector(),
            process=self._process.read(),
        )

    def line(self) -> str:
        """One line on how it goes."""
        told = self.figures()
        live = sum(0 <= lane.since_frame_s < SILENCE_LIMIT_S for lane in told.lanes)
        rate = sum(lane.fps for lane in told.lanes)
        at_home = "connected" if told.uplink.is_connected else "not connected"
        return (
            f"{live} of {len(told.lanes)} cameras give frames, {rate:.1f} watched a second; "
            f"{told.spool.counts.depth} envelopes wait, {at_home}"
        )

    def _spool(self) -> SpoolFigures:
        spool = self._agent.spool
        pipelines = [lane.pipeline for lane in self._agent.lanes if lane.pipeline is not None]
        trouble = next((one.outlet.trouble for one in pipelines if one.outlet.trouble), "")
        try:
            return SpoolFigures(counts=spool.counts(), quota_bytes=spool.quota_bytes, trouble=trouble)
        except SpoolError as error:
            return SpoolFigures(quota_bytes=spool.quota_bytes, trouble=str(error))

    def _uplink(self) -> UplinkFigures:
        uplink = self._agent.uplink
        return UplinkFigures(
            broker=str(uplink.endpoint),
            is_connected=uplink.connected,
            connects=uplink.stats.connects,
            sent=uplink.stats.sent,
            resent=uplink.stats.resent,
        )

    def _model(self) -> ModelFigures:
        current, reported = self._agent.models.current, self._agent.reported
        told = ModelFigures()
        if current is not None:
            providers = getattr(current.model, "providers", ("",))
            told = ModelFigures(
                release=current.wish.release, name=current.model.manifest.name, runtime=str(providers[0])
            )
        updater = self._agent.updater
        if reported is None or updater is None:
            return told
        return msgspec.structs.replace(
            told, state=reported.state, reason=reported.reason, is_on_probation=updater.is_on_probation
        )

    def _updates(self) -> UpdateFigures | None:
        updater, reported = self._agent.updater, self._agent.reported
        if updater is None:
            return None
        counts = dataclasses.asdict(updater.stats)
        return UpdateFigures(
            state=reported.state if reported else "",
            release=reported.desired if reported else 0,
            attempts=counts.pop("attempts"),
            outcomes=counts,
            fetched_bytes=updater.source.fetched_bytes,
        )

    def _selector(self) -> SelectorFigures:
        selector = self._agent.selector
        (hour_spent, day_spent), (hour, day) = selector.spent_bytes, selector.budget_bytes
        return SelectorFigures(
            price=selector.price,
            hour_spent_bytes=hour_spent,
            hour_budget_bytes=hour,
            day_spent_bytes=day_spent,
            day_budget_bytes=day,
        )


def _figures_of(lane: Lane) -> LaneFigures:
    return lane.pipeline.figures() if lane.pipeline is not None else LaneFigures(camera=lane.name)
