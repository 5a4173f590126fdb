"""What Prometheus scrapes, read back with its own parsers."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec
import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from tests.web_client import ask
from walt_edge.agent.telemetry import LaneFigures, Spread
from walt_edge.contract.messages import SpoolCounts
from walt_edge.web.metrics import render
from walt_edge.web.status import (
    AgentFigures,
    ModelFigures,
    ProcessFigures,
    SelectorFigures,
    SpoolFigures,
    UpdateFigures,
    UplinkFigures,
)

Parser = Callable[[str], Iterable[Metric]]
OPENMETRICS = "application/openmetrics-text; version=1.0.0"

FIGURES = AgentFigures(
    site="harbour",
    device="walt-1",
    version="0.1.0",
    anonymiser="1 faces=head-only",
    uptime_s=12.5,
    lanes=(
        LaneFigures(
            camera="gate",
            frames_received=10,
            frames_processed=6,
            frames_skipped={"superseded": 3, "gated": 1},
            frame_age=Spread(p50_ms=80.0, p99_ms=250.0, count=6, total_s=0.6),
            stages={"look": Spread(p50_ms=61.0, p99_ms=90.0, count=6, total_s=0.4)},
            objects_now=4,
            hidden_now=1,
            refused={"border": 2, 'odd "reason"\n\\': 1},
            since_frame_s=0.25,
        ),
        LaneFigures(camera="yard"),
    ),
    spool=SpoolFigures(counts=SpoolCounts(accepted=10, acked=5, dropped=1, rejected=1, depth=3, bytes=99)),
    uplink=UplinkFigures(broker="home:8883", is_connected=True, sent=7),
    model=ModelFigures(release=14, is_on_probation=True),
    updates=UpdateFigures(
        state="refused", release=15, attempts=4, outcomes={"refused": 2, "rolled_back": 1}, fetched_bytes=10_400_000
    ),
    selector=SelectorFigures(
        price=0.25,
        hour_spent_bytes=39_000_000,
        hour_budget_bytes=40_000_000,
        day_spent_bytes=100_000_000,
        day_budget_bytes=400_000_000,
    ),
    process=ProcessFigures(processes=2, pss_bytes=123_000_000, cpu_s=4.5),
)


def samples(accept: str, parser: Parser, figures: AgentFigures = FIGURES) -> dict[tuple[str, ...], float]:
    """By name and label values."""
    body, content_type = render(lambda: figures, accept)
    assert content_type.startswith(accept.partition(";")[0] or "text/plain")
    return {
        (one.name, *(value for _, value in sorted(one.labels.items()))): one.value
        for family in parser(body.decode())
        for one in family.samples
    }


@pytest.mark.parametrize(("accept", "parser"), [("text/plain", parse_text), (OPENMETRICS, parse_openmetrics)])
def test_both_formats_parse_and_say_the_same(accept: str, parser: Parser) -> None:
    told = samples(accept, parser)
    expected = {
        ("walt_edge_frames_total", "gate", "processed"): 6,
        ("walt_edge_frames_total", "gate", "superseded"): 3,
        ("walt_edge_frames_received_total", "gate"): 10,
        ("walt_edge_frame_age_seconds", "gate", "0.5"): 0.08,
        ("walt_edge_frame_age_seconds", "gate", "0.99"): 0.25,
        ("walt_edge_frame_age_seconds_count", "gate"): 6,
        ("walt_edge_frame_age_seconds_sum", "gate"): 0.6,
        ("walt_edge_stage_seconds", "gate", "0.99", "look"): 0.09,
        ("walt_edge_objects", "gate"): 4,
        ("walt_edge_objects_hidden", "gate"): 1,
        ("walt_edge_rejected_total", "gate", "border"): 2,
        ("walt_edge_rejected_total", "gate", 'odd "reason"\n\\'): 1,
        ("walt_edge_frame_silence_seconds", "gate"): 0.25,
        ("walt_edge_frame_silence_seconds", "yard"): -1,
        ("walt_edge_frames_total", "yard", "processed"): 0,
        ("walt_edge_spool_envelopes", "depth"): 3,
        ("walt_edge_spool_accepted_total",): 10,
        ("walt_edge_spool_writable",): 1,
        ("walt_edge_uplink_connected",): 1,
        ("walt_edge_model_release",): 14,
        ("walt_edge_model_on_probation",): 1,
        ("walt_edge_update_state", "active"): 0,
        ("walt_edge_update_state", "updating"): 0,
        ("walt_edge_update_state", "refused"): 1,
        ("walt_edge_update_release",): 15,
        ("walt_edge_update_attempts_total",): 4,
        ("walt_edge_update_outcomes_total", "refused"): 2,
        ("walt_edge_update_outcomes_total", "rolled_back"): 1,
        ("walt_edge_update_fetched_bytes_total",): 10_400_000,
        ("walt_edge_selector_price",): 0.25,
        ("walt_edge_selector_spent_bytes", "hour"): 39_000_000,
        ("walt_edge_selector_budget_bytes", "hour"): 40_000_000,
        ("walt_edge_selector_spent_bytes", "day"): 100_000_000,
        ("walt_edge_selector_budget_bytes", "day"): 400_000_000,
        ("walt_edge_process_memory_pss_bytes",): 123_000_000,
        ("walt_edge_process_cpu_seconds_total",): 4.5,
        ("walt_edge_uptime_seconds",): 12.5,
        ("walt_edge_agent_info", "1 faces=head-only", "walt-1", "harbour", "0.1.0"): 1,
    }
    assert {name: told.get(name) for name in expected} == expected


def test_the_spools_states_add_up_to_what_it_accepted() -> None:
    told = samples("text/plain", parse_text)
    states = [value for name, value in told.items() if name[0] == "walt_edge_spool_envelopes"]
    assert sum(states) == told["walt_edge_spool_accepted_total",] == 10


def test_who_takes_no_models_from_home_says_nothing_of_updates() -> None:
    names = {name for name, *_ in samples("text/plain", parse_text, msgspec.structs.replace(FIGURES, updates=None))}
    assert not [name for name in names if "update" in name]
    assert "walt_edge_selector_price" in names


def test_every_family_has_help_a_type_and_base_units() -> None:
    body, _ = render(lambda: FIGURES, "")
    families = list(parse_text(body.decode()))
    assert len(families) > 20
    for family in families:
        assert family.name.startswith("walt_edge_")
        assert family.documentation.endswith(".")
        assert family.type in {"counter", "gauge", "summary"}
        assert not family.name.endswith(("_ms", "_mb", "_percent"))


@pytest.mark.parametrize(
    "accept", ["", "*/*", "application/openmetrics-text;version=x", "text/plain;version=\x80", "," * 999]
)
def test_any_accept_header_gets_an_answer(local: str, accept: str) -> None:
    answer = ask(local, "/metrics", headers={"Accept": accept})
    assert answer.status == 200
    is_open = answer.headers["content-type"].startswith("application/openmetrics-text")
    parser: Parser = parse_openmetrics if is_open else parse_text
    names = {family.name for family in parser(answer.body.decode())}
    assert {"walt_edge_stage_seconds", "walt_edge_frame_age_seconds", "walt_edge_spool_bytes"} <= names
