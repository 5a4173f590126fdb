"""`walt-edge replay`: the same recording gives the same bytes, wherever and whenever it is replayed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest

from tests.material import ROOT, shared_data
from walt_edge.agent.replaying import digest_of_output, digest_of_source, replay
from walt_edge.contract.errors import UsageError
from walt_edge.contract.messages import Clock, decode_envelope
from walt_edge.settings.tree import AgentConfig

COUNTS = "counts.json"


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A red van passes twice in 20 s, before noise that no camera is without."""
    folder = tmp_path_factory.mktemp("street")
    chance = np.random.default_rng(1)
    background = cv2.GaussianBlur(chance.integers(60, 190, (240, 320, 3), dtype=np.uint8), (0, 0), 3)
    for n in range(200):
        picture = background.astype(np.int16) + chance.integers(-2, 3, background.shape)
        x = 5 * (n % 75) - 90
        if n >= 125:
            picture[120:180, max(0, x) : max(0, min(320, x + 90))] = (40, 40, 200)
        cv2.imwrite(str(folder / f"{n:04d}.png"), picture.clip(0, 255).astype(np.uint8))
    return folder


def run(*words: object, **environment: str) -> str:
    command = [sys.executable, "-m", "tests.run_edge", "replay", *map(str, words)]
    ended = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=240,
        check=False,
        env={**os.environ, **environment},
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def files(out: Path) -> dict[str, bytes]:
    found = {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    del found["replay.json"]
    return found


def test_two_runs_give_the_same_bytes(tmp_path: Path, street: Path) -> None:
    elsewhere = shutil.copytree(street, tmp_path / "elsewhere")
    for path in elsewhere.iterdir():
        os.utime(path, (1_000_000_000, 1_000_000_000))
    first = run(street, "--out", tmp_path / "one")
    second = run(elsewhere, "--out", tmp_path / "two", TZ="Asia/Tokyo", PYTHONHASHSEED="7", WALT_HOME=str(tmp_path))
    assert files(tmp_path / "one") == files(tmp_path / "two")
    assert first.splitlines()[-1] == second.splitlines()[-1]
    sha256, count = digest_of_output(tmp_path / "one")
    assert first.splitlines()[-1] == f"sha256 {sha256}  {count} files"
    assert list((tmp_path / "one" / "envelopes").iterdir())


def test_nothing_of_the_machine_goes_in(tmp_path: Path, street: Path) -> None:
    found = replay(str(street), AgentConfig(), tmp_path / "out", frames=130)
    assert (found.frames, found.envelopes) == (130, {"plate": 1})
    (path,) = (tmp_path / "out" / "envelopes").iterdir()
    captured = decode_envelope(path.read_bytes()).header.captured
    assert captured.clock is Clock.UNSYNCHRONISED
    assert captured.monotonic_ns == round(captured.media_time_s * 1e9)
    assert captured.utc_us == 946_684_800_000_000 + round(captured.media_time_s * 1e6)
    journal = (tmp_path / "out" / "journal" / "journal.jsonl").read_text().splitlines()
    assert sum('"frame":null' not in line for line in journal) >= 129
    counts = msgspec.json.decode((tmp_path / "out" / COUNTS).read_bytes())
    assert counts["frames"] == 130
    assert counts["failures"] == 0


def test_a_seed_draws_another_boot(tmp_path: Path, street: Path) -> None:
    boots = set()
    for seed in (0, 1):
        replay(str(street), AgentConfig(), tmp_path / str(seed), frames=130, seed=seed)
        (path,) = (tmp_path / str(seed) / "envelopes").iterdir()
        boots.add(decode_envelope(path.read_bytes()).header.captured.boot_id)
    assert len(boots) == 2


def test_an_older_replay_is_replaced_and_nothing_else(tmp_path: Path, street: Path) -> None:
    out = tmp_path / "out"
    first = replay(str(street), AgentConfig(), out, frames=20)
    assert replay(str(street), AgentConfig(), out, frames=20) == first
    (out / "mine.txt").write_text("keep")
    with pytest.raises(UsageError, match=r"mine\.txt"):
        replay(str(street), AgentConfig(), out, frames=20)
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine.txt").write_text("keep")
    with pytest.raises(UsageError, match="something else"):
        replay(str(street), AgentConfig(), other, frames=20)
    assert (other / "mine.txt").read_text() == "keep"


def test_a_live_camera_cannot_be_replayed(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="never twice the same"):
        replay("rtsp://camera/stream", AgentConfig(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_name_of_a_file_is_no_part_of_it(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"film")
    (tmp_path / "c").write_bytes(b"other")
    digests = [digest_of_source(tmp_path / name) for name in "abc"]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.slow
def test_a_real_street_with_a_model(tmp_path: Path) -> None:
    film = shared_data("cameras/plaza/vtest.avi")
    config = AgentConfig.model_validate({"inference": {"model": "general"}, "journal": {"every": 50}})
    one = replay(str(film), config, tmp_path / "one", frames=180)
    two = replay(str(film), config, tmp_path / "two", frames=180)
    assert one == two
    assert one.envelopes["crop"] > 0
    assert '"prediction"' in (tmp_path / "one" / "journal" / "journal.jsonl").read_text()
