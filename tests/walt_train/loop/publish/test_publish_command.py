"""`walt-loop publish` as a person calls it, with a real broker."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.broker import HOST, Broker, free_port
from tests.bundles import FILES, manifest
from tests.fakes.home import ScriptedHome
from tests.waiting import wait_for
from walt_edge.contract.bundle import write_bundle
from walt_edge.contract.messages import Desired, decode_desired
from walt_edge.contract.topics import DeviceTopics
from walt_train.loop.broker.connection import BrokerConfig, BrokerError
from walt_train.loop.cli import SCRIPT
from walt_train.loop.publish.desired import set_desired


def publish(folder: Path, *words: str) -> int:
    where = ("--repository", str(folder / "served"), "--keys", str(folder / "keys"))
    return SCRIPT.main(["publish", *words, *where])


@pytest.fixture
def bundle(tmp_path: Path) -> str:
    write_bundle(tmp_path / "street.walt", manifest("street"), FILES)
    return str(tmp_path / "street.walt")


def test_it_publishes_and_tells_every_device(
    tmp_path: Path, broker: Broker, bundle: str, capsys: pytest.CaptureFixture[str]
) -> None:
    devices = ["home/walt-1", "home/walt-2"]
    words = [word for device in devices for word in ("--device", device)]
    assert publish(tmp_path, bundle, "--broker", broker.address, *words) == 0
    assert publish(tmp_path, bundle, "--broker", broker.address, *words) == 0
    said = capsys.readouterr().out
    assert said.count("release 1: street-1.walt, sha256 ") == 2
    assert f"trust root: {tmp_path}/served/root.json" in said
    assert "desired: home/walt-1, home/walt-2" in said
    with ScriptedHome(broker) as late:
        wait_for(lambda: len(late.on("desired")) == 2)
        for message in late.on("desired"):
            assert message.retain
            wish = decode_desired(bytes(message.payload))
            assert (wish.release, wish.target) == (1, "street-1.walt")
            assert wish.sha256 in said


def test_refresh_signs_anew_under_the_same_number(
    tmp_path: Path, bundle: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert publish(tmp_path, bundle) == 0
    before = (tmp_path / "served/metadata/timestamp.json").read_bytes()
    assert publish(tmp_path, "--refresh") == 0
    assert (tmp_path / "served/metadata/timestamp.json").read_bytes() != before
    assert capsys.readouterr().out.count("release 1: street-1.walt") == 2


def test_a_release_is_tried_promoted_and_undone(
    tmp_path: Path, bundle: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_bundle(tmp_path / "other.walt", manifest("other"), FILES)
    assert publish(tmp_path, bundle) == 0
    assert publish(tmp_path, str(tmp_path / "other.walt"), "--role", "canary") == 0
    assert publish(tmp_path, "--promote", "2") == 0
    assert publish(tmp_path, "--undo", "1") == 0
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("release")]
    assert [line.split(",")[0] for line in said] == [
        "release 1: street-1.walt",
        "release 2: other-2.walt",
        "release 2: other-2.walt",
        "release 3: street-3.walt",
    ]
    assert [line.partition("signed by ")[2] for line in said] == ["stable", "canary", "canary and stable", "stable"]
    assert publish(tmp_path, "--promote", "7") == 2
    assert "there is no release 7 (the newest are 3, 2, 1)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        ([], 2, "give a BUNDLE"),
        (["BUNDLE", "--refresh"], 2, "give a BUNDLE"),
        (["BUNDLE", "--undo", "1"], 2, "give a BUNDLE"),
        (["--undo", "1"], 2, "there is no release 1 (the newest are none)"),
        (["/absent.walt"], 1, "cannot read /absent.walt"),
        (["--refresh"], 1, "no release"),
        (["BUNDLE", "--device", "home/walt-1"], 2, "belong together"),
        (["BUNDLE", "--broker", "localhost"], 2, "belong together"),
        (["BUNDLE", "--broker", "x:y", "--device", "home/walt-1"], 2, "not HOST:PORT"),
        (["BUNDLE", "--broker", "localhost", "--device", "walt-1"], 2, "not SITE/DEVICE"),
        (["BUNDLE", "--broker", "localhost", "--device", "home/a/b"], 1, "is not a name"),
        (["BUNDLE", "--key", "k", "--cert", "c"], 2, "need --ca"),
        (["BUNDLE", "--broker", f"{HOST}:{free_port()}", "--device", "home/walt-1"], 1, "cannot be reached"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(
    tmp_path: Path, bundle: str, words: list[str], code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert publish(tmp_path, *(bundle if word == "BUNDLE" else word for word in words)) == code
    (told,) = capsys.readouterr().err.strip().splitlines()
    assert line in told


WISH = Desired(release=1, target="street-1.walt", sha256="a" * 64)


def test_a_mute_broker_is_given_up() -> None:
    with socket.create_server((HOST, 0)) as mute:
        config = BrokerConfig(HOST, mute.getsockname()[1], "")
        with pytest.raises(BrokerError, match="did not answer"):
            set_desired(config, [DeviceTopics("home", "walt-1")], WISH, timeout_s=0.3)


def test_a_broker_that_forbids_it_is_told(tmp_path: Path) -> None:
    rights = tmp_path / "acl"
    rights.write_text("topic read walt/#\n")
    rights.chmod(0o644)
    with Broker.start(tmp_path, extra=[f"acl_file {rights}"]) as broker:
        config = BrokerConfig(broker.host, broker.port, "")
        with pytest.raises(BrokerError, match=r"refused the desired release \(Not authorized\)"):
            set_desired(config, [DeviceTopics("home", "walt-1")], WISH)
