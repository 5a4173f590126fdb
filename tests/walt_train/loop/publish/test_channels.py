"""Releases by role: tried by `canary`, promoted to `stable`, undone under a new number; and the first form's move."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import Metadata, Root, Snapshot, TargetFile, Targets, Timestamp

from tests.killing import kill_at_every_step
from tests.walt_train.loop.publish.test_repository import bundle, repository, versions
from walt_train.loop.publish.keys import Keys, KeysError
from walt_train.loop.publish.repository import PublishError, Release
from walt_train.loop.publish.roles import LISTS


def listed(folder: Path, role: str) -> dict[str, TargetFile]:
    """What a role signs now."""
    path = folder / "served/metadata" / f"{versions(folder)[role]}.{role}.json"
    return Metadata[Targets].from_file(str(path)).signed.targets


def test_a_tried_release_is_promoted_as_it_is(tmp_path: Path) -> None:
    home = repository(tmp_path)
    one = home.publish(bundle(tmp_path, 1))
    two = home.publish(bundle(tmp_path, 2), role="canary")
    assert (set(one.roles), set(two.roles), two.number) == ({"stable"}, {"canary"}, 2)
    assert home.publish(bundle(tmp_path, 2), role="canary") == two
    assert (home.newest(), home.newest("stable"), home.find(two.sha256, "stable")) == (two, one, None)
    assert [set(listed(tmp_path, role)) for role in LISTS] == [set(), {one.target}, {two.target}]
    promoted = home.promote(two)
    assert (promoted, set(promoted.roles)) == (two, {"stable", "canary"})
    assert listed(tmp_path, "stable")[two.target] == listed(tmp_path, "canary")[two.target]
    before = versions(tmp_path)
    assert home.promote(promoted).roles == {"stable", "canary"}
    assert versions(tmp_path) == before
    assert home.releases() == home.releases("stable") == [two, one]


def test_numbers_rise_over_both_roles(tmp_path: Path) -> None:
    home = repository(tmp_path)
    roles = ("canary", "stable", "canary", "canary", "stable")
    made = [home.publish(bundle(tmp_path, number), role=role) for number, role in enumerate(roles)]  # type: ignore[arg-type]
    assert [one.number for one in made] == [1, 2, 3, 4, 5]
    assert home.promote(made[0]).number == 1, "older than the newest, and of another camera"


def test_publishing_what_was_tried_last_for_all_promotes_it(tmp_path: Path) -> None:
    home = repository(tmp_path)
    tried = home.publish(bundle(tmp_path, 1), role="canary")
    assert home.publish(bundle(tmp_path, 1)) == tried
    assert home.newest("stable") == tried


@pytest.mark.parametrize("by_bytes", [False, True])
def test_an_undone_release_has_old_bytes_and_a_new_number(tmp_path: Path, by_bytes: bool) -> None:
    home = repository(tmp_path)
    one, two = (home.publish(bundle(tmp_path, number)) for number in (1, 2))
    back = home.undo(one.sha256 if by_bytes else one)
    assert back == Release(3, "street-1-3.walt", one.sha256)
    assert home.undo(one) == back, "repeated, it gives what was made before"
    served = tmp_path / "served/targets" / f"{one.sha256}.{back.target}"
    assert served.read_bytes() == (tmp_path / "bundle-1.walt").read_bytes()
    tried = home.undo(two, role="canary")
    assert (tried.number, set(tried.roles)) == (4, {"canary"})
    assert home.undo(back).target == "street-1-5.walt"


def test_what_is_not_there_is_neither_promoted_nor_undone(tmp_path: Path) -> None:
    home = repository(tmp_path)
    one, two = (home.publish(bundle(tmp_path, number), role="canary") for number in (1, 2))
    assert home.remove([one.sha256]) == [1]
    with pytest.raises(PublishError, match=r"street-1-1\.walt is no release"):
        home.promote(one)
    with pytest.raises(PublishError, match="is no release"):
        home.promote(Release(two.number, two.target, one.sha256))
    with pytest.raises(PublishError, match="no release has the sha256"):
        home.undo(one)
    home.publish(bundle(tmp_path, 3))
    (tmp_path / "served/targets" / f"{two.sha256}.{two.target}").write_bytes(b"damaged")
    with pytest.raises(PublishError, match="is damaged"):
        home.undo(two)
    assert versions(tmp_path)["timestamp"] == 4


def test_a_release_is_taken_back_from_every_role(tmp_path: Path) -> None:
    home = repository(tmp_path)
    one = home.publish(bundle(tmp_path, 1), role="canary")
    home.promote(one)
    two = home.publish(bundle(tmp_path, 2), role="canary")
    assert home.remove([one.sha256, two.sha256]) == [1]
    assert [set(listed(tmp_path, role)) for role in LISTS] == [set(), set(), {two.target}]
    assert home.publish(bundle(tmp_path, 3)).number == 3


@pytest.mark.parametrize("work", [pytest.param("promote", marks=pytest.mark.slow), "undo"])
def test_killed_at_any_moment_it_is_whole_and_repeated(tmp_path: Path, work: str) -> None:
    start, folder = tmp_path / "start", tmp_path / "work"
    start.mkdir()
    one = repository(start).publish(bundle(tmp_path, 1), role="canary")
    if work == "undo":
        repository(start).publish(bundle(tmp_path, 2), role="canary")

    def do() -> Release:
        home = repository(folder)
        return home.promote(one) if work == "promote" else home.undo(one)

    def prepare() -> Callable[[], object]:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(start, folder)
        return do

    seen = []
    for step in kill_at_every_step(prepare):
        newest = repository(folder).newest("stable")
        seen.append(newest is not None)
        assert do().number == (1 if work == "promote" else 3), step
        assert repository(folder).newest("stable") == do()
    assert seen == sorted(seen)
    assert set(seen) == {False, True}


def first_form(folder: Path, *numbers: int) -> list[Release]:
    """A repository as it was written before there were channels: `targets` lists the bundles, four keys sign."""
    keys = Keys(folder / "keys").make(("root", "targets", "snapshot", "timestamp"))
    root, soon = Root(consistent_snapshot=True), datetime.now(UTC) + timedelta(days=90)
    root.expires = datetime.now(UTC) + timedelta(days=365)
    for role, signer in keys.items():
        root.add_key(signer.public_key, role)
    metadata, served = folder / "served/metadata", folder / "served/targets"
    for path in (metadata, served):
        path.mkdir(parents=True)
    made, targets = [], Targets(1, expires=soon)
    for number in numbers:
        path = bundle(folder, number)
        target = TargetFile.from_file(f"street-{number}-{number}.walt", str(path), ["sha256"])
        target.unrecognized_fields["custom"] = {"release": number}
        targets.targets[target.path] = target
        shutil.copy(path, served / f"{target.hashes['sha256']}.{target.path}")
        made.append(Release(number, target.path, target.hashes["sha256"]))
    signed: dict[str, Any] = {"1.root": root, "1.targets": targets}
    signed |= {"1.snapshot": Snapshot(1, expires=soon), "timestamp": Timestamp(1, expires=soon)}
    for name, one in signed.items():
        whole: Metadata[Any] = Metadata(one)
        whole.sign(keys[one.type])
        whole.to_file(str(metadata / f"{name}.json"))
    shutil.copy(metadata / "1.root.json", folder / "served/root.json")
    return made


def test_a_repository_of_the_first_form_moves_at_the_next_writing(tmp_path: Path) -> None:
    made = first_form(tmp_path, 1, 2)
    home = repository(tmp_path)
    assert home.releases() == made[::-1]
    assert home.find(made[0].sha256, "stable") == made[0]
    assert home.keep(), "it is due"
    assert home.releases("stable") == made[::-1]
    assert set(listed(tmp_path, "stable")) == {one.target for one in made}
    assert not home.keep()
    three = home.publish(bundle(tmp_path, 3))
    four = home.publish(bundle(tmp_path, 4), role="canary")
    assert (three.number, four.number) == (3, 4)
    assert three.target in listed(tmp_path, "targets"), "agents of the first form look nowhere else"
    assert four.target not in listed(tmp_path, "targets")
    assert home.remove([made[0].sha256]) == [1]
    assert made[0].target not in listed(tmp_path, "targets")


def test_a_list_for_old_agents_that_was_left_behind_is_brought_up_to_date(tmp_path: Path) -> None:
    """Somebody moved the key away by hand, and brings it back."""
    made = first_form(tmp_path, 1, 2)
    home = repository(tmp_path)
    home.keep()
    (tmp_path / "keys/targets.pem").rename(tmp_path / "targets.pem")
    three = home.publish(bundle(tmp_path, 3))
    assert three.target not in listed(tmp_path, "targets")
    with pytest.raises(KeysError, match="key of targets is not in"):
        home.remove([made[0].sha256])
    (tmp_path / "targets.pem").rename(tmp_path / "keys/targets.pem")
    assert home.remove([made[0].sha256]) == [1]
    assert set(listed(tmp_path, "targets")) == set(listed(tmp_path, "stable")) == {made[1].target, three.target}


def test_the_move_needs_the_key_of_targets_and_nothing_is_lost_without_it(tmp_path: Path) -> None:
    made = first_form(tmp_path, 1)
    (tmp_path / "keys/targets.pem").rename(tmp_path / "targets.pem")
    with pytest.raises(KeysError, match=r"key of targets is not in .*: walt-loop keys renew --offline"):
        repository(tmp_path).publish(bundle(tmp_path, 2))
    assert repository(tmp_path).releases() == made
    (tmp_path / "targets.pem").rename(tmp_path / "keys/targets.pem")
    assert repository(tmp_path).publish(bundle(tmp_path, 2)).number == 2


@pytest.mark.slow
def test_killed_at_any_moment_of_the_move_it_moves_again(tmp_path: Path) -> None:
    start, folder = tmp_path / "start", tmp_path / "work"
    (made,) = first_form(start, 1)

    def prepare() -> Callable[[], object]:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(start, folder)
        return lambda: repository(folder).keep()

    for step in kill_at_every_step(prepare):
        assert repository(folder).newest() == made, step
        repository(folder).keep()
        assert repository(folder).newest("stable") == made
        assert not repository(folder).keep()
