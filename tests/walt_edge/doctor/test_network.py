"""What the doctor says of the network: real brokers and servers, each broken in its own way."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.broker import HOST, Broker, free_port
from tests.updates import Station
from tests.walt_edge.doctor.certificates import Authority
from tests.web import Web, failing
from walt_edge.config import Home
from walt_edge.doctor import Finding, State
from walt_edge.doctor.network import check_broker, check_updates, check_web
from walt_edge.settings.tree import AgentConfig

DYNAMIC_SECURITY = Path("/usr/lib/x86_64-linux-gnu/mosquitto_dynamic_security.so")


def config(home: Path, **sections: Any) -> AgentConfig:
    return AgentConfig.model_validate({"home": home, **sections})


def by_name(findings: Iterator[Finding]) -> dict[str, Finding]:
    return {finding.name: finding for finding in findings}


def states(findings: dict[str, Finding]) -> dict[str, str]:
    return {name: str(finding.state) for name, finding in findings.items()}


def test_a_broker_that_serves_us(tmp_path: Path) -> None:
    with Home(tmp_path / "home") as home:
        device = home.device(site="plaza").device
    with Broker.start(tmp_path) as broker:
        (found,) = check_broker(config(tmp_path / "home", broker={"address": broker.address}))
    assert found.state is State.OK
    assert f"walt/v1/plaza/{device}/ack/" in found.text


def test_no_broker(tmp_path: Path) -> None:
    (found,) = check_broker(config(tmp_path, broker={"address": f"{HOST}:{free_port()}"}))
    assert found.state is State.FAIL
    assert "refused" in found.text.lower()
    assert "waits in the spool" in found.remedy


def test_something_that_speaks_no_mqtt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("walt_edge.doctor.network._ANSWER_S", 0.3)
    with socket.socket() as mute:
        mute.bind((HOST, 0))
        mute.listen()
        (found,) = check_broker(config(tmp_path, broker={"address": f"{HOST}:{mute.getsockname()[1]}"}))
    assert (found.state, "does not speak MQTT" in found.text) == (State.FAIL, True)


def test_a_broker_that_lets_nobody_in(tmp_path: Path) -> None:
    passwords = tmp_path / "passwords"
    passwords.write_text("")
    with Broker.start(tmp_path, extra=[f"password_file {passwords}"]) as broker:
        text = (broker.folder / "mosquitto.conf").read_text().replace("allow_anonymous true", "allow_anonymous false")
        (broker.folder / "mosquitto.conf").write_text(text)
        broker.restart()
        (found,) = check_broker(config(tmp_path, broker={"address": broker.address}))
    assert (found.state, "refuses us: Not authorized" in found.text) == (State.FAIL, True)


def test_a_broker_whose_acl_forbids_acknowledgements(tmp_path: Path) -> None:
    if not DYNAMIC_SECURITY.exists():
        pytest.skip("Mosquitto's dynamic security plugin is not here")
    rights = tmp_path / "rights.json"
    access = {"publishClientSend": True, "publishClientReceive": True, "subscribe": False, "unsubscribe": True}
    rights.write_text(json.dumps({"defaultACLAccess": access, "clients": [], "groups": [], "roles": []}))
    extra = [f"plugin {DYNAMIC_SECURITY}", f"plugin_opt_config_file {rights}"]
    with Broker.start(tmp_path, extra=extra) as broker:
        (found,) = check_broker(config(tmp_path, broker={"address": broker.address}))
    assert (found.state, "may not read acknowledgements" in found.text) == (State.FAIL, True)
    assert "ACL" in found.remedy


@contextmanager
def tls_broker(folder: Path, authority: Authority, days: int) -> Iterator[Broker]:
    pair = authority.issue("broker", days)
    lines = [f"cafile {authority.pem}", f"certfile {pair.cert}", f"keyfile {pair.key}"]
    with Broker.start(folder, extra=lines) as broker:
        yield broker


@pytest.mark.parametrize(
    ("broker_days", "device_days", "wanted"),
    [
        (90, 90, {"broker certificate": "ok", "device certificate": "ok", "broker": "ok"}),
        (3, 90, {"broker certificate": "warn", "device certificate": "ok", "broker": "ok"}),
        (90, 3, {"broker certificate": "ok", "device certificate": "warn", "broker": "ok"}),
        (90, -3, {"broker certificate": "ok", "device certificate": "fail"}),
        (-3, 90, {"broker tls": "fail"}),
    ],
)
def test_certificates_that_end(tmp_path: Path, broker_days: int, device_days: int, wanted: dict[str, str]) -> None:
    authority = Authority(tmp_path)
    device = authority.issue("device", device_days)
    with tls_broker(tmp_path, authority, broker_days) as broker:
        section = {"address": broker.address, "ca": authority.pem, "cert": device.cert, "key": device.key}
        found = by_name(check_broker(config(tmp_path, broker=section)))
    assert states(found) == wanted


def test_an_authority_that_is_not_ours(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    with tls_broker(tmp_path, Authority(tmp_path), 90) as broker:
        section = {"address": broker.address, "ca": Authority(other).pem}
        (found,) = check_broker(config(tmp_path, broker=section))
        (missing,) = check_broker(config(tmp_path, broker={"address": broker.address, "ca": "/absent.pem"}))
    assert (found.name, found.state) == ("broker tls", State.FAIL)
    assert "is not trusted" in found.text
    assert (missing.state, missing.remedy) == (State.FAIL, "give a PEM file to --ca, --cert and --key")


def test_tls_at_a_port_without_it(tmp_path: Path) -> None:
    with Broker.start(tmp_path) as broker:
        section = {"address": broker.address, "ca": Authority(tmp_path).pem}
        (found,) = check_broker(config(tmp_path, broker=section))
    assert (found.name, found.state) == ("broker tls", State.FAIL)


def test_models_from_home(tmp_path: Path) -> None:
    served = tmp_path / "served"
    served.mkdir()
    with Web(served) as web:
        root = Station(tmp_path, web).folder / "root.json"
        updates = {"url": web.url, "trust": root}
        assert states(by_name(check_updates(config(tmp_path / "home", updates=updates)))) == {
            "trust root": "ok",
            "updates": "ok",
        }
        pinned = tmp_path / "home" / "updates" / "trusted-root.json"
        pinned.parent.mkdir(parents=True)
        shutil.copy(root, pinned)
        found = by_name(check_updates(config(tmp_path / "home", updates={"url": web.url})))
        assert str(pinned) in found["trust root"].text
        login = {"url": web.url.replace("://", "://walt:secret-word@"), "trust": root}
        found = by_name(check_updates(config(tmp_path / "home", updates=login)))
        assert (found["updates"].state, "secret-word" in str(found)) == (State.OK, False)
        assert any(web.logins - {None})
        web.answers["timestamp.json"] = failing
        assert "answers 503" in by_name(check_updates(config(tmp_path / "home", updates=updates)))["updates"].text
    found = by_name(check_updates(config(tmp_path / "home", updates=updates)))
    assert found["updates"].state is State.FAIL


@pytest.mark.parametrize("content", [None, "{}", "not JSON", '{"signatures": [], "signed": {"_type": "timestamp"}}'])
def test_no_root_to_trust(tmp_path: Path, content: str | None) -> None:
    root = tmp_path / "root.json"
    if content is not None:
        root.write_text(content)
    updates = {"url": f"http://walt:secret-word@{HOST}:{free_port()}", "trust": root}
    found = by_name(check_updates(config(tmp_path, updates=updates)))
    assert states(found) == {"trust root": "fail", "updates": "fail"}
    assert "secret-word" not in str(found)
    (none, _) = check_updates(config(tmp_path, updates={"url": f"http://{HOST}:{free_port()}"}))
    assert (none.state, none.remedy) == (State.FAIL, "give home's root.json as updates.trust")


def test_urls_of_other_kinds(tmp_path: Path) -> None:
    found = by_name(check_updates(config(tmp_path, updates={"url": "file:///etc"})))
    assert "no http:// or https:// URL" in found["updates"].text


def test_the_pages_port(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        (found,) = check_web(config(tmp_path, web={"port": port}))
        assert (found.state, "in use" in found.text) == (State.FAIL, True)
    (found,) = check_web(config(tmp_path, web={"port": free_port()}))
    assert found.state is State.OK
    (found,) = check_web(config(tmp_path, web={"token_file": "/absent"}))
    assert found.state is State.FAIL
    (found,) = check_web(config(tmp_path, web={"enabled": False}))
    assert found.text == "switched off"


def test_the_pages_certificate(tmp_path: Path) -> None:
    authority, token = Authority(tmp_path), "a-token-of-good-length"
    for days, state in ((300, State.OK), (9, State.WARN), (-2, State.FAIL)):
        pair = authority.issue(f"page{days}", days)
        web = {"port": free_port(), "host": "0.0.0.0", "token": token, "tls_cert": pair.cert, "tls_key": pair.key}
        found = by_name(check_web(config(tmp_path, web=web)))
        assert (found["page certificate"].state, found["web page"].state) == (state, State.OK)
    other = authority.issue("other", 9)
    (found_,) = check_web(config(tmp_path, web={**web, "tls_key": other.key}))
    assert (found_.state, found_.remedy) == (State.FAIL, "give the key that it was made with")
    plain = by_name(check_web(config(tmp_path, web={"port": free_port(), "host": "0.0.0.0", "token": token})))
    assert plain["page certificate"].state is State.WARN
    assert "web.tls_cert" in plain["page certificate"].remedy


def test_the_page_of_a_running_agent_that_speaks_tls(tmp_path: Path) -> None:
    pair = Authority(tmp_path).issue("page", 300)
    served = tmp_path / "served"
    served.mkdir()
    (served / "livez").write_text("ok")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    with Home(tmp_path / "home"), Web(served, context) as web:
        told = {"port": int(web.url.rpartition(":")[2]), "tls_cert": pair.cert, "tls_key": pair.key}
        found = by_name(check_web(config(tmp_path / "home", web=told)))
    assert (found["web page"].state, "https://127.0.0.1" in found["web page"].text) == (State.OK, True)


def test_the_page_of_a_running_agent(tmp_path: Path) -> None:
    served = tmp_path / "served"
    served.mkdir()
    (served / "livez").write_text("ok")
    with Home(tmp_path / "home"), Web(served) as web:
        port = int(web.url.rpartition(":")[2])
        (found,) = check_web(config(tmp_path / "home", web={"port": port}))
        assert (found.state, "answers" in found.text) == (State.OK, True)
        web.answers["livez"] = failing
        (found,) = check_web(config(tmp_path / "home", web={"port": port}))
        assert found.state is State.FAIL
