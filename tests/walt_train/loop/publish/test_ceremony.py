"""The keys of a repository leave the server, are exchanged and come back to sign; devices believe it throughout."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root
from tuf.ngclient import Updater

from tests.killing import kill_at_every_step
from tests.walt_train.loop.publish.test_channels import first_form, listed
from tests.walt_train.loop.publish.test_repository import bundle, repository, versions
from tests.web import Web
from walt_train.loop.cli import SCRIPT
from walt_train.loop.publish.ceremony import Ceremony
from walt_train.loop.publish.keys import KeysError
from walt_train.loop.publish.repository import PublishError, Repository
from walt_train.loop.publish.roles import OFFLINE, ROLES

DAY = timedelta(days=1)
START = datetime.now(UTC)


def ceremony(folder: Path, offline: str = "stick", **more: object) -> Ceremony:
    return Ceremony(folder / "served", folder / "keys", folder / offline, **more)  # type: ignore[arg-type]


def key_ids(folder: Path) -> dict[str, str]:
    return {one.role: one.key_id for one in ceremony(folder).show()}


class Device:
    """The reference client, with what it knew the last time."""

    def __init__(self, folder: Path, url: str, root: bytes) -> None:
        self.folder, self.url, self.root = folder, url, root
        folder.mkdir(exist_ok=True)

    def sees(self, target: str) -> bool:
        """Whether the repository vouches for a target; raises RepositoryError if it is not to be believed."""
        client = Updater(str(self.folder), f"{self.url}/metadata/", bootstrap=self.root)
        return client.get_targetinfo(target) is not None


@pytest.fixture
def begun(tmp_path: Path) -> str:
    """A repository with one release, whose target this is."""
    return repository(tmp_path).publish(bundle(tmp_path, 1)).target


@pytest.fixture
def device(tmp_path: Path, begun: str) -> Iterator[Device]:
    with Web(tmp_path / "served") as web:
        device = Device(tmp_path / "device", web.url, (tmp_path / "served/root.json").read_bytes())
        assert device.sees(begun)
        yield device


def test_home_goes_on_without_the_keys_that_a_thief_would_want(tmp_path: Path, begun: str, device: Device) -> None:
    assert ceremony(tmp_path).move_offline() == list(OFFLINE)
    assert {path.name for path in (tmp_path / "stick").iterdir()} == {f"{role}.pem" for role in OFFLINE}
    assert {path.stem for path in (tmp_path / "keys").iterdir()} == set(ROLES) - set(OFFLINE)
    assert ceremony(tmp_path).move_offline() == []
    home = repository(tmp_path)
    tried = home.publish(bundle(tmp_path, 2), role="canary")
    assert device.sees(home.promote(tried).target)
    back = home.undo(home.releases()[-1])
    home.remove([tried.sha256])
    home.refresh()
    assert not home.keep()
    assert device.sees(back.target)
    assert not device.sees(tried.target)
    assert home.warnings() == []


def test_it_goes_on_for_two_years_and_says_early_what_it_needs(
    tmp_path: Path, begun: str, caplog: pytest.LogCaptureFixture
) -> None:
    ceremony(tmp_path, now=lambda: START).move_offline()
    now = [START]
    home = repository(tmp_path, now=lambda: now[0])
    for now[0] in (START + 10 * days * DAY for days in range(1, 54)):
        home.keep()
        assert home.warnings() == []
    assert not caplog.records
    now[0] = START + 550 * DAY
    home.keep()
    home.keep()
    lines = [one.getMessage() for one in caplog.records if one.levelno == logging.ERROR]
    assert [line.split()[0] for line in lines] == list(OFFLINE), "once a day"
    told = r"in 1(79|80) days, and then no device takes anything: walt-loop keys renew --offline"
    assert all(re.search(told, line) for line in lines)
    assert ceremony(tmp_path, now=lambda: now[0]).renew() == list(OFFLINE)
    assert home.warnings() == []
    now[0] += 600 * DAY
    assert len(home.warnings()) == 2
    assert home.publish(bundle(tmp_path, 2)).number == 2


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("is_offline", [False, True])
def test_a_key_is_exchanged_and_the_old_one_is_useless(
    tmp_path: Path, begun: str, device: Device, role: str, is_offline: bool
) -> None:
    if is_offline:
        ceremony(tmp_path).move_offline()
    before = key_ids(tmp_path)
    shutil.copytree(tmp_path / "keys", tmp_path / "stolen")
    if is_offline:
        for name in OFFLINE:
            shutil.copy(tmp_path / f"stick/{name}.pem", tmp_path / "stolen")
    ceremony(tmp_path).rotate(role)
    after = key_ids(tmp_path)
    assert {one for one in ROLES if before[one] != after[one]} == {role}
    assert device.sees(begun)
    two = repository(tmp_path).publish(bundle(tmp_path, 2))
    assert device.sees(two.target)
    fresh = Device(tmp_path / "fresh", device.url, device.root)
    assert fresh.sees(two.target)
    assert not list(tmp_path.rglob("*.next.pem"))
    with pytest.raises(KeysError, match="is not the key that the repository names"):
        Repository(tmp_path / "served", tmp_path / "stolen").publish(bundle(tmp_path, 3), role="canary")


def test_a_new_root_is_signed_by_the_old_and_the_new(tmp_path: Path, begun: str) -> None:
    before = key_ids(tmp_path)["root"]
    ceremony(tmp_path).rotate("root")
    root = Metadata[Root].from_file(str(tmp_path / "served/root.json"))
    assert set(root.signatures) == {before, key_ids(tmp_path)["root"]}
    ceremony(tmp_path).rotate("timestamp")
    root = Metadata[Root].from_file(str(tmp_path / "served/root.json"))
    assert (root.signed.version, set(root.signatures)) == (3, {key_ids(tmp_path)["root"]})


@pytest.mark.parametrize("role", [one for one in ROLES if one != "root"])
def test_a_lost_key_is_replaced(tmp_path: Path, begun: str, device: Device, role: str) -> None:
    (tmp_path / "keys" / f"{role}.pem").unlink()
    ceremony(tmp_path, "keys").rotate(role)
    assert device.sees(repository(tmp_path).publish(bundle(tmp_path, 2), role="canary").target)
    assert device.sees(repository(tmp_path).publish(bundle(tmp_path, 3)).target)


@pytest.mark.parametrize(
    ("role", "lost"),
    [
        ("timestamp", False),
        pytest.param("canary", False, marks=pytest.mark.slow),
        pytest.param("targets", False, marks=pytest.mark.slow),
        pytest.param("root", False, marks=pytest.mark.slow),
        pytest.param("timestamp", True, marks=pytest.mark.slow),
        pytest.param("stable", True, marks=pytest.mark.slow),
    ],
)
def test_killed_at_any_moment_of_an_exchange_devices_believe_it_and_repeating_completes_it(
    tmp_path: Path, begun: str, device: Device, role: str, lost: bool
) -> None:
    if lost:
        (tmp_path / "keys" / f"{role}.pem").unlink()
    served, keys, start = tmp_path / "served", tmp_path / "keys", tmp_path / "start"
    for path in (served, keys):
        shutil.copytree(path, start / path.name)

    def prepare() -> Callable[[], object]:
        for path in (served, keys):
            shutil.rmtree(path)
            shutil.copytree(start / path.name, path)
        return lambda: ceremony(tmp_path, "keys").rotate(role)

    before = key_ids(tmp_path)[role]
    for step in kill_at_every_step(prepare):
        shutil.rmtree(tmp_path / "device")
        assert lost or Device(tmp_path / "device", device.url, device.root).sees(begun), step
        if not lost:
            assert repository(tmp_path).find("0" * 64) is None
            repository(tmp_path).keep()
        ceremony(tmp_path, "keys").rotate(role)
        assert key_ids(tmp_path)[role] != before
        assert not list(keys.glob("*.next.pem"))
        repository(tmp_path).publish(bundle(tmp_path, 2))
        shutil.rmtree(tmp_path / "device", ignore_errors=True)
        assert Device(tmp_path / "device", device.url, device.root).sees("street-2-2.walt")


@pytest.mark.slow
def test_killed_at_any_moment_of_moving_no_key_is_lost(tmp_path: Path, begun: str) -> None:
    start, work = tmp_path / "start", tmp_path / "work"
    start.mkdir()
    for name in ("served", "keys"):
        (tmp_path / name).rename(start / name)

    def prepare() -> Callable[[], object]:
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(start, work)
        return lambda: ceremony(work).move_offline()

    for step in kill_at_every_step(prepare):
        for role in OFFLINE:
            assert any((work / folder / f"{role}.pem").exists() for folder in ("keys", "stick")), step
        repository(work).keep()
        ceremony(work).move_offline()
        assert {path.stem for path in (work / "stick").iterdir()} == set(OFFLINE)
        assert not [role for role in OFFLINE if (work / f"keys/{role}.pem").exists()]
        ceremony(work).rotate("canary")


def test_moving_ends_what_was_kept_for_agents_of_the_first_form(tmp_path: Path) -> None:
    (made,) = first_form(tmp_path, 1)
    repository(tmp_path).keep()
    assert set(listed(tmp_path, "targets")) == {made.target}
    ceremony(tmp_path).move_offline()
    assert listed(tmp_path, "targets") == {}
    assert repository(tmp_path).newest("stable") == made


def test_a_restored_repository_leaps_as_far_as_its_keys_reach(tmp_path: Path, begun: str) -> None:
    ceremony(tmp_path).move_offline()
    shutil.copytree(tmp_path / "served", tmp_path / "copy")
    ceremony(tmp_path).rotate("canary")
    shutil.rmtree(tmp_path / "served")
    (tmp_path / "copy").rename(tmp_path / "served")
    (tmp_path / "served/.restored").touch()
    before = versions(tmp_path)
    with pytest.raises(KeysError, match="is not the key that the repository names for canary"):
        repository(tmp_path).publish(bundle(tmp_path, 2))
    (tmp_path / "keys/canary.pem").unlink()
    home = repository(tmp_path)
    assert home.publish(bundle(tmp_path, 2)).number == 1001
    after = versions(tmp_path)
    assert {role for role in after if after[role] >= before[role] + 1000} == {"stable", "snapshot", "timestamp"}
    assert any("devices may know newer targets metadata" in line for line in home.warnings())
    assert any("devices may know newer root metadata" in line for line in home.warnings())
    ceremony(tmp_path).rotate("canary")
    assert versions(tmp_path)["targets"] >= before["targets"] + 1000
    assert home.warnings() == []
    assert home.publish(bundle(tmp_path, 3), role="canary").number == 1002


@pytest.mark.parametrize("is_offline", [False, True])
def test_a_device_follows_a_home_that_was_restored_from_before_an_exchange(
    tmp_path: Path, begun: str, device: Device, is_offline: bool
) -> None:
    if is_offline:
        ceremony(tmp_path).move_offline()
    for name in ("served", "keys"):
        shutil.copytree(tmp_path / name, tmp_path / "copy" / name)
    for role in ("timestamp", "canary", "timestamp", "snapshot"):
        ceremony(tmp_path).rotate(role)
    assert device.sees(repository(tmp_path).publish(bundle(tmp_path, 2)).target)
    for name in ("served", "keys"):
        shutil.rmtree(tmp_path / name)
        shutil.copytree(tmp_path / "copy" / name, tmp_path / name)
    (tmp_path / "served/.restored").touch()
    third = repository(tmp_path).publish(bundle(tmp_path, 3))
    if is_offline:
        with pytest.raises(RepositoryError):
            device.sees(third.target)
        assert len(repository(tmp_path).warnings()) == 2
        ceremony(tmp_path).renew()
    assert device.sees(third.target)
    assert repository(tmp_path).warnings() == []
    roots = versions(tmp_path)["root"]
    ceremony(tmp_path).rotate("root")
    assert versions(tmp_path)["root"] == roots + 1
    assert device.sees(third.target)


def test_what_is_wrong_is_told_in_one_line(tmp_path: Path, begun: str) -> None:
    def fails(error: type[Exception], line: str, work: Callable[[], object]) -> None:
        with pytest.raises(error, match=line) as raised:
            work()
        assert "\n" not in str(raised.value)

    fails(PublishError, "no repository in", lambda: Ceremony(tmp_path / "nowhere", tmp_path / "keys"))
    fails(KeysError, "would be served", lambda: ceremony(tmp_path, "served/stick"))
    fails(KeysError, "is where the keys lie", lambda: ceremony(tmp_path, "keys").move_offline())
    (tmp_path / "stick").mkdir()
    (tmp_path / "stick/root.pem").write_bytes(b"another")
    fails(KeysError, "is another key than", ceremony(tmp_path).move_offline)
    assert (tmp_path / "keys/root.pem").exists()
    (tmp_path / "stick/root.pem").unlink()
    (tmp_path / "file").touch()
    fails(KeysError, "cannot move keys to", ceremony(tmp_path, "file").move_offline)
    ceremony(tmp_path).move_offline()
    for work in ("rotate", "renew", "move_offline"):
        one = ceremony(tmp_path, "other")
        done = partial(one.rotate, "root") if work == "rotate" else getattr(one, work)
        fails(KeysError, r"key of root is not in .*--offline DIR", done)


def test_a_person_moves_exchanges_and_renews(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    repository(tmp_path).publish(bundle(tmp_path, 1))
    where = ["--repository", str(tmp_path / "served"), "--keys", str(tmp_path / "keys")]
    stick = str(tmp_path / "stick")
    assert SCRIPT.main(["keys", *where]) == 0
    shown = capsys.readouterr().out
    assert [line.split()[0] for line in shown.splitlines()] == ["role", *ROLES]
    assert shown.count(f"{tmp_path}/keys/") == 6
    assert SCRIPT.main(["keys", "offline", stick, *where]) == 0
    assert f"the keys of root and targets are in {stick}" in capsys.readouterr().out
    assert SCRIPT.main(["keys", "show", *where]) == 0
    assert capsys.readouterr().out.count("not here, as it should be") == 2
    assert SCRIPT.main(["keys", "rotate", "canary", *where]) == 1
    assert "--offline DIR" in capsys.readouterr().err
    assert SCRIPT.main(["keys", "rotate", "canary", "--offline", stick, *where]) == 0
    assert "canary has the key" in capsys.readouterr().out
    assert SCRIPT.main(["keys", "renew", "--offline", stick, *where]) == 0
    assert "(729 d)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["offline", "--home", "x"], "takes a folder"),
        (["show", "root", "--home", "x"], "takes a folder"),
        (["rotate", "king", "--home", "x"], "is no role"),
        (["show"], "say whose keys"),
        (["show", "--home", "x", "--keys", "y"], "give it alone"),
        (["offline", "/x", "--offline", "/x", "--home", "x"], "as it is"),
    ],
)
def test_words_that_make_no_sense_are_told(words: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert SCRIPT.main(["keys", *words]) == 2
    (told,) = capsys.readouterr().err.strip().splitlines()
    assert line in told


def test_a_home_without_the_key_of_stable_tries_and_does_not_release(tmp_path: Path, begun: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "keys/stable.pem").rename(tmp_path / "elsewhere/stable.pem")
    now = [datetime.now(UTC)]
    home = repository(tmp_path, now=lambda: now[0])
    tried = home.publish(bundle(tmp_path, 2), role="canary")
    with pytest.raises(KeysError, match=r"key of stable is not in .*: give the repository's own --keys"):
        home.promote(tried)
    assert home.find(tried.sha256) == tried, "as it was"
    now[0] += 80 * DAY
    assert home.keep()
    assert [line.split()[0] for line in home.warnings()] == ["stable"]
    (tmp_path / "elsewhere/stable.pem").rename(tmp_path / "keys/stable.pem")
    assert home.promote(tried) == tried
    assert home.warnings() == []
