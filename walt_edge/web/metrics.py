"""The figures as Prometheus reads them: base units, one name a thing, reasons and cameras as labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector, CollectorRegistry

from walt_edge.agent.telemetry import LaneFigures, Spread
from walt_edge.update.reports import State
from walt_edge.web.status import AgentFigures, SelectorFigures, UpdateFigures

_PREFIX: Final = "walt_edge_"


def render(figures: Callable[[], AgentFigures], accept: str) -> tuple[bytes, str]:
    """The page that a Prometheus server scrapes, and its content type.

    Args:
        figures: Asked once.
        accept: The request's `Accept` header: OpenMetrics or the older text.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(AgentCollector(figures))
    # Not the library's own choice: it takes versions from the header, and raises on those that are none.
    if "application/openmetrics-text" in accept:
        text: bytes = openmetrics.generate_latest(registry)  # type: ignore[no-untyped-call]
        return text, openmetrics.CONTENT_TYPE_LATEST
    return generate_latest(registry), CONTENT_TYPE_PLAIN_0_0_4


class AgentCollector(Collector):
    """Turns figures into metric families whenever it is asked; holds nothing itself."""

    def __init__(self, figures: Callable[[], AgentFigures]) -> None:
        self._figures = figures

    def describe(self) -> Iterable[Metric]:
        """Nothing beforehand: figures are asked for at a scrape only."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """All metric families."""
        figures = self._figures()
        told = {"site": figures.site, "device": figures.device, "version": figures.version}
        yield InfoMetricFamily(_PREFIX + "agent", "This agent.", {**told, "anonymiser": figures.anonymiser})
        yield _gauge("uptime_seconds", "Since the agent's start.", figures.uptime_s)
        yield from _of_lanes(figures.lanes)
        yield from _of_home(figures)
        yield from _of_selector(figures.selector)
        if figures.updates is not None:
            yield from _of_updates(figures.updates)
        process = figures.process
        yield _gauge("process_count", "Processes of the agent.", process.processes)
        yield _gauge("process_memory_pss_bytes", "Their memory, what they share counted once.", process.pss_bytes)
        yield _counter("process_cpu_seconds", "Their processor time.", process.cpu_s)


def _of_lanes(lanes: tuple[LaneFigures, ...]) -> Iterator[Metric]:
    frames = CounterMetricFamily(_PREFIX + "frames", "What became of frames.", labels=["camera", "outcome"])
    rejected = CounterMetricFamily(
        _PREFIX + "rejected", "Objects and envelopes that were not taken.", labels=["camera", "reason"]
    )
    age = Metric(_PREFIX + "frame_age_seconds", "From a frame's capture to the end of its step.", "summary")
    stage = Metric(_PREFIX + "stage_seconds", "One frame in one stage.", "summary")
    for lane in lanes:
        for outcome, count in {"processed": lane.frames_processed, **lane.frames_skipped}.items():
            frames.add_metric([lane.camera, outcome], count)
        for reason, count in lane.refused.items():
            rejected.add_metric([lane.camera, reason], count)
        _add_spread(age, {"camera": lane.camera}, lane.frame_age)
        for name, spread in lane.stages.items():
            _add_spread(stage, {"camera": lane.camera, "stage": name}, spread)
    yield from (frames, rejected, age, stage)
    for name, what, value in _LANE_COUNTERS:
        counter = CounterMetricFamily(_PREFIX + name, what, labels=["camera"])
        for lane in lanes:
            counter.add_metric([lane.camera], value(lane))
        yield counter
    for name, what, value in _LANE_GAUGES:
        gauge = GaugeMetricFamily(_PREFIX + name, what, labels=["camera"])
        for lane in lanes:
            gauge.add_metric([lane.camera], value(lane))
        yield gauge


_Value = Callable[[LaneFigures], float]
_LANE_COUNTERS: Final[tuple[tuple[str, str, _Value], ...]] = (
    ("frames_received", "Frames that a camera gave.", lambda lane: lane.frames_received),
    ("looks", "Frames that the model looked at.", lambda lane: lane.looks),
    ("objects_seen", "Tracks.", lambda lane: lane.objects_seen),
    ("crops_chosen", "Crops that were sealed.", lambda lane: lane.crops_chosen),
    ("anonymiser_failures", "Frames of which nothing was kept.", lambda lane: lane.anonymiser_failures),
    ("camera_reconnects", "Times a camera was lost and found again.", lambda lane: lane.reconnects),
)
_LANE_GAUGES: Final[tuple[tuple[str, str, _Value], ...]] = (
    ("frame_silence_seconds", "Since the newest frame; -1 before the first.", lambda lane: lane.since_frame_s),
    ("loop_silence_seconds", "Since the lane's loop came round.", lambda lane: lane.since_turn_s),
    ("objects", "In the newest frame.", lambda lane: lane.objects_now),
    ("objects_hidden", "Of these, hidden in part or altogether.", lambda lane: lane.hidden_now),
)


def _of_home(figures: AgentFigures) -> Iterator[Metric]:
    spool, uplink, model = figures.spool, figures.uplink, figures.model
    yield _counter("spool_accepted", "Envelopes ever accepted: the sum of all states.", spool.counts.accepted)
    # Gauges: a resend that home asks for moves envelopes from acked back to depth.
    states = GaugeMetricFamily(
        _PREFIX + "spool_envelopes", "Accepted envelopes by what became of them.", labels=["state"]
    )
    for state in ("acked", "dropped", "rejected", "depth"):
        states.add_metric([state], getattr(spool.counts, state))
    yield states
    yield _gauge("spool_bytes", "Bytes on disk.", spool.counts.bytes)
    yield _gauge("spool_quota_bytes", "Bytes that it may hold.", spool.quota_bytes)
    yield _gauge("spool_writable", "1 while it takes envelopes.", not spool.trouble)
    yield _gauge("uplink_connected", "1 while the broker is connected.", uplink.is_connected)
    yield _counter("uplink_connects", "Connections made.", uplink.connects)
    yield _counter("uplink_sent", "Envelopes published.", uplink.sent)
    yield _counter("uplink_resent", "Of these, published again.", uplink.resent)
    yield _gauge("model_release", "The model's release; 0 = none.", model.release)
    yield _gauge("model_on_probation", "1 while it is not yet committed.", model.is_on_probation)


def _of_selector(selector: SelectorFigures) -> Iterator[Metric]:
    yield _gauge("selector_price", "What a crop's value has to exceed; 0 while all fits.", selector.price)
    # Gauges: a budget begins anew after every hour and day.
    spent = GaugeMetricFamily(_PREFIX + "selector_spent_bytes", "Used of the present span's budget.", labels=["span"])
    budget = GaugeMetricFamily(_PREFIX + "selector_budget_bytes", "What a span may use.", labels=["span"])
    for span, used, allowed in (
        ("hour", selector.hour_spent_bytes, selector.hour_budget_bytes),
        ("day", selector.day_spent_bytes, selector.day_budget_bytes),
    ):
        spent.add_metric([span], used)
        budget.add_metric([span], allowed)
    yield from (spent, budget)


def _of_updates(updates: UpdateFigures) -> Iterator[Metric]:
    state = GaugeMetricFamily(_PREFIX + "update_state", "1 for the state reported home.", labels=["state"])
    for name in get_args(State):
        state.add_metric([name], updates.state == name)
    outcomes = CounterMetricFamily(_PREFIX + "update_outcomes", "What came of attempts.", labels=["outcome"])
    for name, count in updates.outcomes.items():
        outcomes.add_metric([name], count)
    yield from (state, outcomes)
    yield _gauge("update_release", "The release that home last asked for; 0 = none.", updates.release)
    yield _counter("update_attempts", "Times that the agent tried to take a release.", updates.attempts)
    yield _counter("update_fetched_bytes", "Received for updates, metadata included.", updates.fetched_bytes)


def _add_spread(family: Metric, labels: dict[str, str], spread: Spread) -> None:
    for quantile, milliseconds in (("0.5", spread.p50_ms), ("0.99", spread.p99_ms)):
        family.add_sample(family.name, {**labels, "quantile": quantile}, milliseconds / 1e3)
    family.add_sample(f"{family.name}_count", labels, spread.count)
    family.add_sample(f"{family.name}_sum", labels, spread.total_s)


def _gauge(name: str, what: str, value: float) -> Metric:
    return GaugeMetricFamily(_PREFIX + name, what, value=float(value))


def _counter(name: str, what: str, value: float) -> Metric:
    return CounterMetricFamily(_PREFIX + name, what, value=float(value))
