"""`walt-loop devices` as an operator uses it: list, look, approve."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest

from tests.envelopes import sealed
from tests.walt_train.loop.admission.home import GHOST, ONE, TWO, arrival, enrol
from walt_edge.contract.messages import Envelope, encode_envelope, envelope_id
from walt_train.loop.admission.admission import Admission
from walt_train.loop.admission.policy import NEW_DEVICE, Policy
from walt_train.loop.cli import SCRIPT
from walt_train.loop.ingest.arrivals import judge
from walt_train.loop.store.store import Accepted, Store


def walt_loop(*words: object) -> int:
    return SCRIPT.main([str(word) for word in words])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A store with a new device that has sent five crops, one of which is no picture."""
    home = tmp_path / "store"
    with Store(home) as store:
        enrol(store.engine, ONE, TWO)
        held = [sealed(n) for n in range(5)]
        store.add_group([Accepted(one.id, one.envelope, one.data, NEW_DEVICE) for one in held])
        whole = sealed(9).envelope
        broken = Envelope(
            schema=1,
            header=whole.header,
            media_type=whole.media_type,
            image_wh=whole.image_wh,
            image=whole.image[:60],
        )
        data = encode_envelope(broken)
        store.add_group([Accepted(envelope_id(data), broken, data, NEW_DEVICE)])
        admission = Admission(store.engine, Policy.ENROLLED, "worker-1")
        admission.refresh()
        judge(arrival(1, GHOST), admission)
        admission.note()
    return home


def test_look_and_approve(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert walt_loop("devices", "--store", folder) == 0
    listed = capsys.readouterr().out
    rows = {line.split()[0]: line.split() for line in listed.splitlines()}
    assert rows["test/walt-test"][1] == "new"
    assert rows["test/walt-test"][-4:] == ["6", "6", "0", "0"]
    assert rows["test/walt-two"][1] == "new"
    assert rows["test/walt-ghost"][1] == "unknown"
    assert "walt-loop devices sheet test/walt-test; then: walt-loop devices approve test/walt-test" in listed

    picture = tmp_path / "sheet.png"
    assert walt_loop("devices", "sheet", "test/walt-test", "--store", folder, "--out", picture) == 0
    assert "6 of 6 crops that wait, 1 of them cannot be decoded" in capsys.readouterr().out
    image = cv2.imread(str(picture))
    assert image is not None
    assert image.shape == (192, 6 * 160, 3)
    tiles = image[:160].reshape(160, 6, 160, 3).std(axis=(0, 2, 3))
    assert sum(tiles > 30) == 5, "noise is shown as noise, and what is no picture as words"

    assert walt_loop("devices", "approve", "test/walt-test", "--store", folder) == 0
    assert "6 envelopes that waited may train" in capsys.readouterr().out
    with Store(folder) as store:
        assert len(store.ids()) == 6
    assert walt_loop("devices", "hold", "test/walt-test", "--camera", "cam-1", "--store", folder) == 0
    assert walt_loop("devices", "--store", folder) == 0
    assert "held: test/walt-test camera cam-1: held by hand" in capsys.readouterr().out
    assert walt_loop("devices", "release", "test/walt-test", "--camera", "cam-1", "--store", folder) == 0
    assert walt_loop("devices", "limit", "test/walt-test", "--mb-an-hour", "3", "--store", folder) == 0
    capsys.readouterr()
    assert walt_loop("devices", "sheet", "test/walt-test", "--store", folder, "--out", picture) == 2
    assert "no crop of test/walt-test waits" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("approve",), "name a device as SITE/DEVICE"),
        (("list", "test/walt-test"), "name a device as SITE/DEVICE"),
        (("approve", "walt-test"), "is not SITE/DEVICE"),
        (("approve", "test/walt-ghost"), "no device test/walt-ghost was enrolled"),
        (("approve", "else/walt-test"), "no device else/walt-test was enrolled"),
        (("release", "test/walt-test", "--camera", "cam-9"), "camera cam-9 of test/walt-test is not held"),
        (("give", "test/walt-two"), "devices give test/walt-two --camera NAME"),
        (("give", "test/walt-ghost", "--camera", "gate"), "no device test/walt-ghost was enrolled"),
        (("give", "test/walt-two", "--camera", "a/b"), "is not a name"),
        (("limit", "test/walt-test", "--mb-an-hour", "-1"), "give 0 or more"),
    ],
)
def test_wrong_usage(folder: Path, words: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert walt_loop("devices", *words, "--store", folder) in (1, 2)
    assert says in capsys.readouterr().err


def test_a_name_of_another_device(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Store(folder) as store:
        admission = Admission(store.engine, Policy.ENROLLED, "worker-1")
        admission.refresh()
        for number, names in enumerate((ONE, TWO), 20):
            verdict = judge(arrival(number, names, camera="gate"), admission).verdict
            assert isinstance(verdict, Accepted)
            store.add_group([verdict])
    assert walt_loop("devices", "--store", folder) == 0
    listed = capsys.readouterr().out
    assert "held: test/walt-two camera gate: that name is test/walt-test's" in listed
    assert "walt-edge run --rtsp NAME=URL" in listed
    remedy = "walt-loop devices give test/walt-two --camera gate"
    assert remedy in listed
    assert walt_loop("devices", "approve", "test/walt-two", "--store", folder) == 0
    assert "0 envelopes that waited may train" in capsys.readouterr().out
    assert walt_loop(*remedy.split()[1:], "--store", folder) == 0
    assert "is a camera's of test/walt-two alone: 1 envelopes that waited may train" in capsys.readouterr().out
    assert walt_loop("devices", "--store", folder) == 0
    listed = capsys.readouterr().out
    assert "held: test/walt-test camera gate: that name is test/walt-two's" in listed
    assert "held: test/walt-two" not in listed


def test_an_empty_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Store(tmp_path).close()
    assert walt_loop("devices", "--store", tmp_path) == 0
    assert "no device was enrolled" in capsys.readouterr().out
