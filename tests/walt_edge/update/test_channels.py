"""Whose releases a device takes; and what a stolen key, or a server that means ill, can not do with that."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

import pytest
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, MetaFile, TargetFile, Targets
from tuf.ngclient import Updater, UpdaterConfig

from tests.updates import change_byte
from tests.walt_edge.update.street import Street, opened
from tests.walt_train.loop.publish.test_channels import first_form
from tests.web import Web
from walt_edge.contract.messages import Desired
from walt_edge.update.errors import UpdateError
from walt_edge.update.settings import Channel
from walt_train.loop.publish.keys import Keys


@pytest.fixture
def street(tmp_path: Path) -> Iterator[Street]:
    with opened(tmp_path) as street:
        street.publish()
        yield street


def test_a_channel_takes_what_it_says_and_a_promotion_is_for_all(street: Street) -> None:
    first, tried = wish(street, 1), street.publish("canary")
    bold, careful = street.device("bold"), street.device("careful", "stable")
    bold.take(first)
    careful.take(first)
    bold.take(tried)
    line = rf"signed no {tried.target} for all devices, and this one takes no other: promote it"
    with pytest.raises(UpdateError, match=line):
        careful.take(tried)
    street.home.promote(street.home.releases()[0])
    careful.take(tried)
    assert (bold.runs, careful.runs) == (2, 2)
    assert not any("canary.json" in path for path in asked_by(street, careful.take, street.publish()))


def wish(street: Street, number: int) -> Desired:
    (one,) = (one for one in street.home.releases() if one.number == number)
    return Desired(release=one.number, target=one.target, sha256=one.sha256)


def asked_by(street: Street, work: Callable[[Desired], None], wish: Desired) -> list[str]:
    before = len(street.web.asked)
    work(wish)
    return street.web.asked[before:]


def smuggle(street: Street, target: str, number: int, role: Channel = "canary", **more: object) -> Desired:
    """Somebody with the keys of the server signs bytes of their own, as whatever they like."""
    evil = b"evil"
    found = TargetFile.from_data(target, evil, ["sha256"])
    found.unrecognized_fields["custom"] = {"release": number, **more}
    sha256 = found.hashes["sha256"]
    (street.web.folder / "targets" / f"{sha256}.{target}").write_bytes(evil)
    signed = street.signed()
    with signed.writing() as state:
        state.lists[role][target] = found
        signed.commit(state, [role])
    return Desired(release=number, target=target, sha256=sha256)


def another_name(street: Street) -> Desired:
    """Canary has other bytes under the name and number of what is signed for all."""
    return smuggle(street, wish(street, 2).target, 2)


def another_number(street: Street) -> Desired:
    """Canary gives a number again that is another release's."""
    return smuggle(street, "evil-2.walt", 2)


def other_paths(street: Street) -> Desired:
    """Canary names a path which nobody gave to it."""
    return smuggle(street, "agent-3.deb", 3)


def further(street: Street) -> Desired:
    """Canary delegates to somebody else."""
    evil = smuggle(street, "evil-3.walt", 3)
    signed = street.signed()
    with signed.writing() as state:
        signer = Keys(street.keys).signer("canary", state.key_ids("canary"))
        assert signer is not None
        roles = {"third": DelegatedRole("third", [signer.public_key.keyid], 1, terminating=False, paths=["*"])}
        further = Targets(targets=state.lists["canary"], expires=state.expires["canary"])
        (path,) = street.web.folder.rglob(f"{state.versions['canary']}.canary.json")
        third = Metadata(further)
        third.sign(signer)
        third.to_file(str(path.with_name("1.third.json")))
        state.lists["canary"] = {}
        signed.commit(state, ["canary"])
        onward: Metadata[Targets] = Metadata[Targets].from_file(
            str(path.with_name(f"{state.versions['canary']}.canary.json"))
        )
        onward.signed.delegations = Delegations({signer.public_key.keyid: signer.public_key}, roles)
    resign(street, "canary", onward.signed)
    return evil


def resign(street: Street, role: str, targets: Targets) -> None:
    """Signs a list as it is given, and what names it."""
    signed = street.signed()
    with signed.writing() as state:
        signer = Keys(street.keys).signer(role, state.key_ids(role))
        assert signer is not None
        whole = Metadata(targets)
        whole.sign(signer)
        path = signed.metadata / f"{targets.version}.{role}.json"
        whole.to_file(str(path))
        state.meta[f"{role}.json"] = MetaFile.from_data(targets.version, path.read_bytes(), ["sha256"])
        signed.commit(state)


