"""The whole loop at home with the real programs: clip art in, a signed release out, over a kill of the training."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from tests.broker import Broker
from tests.fakes.home import ScriptedHome
from tests.waiting import wait_for
from tests.walt_train.loop.scene import Thing, crop, fill_store, plate
from tests.walt_train.loop.serve.loop import Loop
from walt_edge.contract.bundle import Bundle
from walt_edge.contract.labels import Label
from walt_edge.contract.messages import decode_desired
from walt_train.engine.learned import read_learned
from walt_train.loop.gate.verdict import Decision, Verdict
from walt_train.loop.lineage import graph
from walt_train.loop.serve.folder import Folder
from walt_train.loop.serve.jobs import State, StepName

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
WORDS = [
    "--min-crops",
    "40",
    "--min-tracks",
    "20",
    "--steps",
    "30",
    "--seed",
    "1",
    "--lease-s",
    "2",
    "--retry-s",
    "1",
]


def things() -> list[Thing]:
    """Ten people and ten cars, no two alike."""
    chance = np.random.default_rng(5)
    people = [Thing(n, Label.PERSON, int(chance.integers(20, 200)), 70 + n, 26 + n % 5) for n in range(12)]
    cars = [Thing(20 + n, Label.VEHICLE, int(chance.integers(120, 280)), 50 + n, 100 + 2 * n) for n in range(12)]
    return people + cars


def render_truth(folder: Path) -> Path:
    words = [str(Path(sys.executable).with_name("walt-train")), "rwalt", "--seed", "2", "--frames", "40"]
    subprocess.run([*words, "--size", "640x360", "--preset", "busy", "--out", str(folder)], check=True, timeout=300)
    return folder


def test_a_release_from_clip_art(tmp_path: Path, broker: Broker) -> None:
    for extra in ("torch", "mmengine", "onnxscript", "onnxruntime", "moderngl"):
        pytest.importorskip(extra)
    with Loop(tmp_path) as loop:
        fill_store(loop.store, [plate(), *(crop(thing, frame) for thing in things() for frame in (2, 5))])
    truth = render_truth(tmp_path / "truth")
    # Rectangles teach no street: what is asked here is that everything is done, not that it is good.
    words = [str(Path(sys.executable).with_name("walt-loop")), "serve", "--once", *WORDS, "--gain", "-100"]
    words += ["--store", str(tmp_path / "store"), "--home", str(tmp_path / "home"), "--truth", str(truth)]
    words += ["--broker", broker.address]
    curves = tmp_path / "home" / "generations" / "cam-1" / "1" / "train" / "curves.json"
    with subprocess.Popen(words) as first:
        wait_for(curves.exists, 300, "until the training has begun")
        first.kill()
    assert subprocess.run(words, timeout=600, check=False).returncode == 0
    with Loop(tmp_path) as loop:
        [generation] = loop.generations
        [release] = loop.releases
        with loop.store.engine.connect() as connection:
            roles = graph.roles(connection, generation.clipart_sha256)
    folder = Folder.of(tmp_path / "home", generation)
    assert (generation.state, generation.step(StepName.TRAIN).failures) == (State.DONE, 0)
    assert generation.step(StepName.TRAIN).attempts >= 1
    assert len(msgspec.json.decode(curves.read_bytes())) == 30
    verdict = msgspec.json.decode(folder.verdict.read_bytes(), type=Verdict)
    assert (verdict.decision, verdict.against) == (Decision.PASSED, "motion")
    assert Bundle.read(folder.bundle).sha256 == release.sha256
    learned, sha256 = read_learned(folder.train / "learned.json")
    assert sha256 == msgspec.json.decode((folder.train / "manifest.json").read_bytes())["learned_sha256"]
    assert roles["train"] == sorted(learned.crops("train"))
    assert roles["validate"] == sorted(learned.crops("validation"))
    with ScriptedHome(broker) as late:
        wait_for(lambda: late.on("desired"))
        assert decode_desired(bytes(late.on("desired")[0].payload)).sha256 == release.sha256
