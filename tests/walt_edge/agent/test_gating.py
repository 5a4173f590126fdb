"""The gate: what it lets pass unwatched, and what it must never."""

from __future__ import annotations

import numpy as np
import pytest

from walt_edge.agent.gating import GateSettings, LookBudget, LookSettings, StillGate
from walt_edge.camera import Frame
from walt_edge.capture.clock import live_moment

FPS = 10.0
STREET = np.random.default_rng(5).integers(60, 180, (96, 160, 3), np.uint8).repeat(2, 0).repeat(2, 1)


def frame(index: int, noise: float = 2.0, block: tuple[int, int] | None = None) -> Frame:
    """The street with a sensor's noise; `block` is where something 8 x 20 pixels large stands."""
    picture = STREET.astype(np.float32) + np.random.default_rng(index).normal(0, noise, STREET.shape)
    if block is not None:
        x, y = block
        picture[y : y + 20, x : x + 8] = 30
    return Frame(np.clip(picture, 0, 255).astype(np.uint8), index, live_moment(index / FPS))


def watched(gate: StillGate, frames: list[Frame], busy: set[int] = frozenset()) -> list[int]:  # type: ignore[assignment]
    """The indices of the frames that the gate wants watched."""
    seen = []
    for one in frames:
        if gate.wants(one):
            seen.append(one.index)
            gate.note(busy=one.index in busy)
    return seen


def calm_gate(noise: float = 2.0) -> StillGate:
    """A gate that has learned a quiet street for ten seconds."""
    gate = StillGate()
    watched(gate, [frame(n, noise) for n in range(100)])
    assert gate.is_quiet
    return gate


@pytest.mark.parametrize("noise", [0.5, 2.0, 6.0])
def test_a_quiet_street_is_watched_twice_a_second(noise: float) -> None:
    gate = calm_gate(noise)
    assert len(watched(gate, [frame(n, noise) for n in range(100, 200)])) == 20


@pytest.mark.parametrize("noise", [0.5, 2.0, 6.0])
def test_who_appears_between_is_watched_at_once(noise: float) -> None:
    gate = calm_gate(noise)
    seen = watched(gate, [frame(n, noise, block=(100, 60) if n >= 102 else None) for n in range(100, 104)])
    assert 102 in seen


def test_while_something_is_there_every_frame_is_watched_and_some_time_after() -> None:
    gate = calm_gate()
    busy = set(range(100, 130))
    frames = [frame(n, block=(3 * (n - 100), 60) if n in busy else None) for n in range(100, 180)]
    seen = watched(gate, frames, busy)
    assert seen[:48] == list(range(100, 148))
    assert len(seen) < 48 + 12


def test_nobody_is_passed_over_before_anything_is_known() -> None:
    gate = StillGate()
    assert gate.wants(frame(0))
    gate.note(busy=True)
    assert watched(gate, [frame(n) for n in range(1, 15)], busy=set(range(15))) == list(range(1, 15))


def test_another_picture_size_and_time_that_goes_back_are_watched() -> None:
    gate = calm_gate()
    half = frame(101)
    smaller = Frame(half.bgr[:96], 101, half.captured)
    assert gate.wants(smaller)
    gate.note(busy=False)
    assert gate.wants(frame(3))


def test_leaves_that_always_move_are_learned() -> None:
    def leaves(index: int) -> Frame:
        one = frame(index)
        picture = one.bgr.copy()
        picture[:40, :40] = (
            np.random.default_rng(index).integers(40, 120, (10, 10, 3), np.uint8).repeat(4, 0).repeat(4, 1)
        )
        return Frame(picture, index, one.captured)

    gate = StillGate()
    watched(gate, [leaves(n) for n in range(200)])
    assert len(watched(gate, [leaves(n) for n in range(200, 300)])) <= 30


@pytest.mark.parametrize(
    ("settings", "cameras", "took_ms", "quiet", "looks"),
    [
        (LookSettings(), 1, 50.0, False, 100),
        (LookSettings(max_fps=5.0), 1, 50.0, False, 50),
        (LookSettings(idle_look_s=5.0), 1, 50.0, True, 2),
        (LookSettings(cpu_budget=0.5), 1, 200.0, False, 25),
        (LookSettings(cpu_budget=0.5), 2, 200.0, False, 13),
    ],
)
def test_the_budget(settings: LookSettings, cameras: int, took_ms: float, quiet: bool, looks: int) -> None:
    budget = LookBudget(settings, cameras)
    for _ in range(30):
        budget.note(took_ms)
    taken = sum(budget.wants(n / 10 + 1e-6, quiet=quiet) for n in range(100))
    assert taken == pytest.approx(looks, abs=1)


def test_the_gates_calm_is_longer_than_its_step() -> None:
    settings = GateSettings()
    assert settings.calm_s > settings.idle_step_s
