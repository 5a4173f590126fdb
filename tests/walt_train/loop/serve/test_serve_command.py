"""`walt-loop serve` as a person calls it, with a real broker; the programs are fakes."""

from __future__ import annotations

import hashlib
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.broker import Broker
from tests.fakes.home import ScriptedHome
from tests.waiting import wait_for
from tests.walt_train.loop.serve.loop import Loop, fill, programs, truth
from walt_edge.contract.errors import UsageError
from walt_edge.contract.messages import decode_desired
from walt_train.loop.cli import SCRIPT
from walt_train.loop.commands.serve import split_truths
from walt_train.loop.serve.programs import Programs


@pytest.fixture(autouse=True)
def fakes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(Programs, "installed", lambda gpus: programs())
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def serve(folder: Path, *words: str) -> int:
    where = [
        "--store",
        str(folder / "store"),
        "--home",
        str(folder / "home"),
        "--min-crops",
        "4",
        "--min-tracks",
        "2",
    ]
    return SCRIPT.main(["serve", *where, "--broker", "localhost:1", "--once", "--retry-s", "0", *words])


def test_the_devices_learn_of_the_release(
    loop: Loop, tmp_path: Path, broker: Broker, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(loop.store)
    judged_by = truth(tmp_path / "truth")
    words = ["--broker", broker.address, "--truth", f"cam-1={judged_by}", "--steps", "300", "--seed", "7"]
    assert serve(tmp_path, *words) == 0
    assert capsys.readouterr().out.startswith("http://127.0.0.1:")
    [generation] = loop.generations
    assert (generation.recipe, generation.seed, generation.training_steps) == ("demo", 7, 300)
    with ScriptedHome(broker) as late:
        wait_for(lambda: late.on("desired"))
        wish = decode_desired(bytes(late.on("desired")[0].payload))
    target = tmp_path / "home" / "repository" / "targets" / f"{wish.sha256}.{wish.target}"
    assert hashlib.sha256(target.read_bytes()).hexdigest() == wish.sha256
    assert (tmp_path / "home" / "repository" / "root.json").is_file()
    assert serve(tmp_path, *words) == 0
    assert len(loop.generations) == 1


def test_a_refusal_is_one_line_and_status_1(loop: Loop, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(loop.store)
    judged_by = truth(tmp_path / "truth", {"motion": 59.0})
    assert serve(tmp_path, "--truth", str(judged_by)) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("walt-loop: cam-1 generation 1: refused: mask IoU at γ=0.5 60.0 against 59.0 of motion")
    assert serve(tmp_path, "--truth", str(judged_by)) == 1


def test_a_broker_that_is_not_there_keeps_the_rollout_waiting(
    loop: Loop, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(loop.store)
    for _ in range(2):
        assert serve(tmp_path, "--publish-unjudged") == 0
        assert len(loop.releases) == 1
    assert "rollout 1: broker localhost:1 cannot be reached" in caplog.text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--truth", "nowhere"], "--truth nowhere holds no annotations.json"),
        (["--truth", "cam 1=x"], "camera 'cam 1' is not a name"),
        (["--tls-cert", "x"], "--tls-cert and --tls-key go together"),
        (["--tls-cert", "x", "--tls-key", "y"], "cannot use the certificate x and key y"),
        (["--cert", "x"], "--cert and --key need --ca"),
        (["--http", "8080"], "'8080' is not HOST:PORT"),
        (["--http", "203.0.113.1:80"], "cannot listen on 203.0.113.1:80"),
        (["--broker", "x:y"], "'x:y' is not HOST:PORT"),
        (["--min-crops", "0"], "--min-crops 0: give at least 1"),
        (["--steps", "0"], "--steps 0: give at least 1"),
        (["--lease-s", "0"], "--lease-s must be positive"),
        (["--lease-s", "nan"], "must be finite numbers"),
        (["--lease-s", "inf"], "must be finite numbers"),
        (["--gain", "nan"], "must be finite numbers"),
        (["--seed", "-1"], "--seed and --gpus must be 0 or more"),
        (["--store", "nowhere"], "no store in nowhere"),
    ],
)
def test_what_cannot_be_asked(
    loop: Loop, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert serve(tmp_path, *words) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert message in line
    assert loop.generations == []


def test_truths_by_camera() -> None:
    assert split_truths(["cam-1=a", "b", "c=d=e"]) == ({"cam-1": [Path("a")], "c": [Path("d=e")]}, [Path("b")])
    assert split_truths(["./x=1", "y"]) == ({}, [Path("./x=1"), Path("y")])
    assert split_truths(["a=1", "a=2"]) == ({"a": [Path("1"), Path("2")]}, [])
    with pytest.raises(UsageError, match="camera 'a b' is not a name"):
        split_truths(["a b=c"])
