"""What time it is at least: a clock that is wrong neither revives what has expired nor locks the device out."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest import mock

import pytest

from tests.fakes.models import write_scripted
from tests.killing import flushed
from tests.web import Web
from walt_edge.contract.messages import Desired
from walt_edge.update.errors import NotNowError
from walt_edge.update.time_floor import RELEASED, TimeFloor
from walt_edge.update.trust import Trust
from walt_train.loop.publish.repository import LIFE, Repository

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
START = RELEASED + 100 * DAY


@dataclass
class World:
    """The true time, and what a device makes of it.

    Attributes:
        now: The true time.
        wrong: How far the device's clock is off.
        is_synchronised: Whether its kernel believes its clock.
    """

    now: datetime = START
    wrong: timedelta = timedelta(0)
    is_synchronised: bool = True

    def floor(self, path: Path) -> TimeFloor:
        """A device's, from a start of the process on."""
        begun = self.now
        return TimeFloor(
            path,
            wall=lambda: self.now + self.wrong,
            monotonic=lambda: (self.now - begun).total_seconds(),
            is_synchronised=lambda: self.is_synchronised,
        )

    def stop_clock(self) -> None:
        """The device's clock stands at the first day it knows, as one without a battery does after a start."""
        self.wrong, self.is_synchronised = EPOCH - self.now, False


class Street:
    """A home, and a device that fetches from it whenever it is asked to."""

    def __init__(self, folder: Path, web: Web, world: World) -> None:
        self.folder, self.web, self.world = folder, web, world
        self.home = Repository(web.folder, folder / "keys", lambda: world.now)
        release = self.home.publish(write_scripted(folder / "street.walt"))
        self.wish = Desired(release=release.number, target=release.target, sha256=release.sha256)
        (folder / "agent").mkdir()
        self.restart()

    def restart(self) -> None:
        self.floor = self.world.floor(self.folder / "agent/time.json")
        self.trust = Trust(self.folder / "agent", self.web.url, self.web.folder / "root.json", floor=self.floor)

    def fetch(self) -> None:
        self.trust.fetch(self.wish, self.folder / "got.walt")


@pytest.fixture
def street(tmp_path: Path) -> Iterator[Street]:
    (tmp_path / "served").mkdir()
    with Web(tmp_path / "served") as web:
        yield Street(tmp_path, web, World())


def test_a_right_clock_is_believed(street: Street) -> None:
    street.fetch()
    street.world.now += 20 * DAY
    assert street.floor.now() == street.world.now
    street.fetch()
    street.world.now += 11 * DAY
    with pytest.raises(NotNowError, match="expired"):
        street.fetch()


def test_a_device_without_a_clock_takes_what_is_current(street: Street) -> None:
    street.world.stop_clock()
    assert street.floor.now() == RELEASED
    street.fetch()
    assert street.floor.now() == START, "home signed at that time"


@pytest.mark.parametrize("restarts", [False, True])
def test_a_clock_that_is_set_back_revives_nothing(street: Street, restarts: bool) -> None:
    """Who holds back newer releases, and the clock too, gains no day beyond what home has signed."""
    street.fetch()
    for _ in range(29):
        street.world.now += DAY
        street.trust.keep_time()
    street.world.stop_clock()
    if restarts:
        street.restart()
    street.fetch()
    street.world.now += 2 * DAY
    with pytest.raises(NotNowError, match=r"expired: home must sign anew .* or this device's clock is wrong"):
        street.fetch()
    street.home.refresh()
    street.fetch()


def test_a_device_whose_clock_was_never_set_knows_when_time_is_over(street: Street) -> None:
    street.world.stop_clock()
    street.fetch()
    for _ in range(16):
        street.world.now += 2 * DAY
        street.trust.keep_time()
    with pytest.raises(NotNowError, match="expired"):
        street.fetch()


@pytest.mark.parametrize("ahead", [HOUR, 10 * DAY, 10_000 * DAY])
@pytest.mark.parametrize("is_synchronised", [True, False])
def test_a_clock_that_once_stood_ahead_locks_nobody_out(
    street: Street, ahead: timedelta, is_synchronised: bool
) -> None:
    street.fetch()
    street.world.wrong, street.world.is_synchronised = ahead, is_synchronised
    street.trust.keep_time()
    street.restart()
    assert street.floor.now() == START + ahead
    street.world.wrong, street.world.is_synchronised = timedelta(0), True
    if not is_synchronised:
        assert street.floor.now() == START, "a clock that nobody sets is not kept"
        street.fetch()
    elif ahead < LIFE["timestamp"]:
        assert street.floor.now() == START + ahead
        street.fetch()
    else:
        with pytest.raises(NotNowError, match="expired"):
            street.fetch()
    street.world.now += HOUR
    street.home.refresh()
    street.fetch()


def test_time_is_kept_durably_and_seldom(street: Street) -> None:
    street.fetch()
    with flushed() as paths:
        for _ in range(60):
            street.world.now += timedelta(minutes=1)
            street.trust.keep_time()
    files = [path for path in paths if path.endswith(".time.json.partial")]
    assert len(files) == 6
    street.world.stop_clock()
    street.restart()
    assert street.floor.now() == START + HOUR


@pytest.mark.parametrize(
    "damage",
    [b"", b"{", b"[]", b"\xff\xfe", b'{"floor":"2027-01-01T00:00:00","until":"2027-01-01T00:00:00"}'],
)
def test_a_damaged_file_begins_with_the_day_of_this_version(
    street: Street, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    street.fetch()
    (street.folder / "agent/time.json").write_bytes(damage)
    street.world.stop_clock()
    street.restart()
    assert street.floor.now() == RELEASED
    (record,) = caplog.records
    assert "time.json" in record.getMessage()
    street.fetch()
    assert street.floor.now() == START


def test_a_full_disk_is_told_and_time_goes_on(street: Street, caplog: pytest.LogCaptureFixture) -> None:
    with mock.patch("walt_edge.update.time_floor.write_whole", side_effect=OSError(errno.ENOSPC, "No space left")):
        street.fetch()
    assert "cannot keep the time" in caplog.text
    street.world.now += DAY
    street.world.wrong = -400 * DAY
    assert street.floor.now() == START + DAY


def test_metadata_of_a_home_that_does_not_tell_when_it_signed(tmp_path: Path) -> None:
    floor = World().floor(tmp_path / "time.json")
    floor.learn(tmp_path / "absent.json")
    (tmp_path / "timestamp.json").write_bytes(b"{}")
    floor.learn(tmp_path / "timestamp.json")
    assert floor.earliest() == RELEASED
