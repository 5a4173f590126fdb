"""Fetching over TLS with an authority of one's own, and through a site's proxy."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

import pytest

from tests.broker import HOST
from tests.fakes.models import write_scripted
from tests.web import Web
from walt_edge.contract.messages import Desired
from walt_edge.update.errors import UnreachableError
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
        proxy.folder = tmp_path
        with pytest.raises(UnreachableError, match="answers 404") as raised:
            trust.fetch(wish, tmp_path / "got.walt")
        assert "secret" not in str(raised.value)
