"""The whole agent is killed at random moments: what its spool had accepted is in the store, exactly once."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import cv2
import numpy as np
import pytest
from tqdm import tqdm

from tests.broker import Broker
from tests.station import Station, ingest
from walt_edge.rtsp_server import RtspServer
from walt_edge.spool.spool import FILE_NAME, Spool
from walt_train.loop.store.store import Store

KILLS = 100
FPS = 20.0
LONGEST_LIFE_S = 12.0
# Of a track in each row of the picture: pixels a frame, and frames from one object to the next.
ROWS = ((8, 50), (10, 60), (12, 75))
COLOURS = ((40, 40, 200), (220, 220, 220), (20, 20, 20), (200, 60, 30), (30, 200, 60), (0, 220, 220))


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fifteen seconds in which something passes all the time, in one of three rows or in all."""
    folder = tmp_path_factory.mktemp("street")
    height, width, object_wh = 160, 240, (36, 24)
    noise = np.random.default_rng(1).integers(60, 190, (height, width, 3), dtype=np.uint8)
    background = cv2.GaussianBlur(noise, (0, 0), 2)
    for n in range(300):
        picture = background.copy()
        for row, (pace, wait) in enumerate(ROWS):
            turn, moment = divmod(n, wait)
            left = pace * moment - 40 if row != 1 else width - pace * moment
            top = 10 + 55 * row
            x0, x1 = (min(width, max(0, x)) for x in (left, left + object_wh[0]))
            picture[top : top + object_wh[1], x0:x1] = COLOURS[(turn + row) % len(COLOURS)]
        cv2.imwrite(str(folder / f"{n:04d}.png"), picture)
    return folder


class Agent(Station):
    """The real agent, with a home, a key and a log in `folder`."""

    def __init__(self, folder: Path, source: str, broker: str, *words: str) -> None:
        self.home = folder / "home"
        os.environ["XDG_CONFIG_HOME"] = str(folder / "config")
        options = {"--rtsp": source, "--home": str(self.home), "--broker": broker, "--site": "test"}
        settings = ("web.enabled=false", "broker.ack_timeout_s=2", "broker.reconnect_max_s=1")
        pairs = [*options.items(), *(("--set", setting) for setting in settings)]
        command = ["-m", "tests.short_agent", "run", *(word for pair in pairs for word in pair), *words]
        super().__init__(command, folder / "agent.log")

    def close(self) -> None:
        self.kill()

    @property
    def accepted(self) -> int:
        """As its spool counts it at this moment."""
        try:
            with closing(sqlite3.connect(f"file:{self.home / FILE_NAME}?mode=ro", uri=True)) as db:
                count: int = db.execute("SELECT accepted FROM counts").fetchone()[0]
        except sqlite3.OperationalError:
            return 0  # It is only just being made.
        return count


def rows(home: Path, scratch: Path) -> dict[str, str]:
    """State by id, read from a copy: what a kill left is the next start's to mend, not ours."""
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    for part in home.glob(f"{FILE_NAME}*"):
        shutil.copy(part, scratch)
    if not (scratch / FILE_NAME).exists():
        return {}
    with closing(sqlite3.connect(scratch / FILE_NAME)) as db:
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'envelopes'").fetchone():
            return {}
        return dict(db.execute("SELECT id, state FROM envelopes").fetchall())


def live(agent: Agent, chance: random.Random) -> None:
    """Lets it live for a moment at its start, or until something was accepted and a little longer."""
    end_s = time.monotonic() + LONGEST_LIFE_S
    if chance.random() < 0.3:
        time.sleep(chance.uniform(0.1, 4.0))
        return
    enough = agent.accepted + chance.randrange(1, 4)
    while agent.accepted < enough and time.monotonic() < end_s:
        time.sleep(0.02)
    time.sleep(chance.uniform(0.0, 0.3))


@pytest.fixture
def environment() -> Iterator[None]:
    """What `Agent` sets is set back."""
    before = os.environ.get("XDG_CONFIG_HOME")
    yield
    if before is None:
        os.environ.pop("XDG_CONFIG_HOME", None)
    else:
        os.environ["XDG_CONFIG_HOME"] = before


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("environment")
def test_nothing_is_lost_and_nothing_is_doubled(tmp_path: Path, street: Path) -> None:
    chance, told = random.Random("agent kills"), dict[str, str]()
    with (
        Broker.start(tmp_path) as broker,
        ingest(broker.address, tmp_path),
        RtspServer(street, loop=True, fps=FPS) as camera,
        ExitStack() as stack,
    ):
        agent = stack.enter_context(closing(Agent(tmp_path, camera.url, broker.address)))
        for _ in tqdm(range(KILLS), disable=not sys.stderr.isatty()):
            live(agent, chance)
            assert agent.process.poll() is None, agent.log.read_text()[-2000:]
            agent.kill()
            now = rows(agent.home, tmp_path / "scratch")
            assert told.keys() <= now.keys(), "what was accepted is gone"
            assert {id_ for id_, state in told.items() if state == "acked" and now[id_] != "acked"} == set()
            told = now
            agent.start()
        agent.kill()
        words = ("--frames", "1", "--drain-s", "120")
        last = stack.enter_context(closing(Agent(tmp_path, str(street), broker.address, *words)))
        assert last.process.wait(180) == 0, last.log.read_text()[-2000:]
    assert len(told) > KILLS / 2, f"only {len(told)} envelopes in {KILLS} lives: too quiet a scene to tell anything"
    check(tmp_path, told)


def check(folder: Path, told: dict[str, str]) -> None:
    now = rows(folder / "home", folder / "scratch")
    assert told.keys() <= now.keys()
    assert set(now.values()) == {"acked"}
    with Spool(folder / "home") as spool:
        counts = spool.counts()
        assert spool.set_aside == 0
    assert counts.accepted == counts.acked == len(now)
    assert not [*(folder / "home").glob(f"{FILE_NAME}.*-*")]
    with Store(folder / "store") as store:
        assert sorted(store.ids()) == sorted(now)
        assert store.counts().rejected == 0
    assert "Traceback" not in (folder / "agent.log").read_text()
