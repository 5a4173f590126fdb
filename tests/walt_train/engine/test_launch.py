import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import torch

from tests.waiting import wait_for
from tests.walt_train.engine import shapes
from tests.walt_train.engine.shapes import tiny_recipe
from walt_edge.contract.errors import UsageError
from walt_train.engine.checkpoint import load_model
from walt_train.engine.launch import Machines, launch, parse_machines
from walt_train.engine.plan import Fit, FitError
from walt_train.engine.segments import Segment

SHAPES = shapes.__name__


def wanted(out: Path, steps: int = 6) -> Fit:
    return Fit((Path("shapes"),), tiny_recipe(steps), 3, out)


@pytest.mark.parametrize(
    ("nodes", "rendezvous", "machines"),
    [
        ("1", None, Machines()),
        ("2", "a:1", Machines(2, 2, "a:1")),
        ("1:4", "a:29400", Machines(1, 4, "a:29400")),
    ],
)
def test_machines_are_read(nodes: str, rendezvous: str | None, machines: Machines) -> None:
    assert parse_machines(nodes, rendezvous) == machines
    assert machines.elastic == (":" in nodes)


@pytest.mark.parametrize(
    ("nodes", "rendezvous", "message"),
    [
        ("0", None, "--nodes 0: give a number"),
        ("4:2", "a:1", "--nodes 4:2"),
        ("two", None, "--nodes two"),
        ("2", None, "say where they meet with --rendezvous"),
        ("2", "a", "--rendezvous a: give HOST:PORT"),
    ],
)
def test_machines_that_cannot_meet(nodes: str, rendezvous: str | None, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        parse_machines(nodes, rendezvous)


def test_a_killed_process_of_two_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quiet = launch(wanted(tmp_path / "quiet"), processes=2, module=SHAPES)
    note = tmp_path / "note"
    monkeypatch.setenv("WALT_TEST_DEATH", f"{note} 1 6")
    disturbed = launch(wanted(tmp_path / "disturbed"), processes=2, module=SHAPES)

    assert note.exists(), "nobody was killed"
    one, other = load_model(quiet), load_model(disturbed)
    assert one[1] == other[1]
    assert one[1].processes == (Segment(0, 2),)
    state = other[0].state_dict()
    assert all(torch.equal(value, state[name]) for name, value in one[0].state_dict().items())


@pytest.mark.slow
def test_processes_that_read_other_data_do_not_train_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WALT_TEST_STRANGER", "1")
    with pytest.raises(FitError, match=r"do not train the same: 5{12} from step 0, 6{12} from step 0: let all"):
        launch(wanted(tmp_path / "out"), processes=2, module=SHAPES)
    assert not (tmp_path / "out" / "checkpoint.pt").exists()


@pytest.mark.slow
def test_what_a_process_refuses_is_told_once_and_not_tried_again(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(FitError, match="nowhere has neither"):
        launch(Fit((tmp_path / "nowhere",), tiny_recipe(), 0, tmp_path / "out"), processes=1)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_last_machine_ends_what_two_began(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        meeting = f"127.0.0.1:{probe.getsockname()[1]}"
    asked = msgspec.json.encode(wanted(tmp_path / "out", steps=12), enc_hook=str).decode()
    command = [sys.executable, "-c", _MACHINE, asked, meeting, SHAPES]
    note = tmp_path / "note"
    first = subprocess.Popen(command)
    try:
        wait_for(lambda: _answers(meeting), timeout_s=60)
        doomed = subprocess.Popen(command, env=os.environ | {"WALT_TEST_DEATH": f"{note} machine 8"})
        try:
            assert doomed.wait(timeout=120) != 0
            assert note.exists()
        finally:
            doomed.kill()
            doomed.wait()
        assert first.wait(timeout=120) == 0
    finally:
        first.kill()
        first.wait()
    segments = load_model(tmp_path / "out")[1].processes
    assert segments[-1].processes == 1
    assert 2 in [segment.processes for segment in segments], "they never trained together"


_MACHINE = """
import sys
import msgspec
from walt_edge.contract.errors import WaltError
from walt_train.engine.launch import Fit, Machines, launch, to_path

wanted = msgspec.json.decode(sys.argv[1], type=Fit, dec_hook=to_path)
try:
    launch(wanted, processes=1, machines=Machines(1, 2, sys.argv[2]), module=sys.argv[3])
except WaltError as error:
    sys.exit(str(error))
"""


def _answers(address: str) -> bool:
    host, port = address.split(":")
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
    except OSError:
        return False
    return True
