"""What a camera is called that nobody named: on an enrolled device, as no other device's in the fleet."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from walt_edge.config import Home
from walt_edge.contract.topics import TopicError, check_name
from walt_edge.identity.credentials import FOLDER, Enrolled
from walt_edge.identity.using import device_of, unnamed_camera
from walt_edge.settings.tree import AgentConfig

DEVICE = "walt-a549031528b2c2c7"
NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", fullmatch=True)


def enrol(path: Path) -> None:
    """Leaves what an enrolment leaves, as far as it is read for who this is."""
    with Home(path) as home:
        home.adopt(known.device if (known := home.known()) else DEVICE, "north")
        known = home.known()
    assert known is not None
    said = Enrolled(
        url="https://home:8443", broker="home:8883", site="north", device=known.device, ca="ca", certificate="pem"
    )
    (path / FOLDER).mkdir(exist_ok=True)
    (path / FOLDER / "enrolled.json").write_bytes(msgspec.json.encode(said))


def camera(path: Path, name: str | None = None) -> str:
    """The camera's name at a start with, or without, a name on the command line."""
    with Home(path) as home:
        return device_of(home, AgentConfig(home=path), name).camera


def test_it_is_called_after_the_enrolled_device(tmp_path: Path) -> None:
    enrol(tmp_path)
    assert camera(tmp_path) == f"{DEVICE}-1"
    enrol(tmp_path)
    assert camera(tmp_path) == f"{DEVICE}-1", "enrolled again"
    (tmp_path / "device.json").unlink()
    assert camera(tmp_path) == f"{DEVICE}-1", "and after a loss of what says who it is"


def test_one_that_ran_before_it_was_enrolled_begins_anew(tmp_path: Path) -> None:
    assert camera(tmp_path) == "cam-1"
    enrol(tmp_path)
    with Home(tmp_path) as home:
        known = home.known()
    assert known is not None
    assert camera(tmp_path) == f"{known.device}-1"


@pytest.mark.parametrize("name", ["gate", "cam-1"])
def test_a_name_that_was_given_stays(tmp_path: Path, name: str) -> None:
    assert camera(tmp_path, name) == name
    enrol(tmp_path)
    assert camera(tmp_path) == name
    assert camera(tmp_path, "yard") == "yard"
    assert camera(tmp_path) == "yard"


def is_name(text: str) -> bool:
    try:
        check_name(text, "device")
    except TopicError:
        return False
    return True


@given(NAMES.filter(is_name), NAMES.filter(is_name))
def test_every_device_has_a_name_of_its_own(one: str, other: str) -> None:
    assert check_name(unnamed_camera(one), "camera") == unnamed_camera(one)
    assert (unnamed_camera(one) == unnamed_camera(other)) is (one == other)


def test_the_longest_ids_stay_apart() -> None:
    found = {check_name(unnamed_camera("d" * 63 + end), "camera") for end in "abc"}
    assert len(found) == 3
