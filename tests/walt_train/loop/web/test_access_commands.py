"""`walt-loop web` and `walt-loop users`, as somebody at the machine runs them."""

from __future__ import annotations

import contextlib
import io
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.walt_edge.doctor.certificates import Authority
from tests.walt_train.loop.web.client import PASSWORD, QUICK
from tests.web_client import ask
from walt_train.loop.cli import SCRIPT
from walt_train.loop.commands.web import greeting, names_in
from walt_train.loop.serve.jobs import now_us
from walt_train.loop.store.store import Store
from walt_train.loop.web.access.access import Access
from walt_train.loop.web.access.person import Role
from walt_train.loop.web.access.trail import Filter
from walt_train.loop.web.settings import LOOPBACK, WebSettings
from walt_train.loop.web.site import Site

OTHER = "four other random words"
FORM = {"content-type": "application/x-www-form-urlencoded"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "store"
    Store(folder).close()
    return folder


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("walt_train.loop.web.access.access.Passwords", lambda: QUICK)


@contextlib.contextmanager
def access(store: Path) -> Iterator[Access]:
    with Store(store) as opened:
        yield Access.on(opened.engine, now_us)


def users(store: Path, *words: str, stdin: str = "") -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdin", io.StringIO(stdin))
        return SCRIPT.main(["users", *words, "--store", str(store)])


@contextlib.contextmanager
def running(*words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The dashboard as a process, and where it is."""
    program = Path(sys.executable).with_name("walt-loop")
    with subprocess.Popen(
        [program, "web", "--http", "127.0.0.1:0", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def test_people_are_kept_at_the_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = tmp_path / "store"
    Store(store).close()
    assert users(store, "add", "Ann", "--role", "admin", stdin=f"{PASSWORD}\n") == 0
    assert users(store, "add", "bob", "--role", "viewer", stdin=f"{PASSWORD}\r\n") == 0
    assert users(store, "role", "bob", "--role", "operator") == 0
    assert users(store, "password", "bob", stdin=f"{OTHER}\n") == 0
    capsys.readouterr()
    assert users(store, "token", "bob", "--scope", "operate", "--days", "7", "--for", "nightly") == 0
    told = capsys.readouterr()
    assert told.err == "this token is shown once:\n"
    with access(store) as there:
        program = there.tokens.person(told.out.strip())
        assert program is not None
        assert (program.name, program.role) == ("bob", Role.OPERATOR)
        assert there.people.enter("bob", OTHER) is not None
        assert there.people.enter("ann", PASSWORD) is not None
    assert users(store, "disable", "bob") == 0
    assert users(store) == 0
    table = capsys.readouterr().out
    assert re.search(r"^ann +admin +active +never$", table, re.M)
    assert re.search(r"^bob +operator +disabled +never$", table, re.M)
    assert users(store, "enable", "bob") == 0
    with access(store) as there:
        assert there.people.enter("bob", OTHER) is not None
        acts = [(line.what, line.subject, line.address) for line in there.trail.newest(Filter(), 20)]
        detail = there.trail.newest(Filter(), 1)[0].detail
    names = ["enable", "disable", "token", "password", "role", "add", "add"]
    assert acts == [(f"people.{name}", "bob", "") for name in names[:-1]] + [("people.add", "ann", "")]
    assert re.fullmatch(r"by \S+ with walt-loop users", detail)


@pytest.mark.parametrize(
    ("words", "stdin", "says"),
    [
        (["add"], "", "name a person, and what to do"),
        (["list", "ann"], "", "name a person, and what to do"),
        (["add", "ann"], f"{PASSWORD}\n", "say what ann may do: --role viewer | operator | admin"),
        (["add", "ann", "--role", "admin"], "short\n", "at least 12 characters"),
        (["add", "ann", "--role", "admin"], "", "at least 12 characters"),
        (["add", "a b", "--role", "admin"], f"{PASSWORD}\n", "'a b' cannot be a name"),
        (["password", "nobody"], f"{PASSWORD}\n", "there is no 'nobody': walt-loop users lists who there is"),
        (["token", "nobody"], "", "there is no 'nobody'"),
        (["disable", "nobody"], "", "there is no 'nobody'"),
    ],
)
def test_what_cannot_be_done_is_told_in_a_line(
    made: Path, capsys: pytest.CaptureFixture[str], words: list[str], stdin: str, says: str
) -> None:
    assert users(made, *words, stdin=stdin) != 0
    told = capsys.readouterr().err
    assert says in told
    assert told.count("\n") == 1
    assert PASSWORD not in told


def test_no_password_is_an_argument(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        users(made, "add", "ann", "--role", "admin", "--password", PASSWORD)
    assert PASSWORD not in capsys.readouterr().out


def test_the_dashboard_is_a_process_that_greets_and_ends_when_told(tmp_path: Path) -> None:
    store = tmp_path / "store"
    Store(store).close()
    with running("--store", str(store)) as (process, url):
        assert process.stdout is not None
        assert f"{url}setup with this set-up token" in process.stdout.readline()
        token = process.stdout.readline().strip()
        form = {"name": "ann", "password": PASSWORD, "again": PASSWORD}
        for shown, status in (("x" * 43, 403), (token, 303), (token, 400)):
            body = urlencode(form | {"token": shown}).encode()
            assert ask(url, "/setup", method="POST", headers=FORM, body=body).status == status
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ({}, "http://127.0.0.1:4000/"),
        ({"names": ("home.example",)}, "http://127.0.0.1:4000/"),
        ({"host": "0.0.0.0", "tls_cert": Path("x"), "names": ("home.example",)}, "https://home.example:4000/"),
        ({"proxies": LOOPBACK, "names": ("home.example",)}, "https://home.example/"),
    ],
)
def test_it_greets_with_the_address_that_people_use(tmp_path: Path, options: dict[str, Any], shown: str) -> None:
    with Store(tmp_path) as store:
        site = Site.of(store, settings=WebSettings(**options), passwords=QUICK)
        first, says, token = greeting(site, "http://127.0.0.1:4000/").splitlines()
        assert (first, token) == (shown, site.first.offer())
        assert f"{shown}setup" in says
        site.access.people.add("ann", Role.ADMIN, PASSWORD)
        assert greeting(site, "http://127.0.0.1:4000/") == f"{shown}\n", "once somebody is there, there is no token"


def test_a_certificate_s_names_are_those_it_is_served_by(tmp_path: Path, made: Path) -> None:
    pair = Authority(tmp_path).issue("dashboard", 3)
    both = tmp_path / "both.pem"
    both.write_bytes(pair.key.read_bytes() + pair.cert.read_bytes())
    assert names_in(pair.cert) == names_in(both) == {"127.0.0.1"}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--http", "0.0.0.0:0"], "would be open to the network, and passwords would travel unencrypted"),
        (["--http", "nonsense"], "is not HOST:PORT"),
        (["--tls-key", "x"], "--tls-key without --tls-cert"),
        (["--tls-cert", "absent.pem"], "cannot read a certificate from absent.pem"),
        (["--tls-cert", "x", "--behind-proxy"], "give --tls-cert, or --behind-proxy"),
        (["--behind-proxy"], "--behind-proxy needs --name"),
        (["--behind-proxy", "x", "--name", "home"], "--behind-proxy x"),
    ],
)
def test_what_cannot_be_served_is_told_in_a_line(
    made: Path, capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    assert SCRIPT.main(["web", "--store", str(made), *words]) == 2
    told = capsys.readouterr().err
    assert says in told
    assert told.count("\n") == 1
