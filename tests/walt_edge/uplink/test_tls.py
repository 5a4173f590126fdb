"""The uplink over TLS: it trusts only its own authority, and shows its own certificate."""

from __future__ import annotations

import dataclasses
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from tests.broker import HOST, Broker
from tests.envelopes import sealed
from tests.waiting import PATIENCE_S, wait_for
from walt_edge.config import Endpoint, Tls
from walt_edge.contract.messages import Info
from walt_edge.contract.topics import DeviceTopics
from walt_edge.spool.spool import Spool
from walt_edge.uplink.uplink import Uplink, UplinkSettings

INFO = Info(version="1", camera="cam-1", machine="test", python="3.11", anonymiser="test")
FAST = UplinkSettings(reconnect_min_s=0.05, reconnect_max_s=0.3)


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two authorities, a broker's and a device's certificate by the first."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("pki")
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    for name in ("ca", "other", "stranger"):
        openssl(
            "req",
            "-x509",
            *key,
            "-keyout",
            f"{name}.key",
            "-out",
            f"{name}.pem",
            "-days",
            "2",
            "-subj",
            f"/CN={name}",
        )
    (folder / "san").write_text(f"subjectAltName=IP:{HOST}\n")
    for name in ("broker", "walt-test"):
        openssl("req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "san")
        openssl("x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", *signed)
    return folder


@pytest.mark.parametrize(
    ("ca", "cert", "welcome", "says"),
    [
        ("ca", "walt-test", True, ""),
        ("other", "walt-test", False, "certificate verify failed"),
        ("ca", "", False, "brokers do that do not take our certificate"),
        ("ca", "stranger", False, "brokers do that do not take our certificate"),
    ],
    ids=["both known", "another authority's broker", "no certificate of ours", "one that nobody signed"],
)
# paho leaves a socket whose handshake failed to the garbage collector, which closes it and says so.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <ssl.SSLSocket:pytest.PytestUnraisableExceptionWarning")
def test_who_is_let_in(
    tmp_path: Path, pki: Path, caplog: pytest.LogCaptureFixture, ca: str, cert: str, welcome: bool, says: str
) -> None:
    files = {"cafile": "ca.pem", "certfile": "broker.pem", "keyfile": "broker.key"}
    lines = [f"{option} {pki / name}" for option, name in files.items()]
    tls = Tls(pki / f"{ca}.pem", *((pki / f"{cert}.pem", pki / f"{cert}.key") if cert else ()))
    with Spool(tmp_path) as spool, Broker.start(tmp_path, extra=[*lines, "require_certificate true"]) as broker:
        spool.accept(sealed(1))
        topics = DeviceTopics("test", "walt-test")
        uplink = Uplink(Endpoint(HOST, broker.port, tls), topics, spool, "boot-1", INFO, FAST)
        uplink.start()
        try:
            if welcome:
                assert uplink.wait_connected(PATIENCE_S)
            else:
                wait_for(lambda: caplog.text.count("no connection to the broker") >= 2)
                assert not uplink.connected
                assert says in caplog.text
        finally:
            uplink.stop()


@pytest.mark.filterwarnings("ignore:Exception ignored in. <ssl.SSLSocket:pytest.PytestUnraisableExceptionWarning")
def test_a_broker_whose_handshake_hangs_is_given_up(
    tmp_path: Path, pki: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Spool(tmp_path) as spool, socket.create_server((HOST, 0)) as mute:
        endpoint = Endpoint(HOST, mute.getsockname()[1], Tls(pki / "ca.pem"))
        settings = dataclasses.replace(FAST, connect_timeout_s=0.3, keepalive_s=1)
        uplink = Uplink(endpoint, DeviceTopics("test", "walt-test"), spool, "boot-1", INFO, settings)
        uplink.start()
        try:
            wait_for(lambda: caplog.text.count("no connection to the broker") >= 2)
        finally:
            uplink.stop()
