"""An agent that watches for minutes takes no more memory than it took at the beginning.

In CI the minutes are the film's (`tests.held_agent`), so that a busy machine changes nothing of what is watched; the
slow test is the whole agent, decoder and all, at a camera's own pace.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from benchmarks.edge import Spans, running, warm_up
from benchmarks.edge_films import busy_film
from benchmarks.edge_memory import Memory, theil_sen, watch
from tests.fakes.scenes import Scene, Thing, walk
from tests.held_agent import FPS
from walt_edge.packaged import GENERAL_MODEL
from walt_train.loop.children import Stations, program
from walt_train.loop.demo.broker import HOST, start_broker

LOG = logging.getLogger(__name__)
MOST_MIB = 400.0
MOST_MIB_MIN = 1.0
HELD_MIB_MIN = 0.5
"""In the middle between none and 1 MiB a minute."""
FILM_S = 8.0
WARM_TURNS = 7
"""About a minute of the film: every place of every buffer was taken, and SQLite has its pages."""
TURNS = WARM_TURNS + 23
PATIENCE_S = 300.0
MEASURED_S = 180.0
APART = (0.5, 1.0)

needs_model = pytest.mark.skipif(not GENERAL_MODEL.is_file(), reason="this checkout has no general model")


def street(path: Path) -> Path:
    """A film of eleven people, some of whom hide others, as a camera of 640x384 sees them."""
    people = [
        Thing(walk((40 + 55 * n, 150 + 20 * n), (18 * (-1) ** n, 0), 0.8 * n % 5), height=70 + 6 * n, shadow=0.8)
        for n in range(11)
    ]
    scene = Scene((640, 384), people)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=round(FPS), options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = *scene.wh, "yuv420p"
        for frame in scene.frames(FILM_S, FPS):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame.bgr, format="bgr24")))
        container.mux(stream.encode())
    return path


@pytest.mark.timeout(400)
@needs_model
def test_what_is_held_stays_what_it_was_for_three_minutes(tmp_path: Path) -> None:
    held = tmp_path / "held"
    told = {
        "FILM": str(street(tmp_path / "street.mp4")),
        "HELD": str(held),
        "PYTHONMALLOC": "malloc",
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "WALT_EDGE_WEB__ENABLED": "false",
        "WALT_EDGE_INFERENCE__MODEL": "general",
    }
    with Stations(tmp_path) as stations:
        _, broker = start_broker(stations, tmp_path / "broker")
        address = f"{HOST}:{broker}"
        stations.start(
            "ingest", [program("walt-loop"), "ingest", "--broker", address, "--store", f"{tmp_path}/store"]
        )
        words = [*(f"{key}={value}" for key, value in told.items()), sys.executable, "-m", "tests.held_agent", "run"]
        options = ["--rtsp", f"rtsp://{HOST}/", "--broker", address, "--home", str(tmp_path / "home")]
        agent = stations.start("agent", ["env", *words, *options])
        agent.wait_for(
            lambda: held.is_file() and held.read_text().count("\n") > TURNS, PATIENCE_S, "watching the film"
        )
        most = Memory.of(agent.pid).pss
    minutes, sizes = np.loadtxt(held)[WARM_TURNS : TURNS + 1].T.tolist()
    slope = theil_sen(minutes, sizes)
    told_mib = " ".join(f"{one:.2f}" for one in np.loadtxt(held)[:, 1])
    LOG.info("held %.3f MiB a minute of %.1f, %.0f MiB PSS; by turns: %s", slope, minutes[-1], most, told_mib)
    assert minutes[-1] - minutes[0] >= 3
    assert most < MOST_MIB
    assert slope < HELD_MIB_MIN, told_mib


@pytest.mark.slow
@pytest.mark.timeout(900)
@needs_model
def test_memory_stays_where_it_was(tmp_path: Path) -> None:
    film, _ = busy_film(tmp_path)
    with running(tmp_path, film, FPS, Spans(warm_up_s=0), max_fps=1.0) as agent:
        warm_up(agent)
        before = agent.processed()
        course = watch(agent.pid, MEASURED_S, 2.0)
        assert agent.processed() > before + MEASURED_S, "it did not watch"
    assert course.most("pss") < MOST_MIB
    assert course.slope("written", apart=APART) < MOST_MIB_MIN, course.of("written")


@given(st.floats(0.5, 20.0), st.floats(0.0, 1.0), st.integers(0, 2**16))
def test_a_leak_is_told_from_a_step(step_mib: float, when: float, seed: int) -> None:
    times_s = 2.0 * np.arange(round(MEASURED_S / 2), dtype=np.float64)
    steady = 230 + np.random.default_rng(seed).normal(0, 0.05, len(times_s))
    stepped = steady + step_mib * (times_s >= when * MEASURED_S)

    def slope(sizes: NDArray[np.float64]) -> float:
        return theil_sen((times_s / 60).tolist(), sizes.tolist(), APART)

    assert slope(stepped) < HELD_MIB_MIN
    assert slope(steady + times_s / 60) > HELD_MIB_MIN
    assert slope(stepped + times_s / 60) > HELD_MIB_MIN
    assert slope(steady + times_s // 60) > HELD_MIB_MIN, "a MiB at a time"
