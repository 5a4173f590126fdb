"""A device that was switched off for a month or years ends at what home wants now, and at nothing older."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.walt_edge.update.street import DAY, Street, opened
from walt_edge.contract.messages import Desired
from walt_edge.update.errors import NotNowError, RefusedError, UpdateError
from walt_train.loop.publish.roles import CHANNELS, ROLES


@pytest.fixture
def street(tmp_path: Path) -> Iterator[Street]:
    with opened(tmp_path) as street:
        yield street


def wish_of(street: Street, number: int) -> Desired:
    (one,) = (one for one in street.home.releases() if one.number == number)
    return Desired(release=one.number, target=one.target, sha256=one.sha256)


@pytest.mark.parametrize("away", [31 * DAY, 400 * DAY])
def test_expired_metadata_stands_in_nobodys_way(street: Street, away: timedelta) -> None:
    device = street.device("device")
    device.take(street.publish())
    street.now += away
    with pytest.raises(NotNowError, match="expired"):
        device.trust.fetch(wish_of(street, 1), street.folder / "got.walt")
    device.restart()
    device.take(street.publish())
    assert device.runs == 2


def test_after_years_of_exchanged_keys_and_undone_releases_it_ends_at_what_is_wanted(street: Street) -> None:
    offline = street.folder / "stick"
    devices = [street.device("bold"), street.device("careful", "stable")]
    first = street.publish()
    for device in devices:
        device.take(first)
    street.keys_of(offline).move_offline()
    chance = random.Random(1)
    for quarter in range(12):
        street.now += 91 * DAY
        if quarter == 6:
            street.keys_of(offline).renew()
        for role in chance.sample(ROLES, 2):
            street.keys_of(offline).rotate(role)
        street.publish(chance.choice(CHANNELS))
        if quarter % 3 == 2:
            street.home.promote(street.publish_release("canary"))
            street.home.undo(street.home.releases()[2], chance.choice(CHANNELS))
        if quarter % 5 == 4:
            street.home.remove([street.home.releases()[1].sha256])
    for role in ROLES:
        street.keys_of(offline).rotate(role)
    newest = street.publish()
    for device in devices:
        device.restart()
        device.take(newest)
        assert device.runs == newest.release
        with pytest.raises(UpdateError):
            device.take(first)
        assert device.runs == newest.release
    assert max(int(path.name.split(".")[0]) for path in street.web.folder.rglob("*.root.json")) > 10


def test_a_wish_for_what_was_undone_meanwhile_is_not_taken_and_the_next_is(street: Street) -> None:
    device = street.device("device")
    device.take(street.publish())
    bad, kept = street.publish(), wish_of(street, 1)
    street.now += 60 * DAY
    back = street.home.undo(kept.sha256)
    street.home.remove([bad.sha256])
    with pytest.raises(NotNowError, match="home has signed no"):
        device.take(bad)
    device.take(Desired(release=back.number, target=back.target, sha256=back.sha256))
    assert device.runs == 3
    with pytest.raises(RefusedError, match="release 1 is not above 3"):
        device.take(kept)


def test_an_old_repository_that_is_shown_again_is_refused(street: Street) -> None:
    ahead, behind = street.device("ahead"), street.device("behind")
    first = street.publish()
    behind.take(first)
    old, new = street.folder / "old", street.web.folder
    shutil.copytree(new, old)
    second = street.publish()
    ahead.take(second)
    street.now += 60 * DAY
    street.home.refresh()
    for device, line in ((ahead, "older than what this device has seen"), (behind, "expired")):
        device.restart()
        street.web.folder = old
        for wish in (first, second):
            with pytest.raises(NotNowError, match=line):
                device.trust.fetch(wish, street.folder / "got.walt")
        street.web.folder = new
        device.take(street.publish())
        assert device.runs > 2


def test_a_server_whose_keys_were_stolen_is_mended_by_others(street: Street) -> None:
    """A thief signs versions of a far future, so that home's look old; with new keys home's count again."""
    device = street.device("device")
    device.take(street.publish())
    shutil.copytree(street.web.folder, street.folder / "before")
    signed = street.signed()
    with signed.writing() as state:
        for role in ("timestamp", "snapshot"):
            state.versions[role] += 10_000
        signed.commit(state)
    device.take(wish_of(street, 1))
    shutil.rmtree(street.web.folder)
    shutil.copytree(street.folder / "before", street.web.folder)
    second = street.publish()
    with pytest.raises(NotNowError, match="older than what this device has seen"):
        device.take(second)
    for role in ("timestamp", "snapshot"):
        street.keys_of().rotate(role)
    device.take(second)
    assert device.runs == 2


@pytest.mark.slow
def test_no_number_of_roots_is_too_many(street: Street) -> None:
    device = street.device("device")
    device.take(street.publish())
    for _ in range(70):
        street.keys_of().rotate("timestamp")
    device.take(street.publish())
    assert device.runs == 2
