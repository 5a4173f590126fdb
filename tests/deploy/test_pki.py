"""deploy/pki/setup.py: from nothing to what every part shows, again at a renewal, and back from the copy."""

from __future__ import annotations

import datetime
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography import x509

from tests.deploy.deployed import SETUP, set_up, setup
from walt_train.loop.identity.authority import OWN_DAYS, Authority
from walt_train.loop.identity.pairs import keep_server

HOSTS = ("--host", "home.example", "--host", "10.0.0.7", "--web", "walt.example", "--workers-host", "0.0.0.0")
NAMES = ("identity/server.pem", "mosquitto/broker.pem", "tls/web.pem")

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not here")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pki") / "loop"
    made = setup("--home", folder, *HOSTS)
    assert made.returncode == 0, made.stderr
    assert str(folder / "tls" / "web.pem") in made.stdout
    assert f"{datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=OWN_DAYS):%Y-}" in made.stdout
    return folder


def verified(home: Path, name: str, purpose: str, authority: str = "home-ca.pem") -> subprocess.CompletedProcess[str]:
    """By another implementation than ours."""
    words = ["openssl", "verify", "-purpose", purpose, "-CAfile", home / "identity" / authority, home / name]
    return subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)


@needs_openssl
def test_every_certificate_is_good_for_its_purpose_alone(home: Path) -> None:
    for name in NAMES:
        assert verified(home, name, "sslserver").returncode == 0, name
        assert verified(home, name, "sslclient").returncode != 0, name
        assert verified(home, name, "sslserver", "devices-ca.pem").returncode != 0, name
    for worker in ("walt-ingest", "walt-home"):
        assert verified(home, f"workers/{worker}.pem", "sslclient").returncode == 0
        assert verified(home, f"workers/{worker}.pem", "sslserver").returncode != 0


@pytest.mark.parametrize(
    ("name", "host"),
    [("identity/server.pem", "home.example"), ("mosquitto/broker.pem", "10.0.0.7"), ("tls/web.pem", "walt.example")],
)
def test_they_carry_the_names_by_which_they_are_met(home: Path, name: str, host: str) -> None:
    certificate = x509.load_pem_x509_certificate((home / name).read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert host in {str(one.value) for one in names}


def test_nobody_else_reads_what_is_secret(home: Path) -> None:
    for path in (*home.glob("identity/*.key"), *home.glob("*/*.pem"), home / "workers" / "ingest-group"):
        if path.name in ("home-ca.pem", "devices-ca.pem"):
            continue
        assert path.stat().st_mode & 0o077 == 0, path
    for folder in ("identity", "workers", "tls"):
        assert (home / folder).stat().st_mode & 0o077 == 0, folder


def test_again_it_renews_what_does_not_last_and_keeps_the_rest(tmp_path: Path) -> None:
    house = set_up(tmp_path / "loop", "--web", "walt.example", "--store", tmp_path / "store")
    before = {path: path.read_bytes() for path in (*house.folder.glob("*/*.pem"), *house.folder.glob("*/*.key"))}
    long_ago = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=OWN_DAYS - 200)
    old = house.folder / "tls" / "web.pem"
    old.unlink()
    keep_server(Authority(house.authority.folder, lambda: long_ago), old, ("walt.example",), long_ago)
    aged = old.read_bytes()
    again = setup(
        "--home", house.folder, "--host", "127.0.0.1", "--web", "walt.example", "--store", tmp_path / "store"
    )
    assert again.returncode == 0, again.stderr
    assert old.read_bytes() != aged
    for path, content in before.items():
        if path != old:
            assert path.read_bytes() == content, path


def test_it_does_not_let_in_again_who_is_revoked(home: Path) -> None:
    before = (home / "mosquitto" / "devices.crl").read_bytes()
    refused = setup("--home", home, *HOSTS)
    assert refused.returncode == 1
    assert "knows who is revoked" in refused.stderr
    assert (home / "mosquitto" / "devices.crl").read_bytes() == before


@needs_openssl
def test_the_copy_gives_the_same_authorities_back(tmp_path: Path) -> None:
    phrase, copy, loop = tmp_path / "phrase", tmp_path / "authorities.enc", tmp_path / "loop"
    phrase.write_text("six words that nobody would guess\n")
    made = setup("--home", loop, *HOSTS, "--copy", copy, "--passphrase", phrase)
    assert made.returncode == 0, made.stderr
    sealed = copy.read_bytes()
    assert b"PRIVATE KEY" not in sealed
    assert copy.stat().st_mode & 0o077 == 0
    back = tmp_path / "back" / "identity"
    back.mkdir(parents=True, mode=0o700)
    # As docs/runbooks/key-rotation.md says it.
    opens = "openssl enc -d -aes-256-cbc -pbkdf2 -iter 1000000 -md sha256"
    line = f"set -o pipefail; {opens} -pass file:{phrase} -in {copy} | tar -x -C {back}"
    subprocess.run(["bash", "-c", line], check=True)
    assert Authority(back).fingerprint == Authority(loop / "identity").fingerprint
    guide = (SETUP.parents[2] / "docs" / "runbooks" / "key-rotation.md").read_text()
    assert opens in guide


def test_a_weak_passphrase_copies_nothing(tmp_path: Path) -> None:
    (tmp_path / "phrase").write_text("short\n")
    words = ("--copy", tmp_path / "copy", "--passphrase", tmp_path / "phrase")
    refused = setup("--home", tmp_path / "loop", *HOSTS, *words)
    assert refused.returncode == 1
    assert "20 characters" in refused.stderr
    assert not (tmp_path / "copy").exists()
    assert not (tmp_path / "loop").exists()