def rolled_back(street: Street) -> Desired:
    """The list for all is the old one again, in a new snapshot."""
    target = wish(street, 1)
    old = Metadata[Targets].from_file(str(street.web.folder / "metadata/1.stable.json")).signed
    resign(street, "stable", old)
    return target


def withheld(street: Street) -> Desired:
    """A new snapshot knows nothing of canary any more."""
    signed = street.signed()
    with signed.writing() as state:
        state.meta.pop("canary.json")
        signed.commit(state)
    return Desired(release=3, target="street-3.walt", sha256="0" * 64)


def mixed(street: Street) -> Desired:
    """The newest snapshot, and in it a list of another day under the newest name."""
    new = street.publish()
    metadata = street.web.folder / "metadata"
    shutil.copy(metadata / "2.stable.json", metadata / "3.stable.json")
    return new


def mixed_roles(street: Street) -> Desired:
    """What canary signed is given out for what stable did."""
    new = street.publish("canary")
    signed = street.signed()
    with signed.writing() as state:
        data = (signed.metadata / f"{state.versions['canary']}.canary.json").read_bytes()
        (signed.metadata / "9.stable.json").write_bytes(data)
        state.meta["stable.json"] = MetaFile.from_data(9, data, ["sha256"])
        signed.commit(state)
    return new


def enormous(street: Street) -> Desired:
    """Canary's list is larger than any list may be, and everything that vouches for it says so."""
    return smuggle(street, "evil-3.walt", 3, ballast="x" * 6_000_000)


def deep(street: Street) -> Desired:
    def answer(handler: SimpleHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(b"[" * 16_000)

    street.web.answers["/timestamp.json"] = answer
    return wish(street, 2)


def changed(street: Street) -> Desired:
    new = street.publish("canary")
    change_byte(street.web.folder / "metadata/2.canary.json")
    return new


HOSTILE = {
    "canary takes the name of a release for all": (another_name, "another sha256"),
    "canary takes the number of a release for all": (another_number, "was signed with the number of street-2-2.walt"),
    "canary names paths of others": (other_paths, "home has signed no agent-3.deb"),
    "canary delegates further": (further, "home has signed no evil-3.walt"),
    "an old list in a new snapshot": (rolled_back, "older than what this device has seen"),
    "a list that vanished": (withheld, "not in order"),
    "a list of another day": (mixed, "changed, or damaged"),
    "the list of another role": (mixed_roles, "not signed with the keys"),
    "an enormous list": (enormous, "sends more than the 5000000 bytes it may"),
    "a list without an end to its brackets": (deep, "malformed"),
    "a changed byte in a list": (changed, "changed, or damaged"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_not_sound_is_refused_in_one_line(street: Street, name: str) -> None:
    mischief, line = HOSTILE[name]
    device = street.device("device")
    device.take(street.publish())
    evil = mischief(street)
    with pytest.raises(UpdateError, match=line) as raised:
        device.trust.fetch(evil, device.folder / "got.walt")
    assert "\n" not in str(raised.value)
    assert not (device.folder / "got.walt").exists()
    assert device.runs == 2


@pytest.mark.parametrize("mischief", [another_name, another_number, other_paths, enormous, changed])
def test_nothing_that_canary_does_reaches_who_is_careful(
    street: Street, mischief: Callable[[Street], Desired]
) -> None:
    device = street.device("device", "stable")
    device.take(street.publish())
    evil = mischief(street)
    with pytest.raises(UpdateError, match=r"another sha256|for all devices, and this one takes no other"):
        device.trust.fetch(evil, device.folder / "got.walt")
    if mischief is not changed:
        device.take(street.publish())
        assert device.runs > 2


def test_a_device_takes_from_a_home_of_the_first_form_and_goes_on_when_that_moves(tmp_path: Path) -> None:
    first_form(tmp_path, 1, 2)
    with Web(tmp_path / "served") as web:
        street = Street(tmp_path, web, datetime.now(UTC), published=2)
        devices = [street.device("bold"), street.device("careful", "stable")]
        for device in devices:
            device.take(wish(street, 2))
        third = street.publish()
        for device in devices:
            device.take(third)
            assert device.runs == 3
        assert old_agent(street, third) == third.sha256
        assert old_agent(street, street.publish("canary")) is None


def old_agent(street: Street, wish: Desired) -> str | None:
    """What an agent finds that knows of no delegations."""
    folder = street.folder / "old-agent"
    folder.mkdir(exist_ok=True)
    client = Updater(
        str(folder),
        f"{street.web.url}/metadata/",
        config=UpdaterConfig(max_delegations=0),
        bootstrap=(street.web.folder / "metadata/1.root.json").read_bytes(),
    )
    client._trusted_set.reference_time = street.now
    found = client.get_targetinfo(wish.target)
    return found.hashes["sha256"] if found else None
