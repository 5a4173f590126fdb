"""Alive and ready: yes, or every reason why not."""

from __future__ import annotations

import pytest

from walt_edge.agent.telemetry import LaneFigures
from walt_edge.web.status import AgentFigures, SpoolFigures, alive, ready

GOOD = LaneFigures(camera="gate", since_frame_s=0.2, since_turn_s=0.1)


def figures(*lanes: LaneFigures, trouble: str = "") -> AgentFigures:
    return AgentFigures(
        site="s", device="d", version="0", anonymiser="1", lanes=lanes, spool=SpoolFigures(trouble=trouble)
    )


@pytest.mark.parametrize(
    ("told", "reasons"),
    [
        (figures(GOOD), []),
        (figures(), ["no camera is watched"]),
        (figures(GOOD, LaneFigures(camera="yard")), ["camera yard: no frame yet"]),
        (figures(LaneFigures(camera="yard", since_frame_s=61.0)), ["camera yard: no frame for 61 s"]),
        (figures(GOOD, trouble="the disk is full"), ["spool: the disk is full"]),
        (
            figures(LaneFigures(camera="yard", since_frame_s=0.1, failures_in_a_row=9), trouble="x"),
            [
                "camera yard: the anonymiser failed on the last 9 frames, nothing was kept of them",
                "spool: x",
            ],
        ),
    ],
)
def test_ready_or_every_reason_why_not(told: AgentFigures, reasons: list[str]) -> None:
    health = ready(told)
    assert list(health.reasons) == reasons
    assert health.is_well == (not reasons)


def test_alive_while_every_loop_comes_round_whether_or_not_there_are_frames() -> None:
    assert alive(figures(LaneFigures(camera="gate", since_turn_s=29.0)).lanes).is_well
    health = alive(figures(GOOD, LaneFigures(camera="yard", since_turn_s=31.0)).lanes)
    assert not health.is_well
    assert list(health.reasons) == ["camera yard: its loop has not come round for 31 s"]
