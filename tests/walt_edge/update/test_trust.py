"""Fetching over TLS with an authority of one's own, and through a site's proxy."""

from __future__ import annotations

import base64
import shutil
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.broker import HOST
from tests.fakes.models import write_scripted
from tests.killing import kill_at_every_step
from tests.web import Web
from walt_edge.contract.messages import Desired
from walt_edge.update.errors import UnreachableError
from walt_edge.update.slots import Slots
from walt_edge.update.trust import Trust
from walt_train.loop.publish.repository import Repository


def publish(folder: Path) -> Desired:
    release = Repository(folder / "served", folder / "keys").publish(write_scripted(folder / "street.walt"))
    return Desired(release=release.number, target=release.target, sha256=release.sha256)


def make_authority(folder: Path, name: str) -> Path:
    """A self-signed certificate for the loopback address, with its key beside it."""
    path = folder / f"{name}.pem"
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", f"{folder / name}.key"]
    words = ["-days", "2", "-subj", f"/CN={name}", "-addext", f"subjectAltName=IP:{HOST}", "-out", str(path)]
    subprocess.run(["openssl", "req", "-x509", *key, *words], check=True, capture_output=True)
    return path


def test_https_trusts_only_the_authority_given(tmp_path: Path) -> None:
    wish = publish(tmp_path)
    ours, other = make_authority(tmp_path, "ours"), make_authority(tmp_path, "other")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(ours, ours.with_suffix(".key"))
    with Web(tmp_path / "served", tls=tls) as web:
        root = tmp_path / "served/root.json"
        Trust(tmp_path / "a", web.url, root, ours).fetch(wish, tmp_path / "got.walt")
        assert (tmp_path / "got.walt").read_bytes() == (tmp_path / "street.walt").read_bytes()
        for ca in (other, None):
            with pytest.raises(UnreachableError, match=r"cannot be fetched: .*certificate verify failed") as raised:
                Trust(tmp_path / "b", web.url, root, ca).fetch(wish, tmp_path / "got.walt")
            assert "\n" not in str(raised.value)


def test_a_proxy_of_the_environment_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wish = publish(tmp_path)
    with Web(tmp_path / "served") as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        trust = Trust(tmp_path / "a", "http://user:secret@updates.invalid/", tmp_path / "served/root.json")
        trust.fetch(wish, tmp_path / "got.walt")
        assert proxy.asked[-1].startswith("http://")
        assert proxy.logins == {"Basic " + base64.b64encode(b"user:secret").decode()}
        proxy.folder = tmp_path
        with pytest.raises(UnreachableError, match="answers 404") as raised:
            trust.fetch(wish, tmp_path / "got.walt")
        assert "secret" not in str(raised.value)


def test_killed_at_any_moment_of_an_update_the_next_start_takes_it(tmp_path: Path) -> None:
    wish = publish(tmp_path)
    folder = tmp_path / "agent"
    with Web(tmp_path / "served") as web:

        def take() -> Slots:
            slots = Slots(folder / "models")
            Trust(folder / "updates", web.url, tmp_path / "served/root.json").fetch(wish, slots.candidate)
            slots.commit(wish)
            return slots

        def prepare() -> Callable[[], object]:
            shutil.rmtree(folder, ignore_errors=True)
            return take

        steps = 0
        for _ in kill_at_every_step(prepare):
            steps += 1
            path = take().active_path
            assert path is not None
            assert path.read_bytes() == (tmp_path / "street.walt").read_bytes()
            assert sorted(one.name for one in (folder / "models").iterdir() if one.suffix == ".partial") == []
            assert not list((folder / "updates/metadata").glob("tmp*"))
    assert steps > 20
