"""The guide's examples and README's are complete and do what is said: each is run as it stands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.broker import Broker
from tests.fakes.home import ScriptedHome
from tests.material import ROOT
from walt_edge.contract.bundle import Bundle
from walt_edge.contract.messages import CropHeader, FrameHeader, Header, decode_envelope
from walt_edge.packaged import general_model

GUIDE = (ROOT / "docs/guides/sdk.md").read_text()
README = (ROOT / "README.md").read_text()
BROKER = "localhost:1883"
FRAMES = 6


def examples(text: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text, re.S)


def part_of(code: str) -> str:
    """The SDK's class that an example is about: the last that it names first."""
    (names,) = re.findall(r"^from walt_edge import (.*)$", code, re.M)
    known = [name for name in names.split(", ") if name[0].isupper()]
    order = ("Uplink", "Spool", "Selector", "Anonymizer", "Tracker", "Detector")
    return next(name for name in order if name in known)


*ALONE, TOGETHER = examples(GUIDE)
BY_PART = {part_of(code): code for code in ALONE}


@pytest.fixture(scope="module")
def street() -> NDArray[np.uint8]:
    """A rendered street: one of the golden pictures that the package's model carries."""
    found = cv2.imdecode(np.frombuffer(Bundle.read(general_model()).files["golden/many.png"], np.uint8), 1)
    return np.asarray(found, np.uint8)


@pytest.fixture
def folder(tmp_path: Path, street: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of an example, with the files that it names."""
    names = ["frame.jpg", *(f"frame-{number}.jpg" for number in range(3))]
    for name in names:
        cv2.imwrite(str(tmp_path / name), street)
    height, width = street.shape[:2]
    film = cv2.VideoWriter(str(tmp_path / "street.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 2.0, (width, height))
    for _ in range(FRAMES):
        film.write(street)
    film.release()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with Broker.start(tmp_path_factory.mktemp("broker")) as running:
        yield running


def run(code: str, broker: Broker | None = None) -> None:
    """Runs an example as a program of its own would; only the broker's port is another."""
    exec(compile(code.replace(BROKER, broker.address if broker else BROKER), "example", "exec"), {})


def headers(home: ScriptedHome, kind: str) -> list[Header]:
    """Of the envelopes of a kind that came."""
    return [decode_envelope(bytes(one.payload)).header for one in home.messages if f"/{kind}/" in one.topic]


def test_there_is_one_for_each_part_in_five_lines() -> None:
    assert set(BY_PART) == {"Detector", "Tracker", "Anonymizer", "Selector", "Spool", "Uplink"}
    assert len(ALONE) == len(BY_PART)
    for part, code in BY_PART.items():
        assert len([line for line in code.strip().splitlines() if line]) <= 5, part
    assert len([line for line in TOGETHER.splitlines() if line.strip()]) <= 20


@pytest.mark.parametrize(
    ("part", "says"),
    [("Detector", r"\[.+\] 0\.\d+ \d"), ("Tracker", r"\(1, '\w+', \("), ("Selector", r"Admission\(refusal=None")],
)
def test_an_example_runs_alone(part: str, says: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(BY_PART[part])
    assert re.search(says, capsys.readouterr().out)


def test_the_anonymizer_writes_a_picture_without_what_nobody_knows(folder: Path, street: NDArray[np.uint8]) -> None:
    run(BY_PART["Anonymizer"])
    safe = cv2.imread(str(folder / "safe.jpg"))
    assert safe is not None
    assert safe.shape == street.shape
    assert np.abs(safe[:200].astype(int) - 128).max() < 30, "a wall that belongs to no object"


def test_what_the_spool_took_the_uplink_brings_home(
    folder: Path, broker: Broker, capsys: pytest.CaptureFixture[str]
) -> None:
    with ScriptedHome(broker) as home:
        run(BY_PART["Spool"])
        run(BY_PART["Uplink"], broker)
        (header,) = headers(home, "frame")
    assert isinstance(header, FrameHeader)
    assert "True" in capsys.readouterr().out


def test_all_together_are_an_agent(folder: Path, broker: Broker, capsys: pytest.CaptureFixture[str]) -> None:
    with ScriptedHome(broker) as home:
        run(TOGETHER, broker)
        crops = headers(home, "crop")
    assert capsys.readouterr().out.startswith("True SpoolCounts(accepted=")
    assert crops
    assert all(isinstance(header, CropHeader) and header.origin.camera == "gate" for header in crops)
    tracks = {header.track_id for header in crops if isinstance(header, CropHeader)}
    assert len(tracks) < len(crops), "one object in many frames keeps its number"


def test_the_readme_example_runs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for code in examples(README):
        run(code)
    assert capsys.readouterr().out.strip()
