"""What is reached over the network: the broker, home's models, and the port of the agent's own page."""

from __future__ import annotations

import datetime
import queue
import socket
import ssl
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from walt_edge.config import Endpoint, Tls
from walt_edge.contract.errors import UsageError, WaltError
from walt_edge.contract.redaction import redact
from walt_edge.contract.topics import DeviceTopics
from walt_edge.doctor import Check, Finding, fail, ok, told, warn
from walt_edge.doctor.folder import agent_pid, identity
from walt_edge.identity.credentials import IdentityError
from walt_edge.identity.using import endpoint_of, uses_enrolment
from walt_edge.settings.tree import AgentConfig
from walt_edge.web.settings import is_loopback
from walt_edge.web.tls import Certificate

_ANSWER_S: Final = 5.0
_EXPIRES_DAYS: Final = 30
_TLS_PORT: Final = 8883
_METADATA_MAX_BYTES: Final = 1 << 20


def check_broker(config: AgentConfig) -> Iterator[Finding]:
    """Connection, encryption, certificates, and whether home's acknowledgements may be read."""
    try:
        endpoint = endpoint_of(config)
    except (UsageError, IdentityError) as error:
        yield told("broker", error)
        return
    try:
        with closing(socket.create_connection((endpoint.host, endpoint.port), _ANSWER_S)):
            pass
    except OSError as error:
        remedy = "check broker.address, the network, and that the broker runs; what is seen waits in the spool"
        yield fail("broker", f"{endpoint}: {error.strerror or error}", remedy)
        return
    if endpoint.tls is not None:
        handshake = list(_tls(endpoint, endpoint.tls, config.broker.cert))
        yield from handshake
        if any(finding.remedy and finding.state == "fail" for finding in handshake):
            return
        if agent_pid(config.home) and uses_enrolment(config):
            # A certificate is one client at home's broker: asking as well would end the agent's connection.
            yield ok("broker", f"{endpoint}, TLS; the running agent speaks there as this device")
            return
    yield _mqtt(config, endpoint)


def check_updates(config: AgentConfig) -> Iterator[Finding]:
    """Whether home's models can be fetched, and whom this device believes."""
    if config.updates.url is None:
        yield ok("updates", "none: this device takes no models from home")
        return
    yield _trust_root(config)
    url, ca = config.updates.url.get_secret_value().rstrip("/"), config.updates.ca
    if not url.startswith(("http://", "https://")):
        yield fail("updates", f"{redact(url)} is no http:// or https:// URL", "mend updates.url")
    elif ca is not None and not ca.is_file():
        yield fail("updates", f"no such file: {ca}", "give a PEM file as updates.ca")
    else:
        yield _served(url, ca)


def check_web(config: AgentConfig) -> Iterator[Finding]:
    """The agent's page: its token, certificate and port, and whether it answers where an agent runs."""
    web = config.web
    if not web.enabled:
        yield ok("web page", "switched off")
        return
    try:
        web.secret()
        if web.tls_cert is not None:
            Certificate(web.tls_cert, web.tls_key)
    except WaltError as error:
        yield told("web page", error)
        return
    if web.tls_cert is not None:
        yield _expiry("page certificate", web.tls_cert, "", "renew it; the agent takes over the new files")
    elif not is_loopback(web.host):
        remedy = "give web.tls_cert and web.tls_key, or put a TLS proxy before it"
        yield warn("page certificate", f"none: on {web.host} its token travels unencrypted", remedy)
    where = f"{web.host}:{web.port}"
    if web.port == 0:
        yield ok("web page", f"{web.host}, any free port")
    elif agent_pid(config.home):
        yield _alive(web.host, web.port, is_tls=web.tls_cert is not None)
    else:
        yield _free(web.host, web.port, where)


CHECKS: Final[tuple[Check, ...]] = (check_broker, check_updates, check_web)


def _tls(endpoint: Endpoint, tls: Tls, own: Path | None) -> Iterator[Finding]:
    try:
        context = ssl.create_default_context(cafile=str(tls.ca) if tls.ca else None)
        if tls.cert is not None:
            context.load_cert_chain(tls.cert, tls.key)
    except (OSError, ssl.SSLError) as error:
        yield fail("broker tls", f"a certificate or key cannot be used: {error}", "check broker.ca, .cert and .key")
        return
    try:
        with (
            closing(socket.create_connection((endpoint.host, endpoint.port), _ANSWER_S)) as plain,
            context.wrap_socket(plain, server_hostname=endpoint.host) as secured,
        ):
            theirs, spoken = secured.getpeercert(binary_form=True), secured.version()
    except ssl.SSLCertVerificationError as error:
        remedy = "give the authority that signed the broker's certificate (broker.ca), and the name that is in it"
        yield fail("broker tls", f"{endpoint} is not trusted: {error.verify_message}", remedy)
        return
    except OSError as error:
        remedy = f"is this the TLS port (mostly {_TLS_PORT})? does the broker want a certificate of ours?"
        yield fail("broker tls", f"{endpoint}: {error.strerror or error}", remedy)
        return
    assert theirs is not None
    yield _expiry("broker certificate", theirs, f"{spoken}, ", "renew the broker's certificate")
    if own is not None:
        yield _expiry("device certificate", own, "", "enrol this device anew")


def _expiry(name: str, certificate: bytes | Path, before: str, remedy: str) -> Finding:
    # Read whole only here, since cryptography takes its time to import.
    from cryptography import x509

    try:
        if isinstance(certificate, Path):
            end = x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc
        else:
            end = x509.load_der_x509_certificate(certificate).not_valid_after_utc
    except ValueError as error:
        return fail(name, f"cannot be read: {error}", remedy)
    left = (end - datetime.datetime.now(datetime.UTC)).days
    text = f"{before}valid until {end:%Y-%m-%d} ({left} days)"
    if left < 0:
        return fail(name, text, remedy)
    return warn(name, text, remedy) if left < _EXPIRES_DAYS else ok(name, text)


def _mqtt(config: AgentConfig, endpoint: Endpoint) -> Finding:
    """Connects as somebody else than the agent, whose connection the broker would end, and asks for its acks."""
    try:
        device = identity(config.home)
    except (OSError, ValueError, WaltError):
        device = None
    name = device.device if device else "walt-doctor"
    topics = DeviceTopics(config.site or (device.site if device else "home"), name)
    answers: queue.SimpleQueue[str] = queue.SimpleQueue()
    client = _client(f"{name}-doctor", endpoint.tls, topics.acks, answers)
    try:
        client.connect(endpoint.host, endpoint.port, keepalive=30, clean_start=True)
        client.loop_start()
        refused = answers.get(timeout=_ANSWER_S)
    except queue.Empty:
        return fail(
            "broker", f"{endpoint} does not speak MQTT", "is this the MQTT port, and is TLS asked for on both sides?"
        )
    except (OSError, ValueError) as error:
        return fail("broker", f"{endpoint}: {error}", "check the broker's log")
    finally:
        client.disconnect()
        client.loop_stop()
    if refused:
        return fail("broker", f"{endpoint}: {refused}", f"let {name} read {topics.acks} in the broker's ACL")
    return ok("broker", f"{endpoint}, MQTT 5, {topics.acks} may be read")


def _client(name: str, tls: Tls | None, topic: str, answers: queue.SimpleQueue[str]) -> Any:
    from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
    from paho.mqtt.subscribeoptions import SubscribeOptions

    from walt_edge.uplink.mqtt import StoppableClient

    client = StoppableClient(
        CallbackAPIVersion.VERSION2, client_id=name, protocol=MQTTProtocolVersion.MQTTv5, reconnect_on_failure=False
    )
    client.connect_timeout = _ANSWER_S
    if tls is not None:
        ca, cert, key = (str(path) if path else None for path in (tls.ca, tls.cert, tls.key))
        client.tls_set(ca, cert, key)

    def connected(client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            answers.put(f"the broker refuses us: {reason}")
        else:
            client.subscribe([(topic, SubscribeOptions(qos=1))])

    def subscribed(_client: Any, _data: Any, _mid: Any, reasons: Any, _properties: Any) -> None:
        answers.put("".join(f"may not read acknowledgements: {one}" for one in reasons if one.is_failure))

    client.on_connect, client.on_subscribe = connected, subscribed
    return client


def _trust_root(config: AgentConfig) -> Finding:
    """The root that is pinned, or will be."""
    from tuf.api.exceptions import RepositoryError
    from tuf.api.metadata import Metadata, Root

    pinned = config.home / "updates" / "trusted-root.json"
    path = pinned if pinned.exists() else config.updates.trust
    if path is None:
        return fail("trust root", "none is pinned and none is given", "give home's root.json as updates.trust")
    try:
        root = Root.from_dict(Metadata[Root].from_bytes(path.read_bytes()).signed.to_dict())
    except (OSError, ValueError, KeyError, RepositoryError) as error:
        return fail("trust root", f"{path} is no root: {error}", "give home's root.json as updates.trust")
    text = f"{path}, version {root.version}, until {root.expires:%Y-%m-%d}"
    if root.is_expired():
        # Not in the way: a newer root comes by TUF's own chain.
        return warn("trust root", f"{text}: expired", "home must sign a new root (walt-loop keys renew)")
    return ok("trust root", text)


def _served(url: str, ca: Path | None) -> Finding:
    """Asks as the agent would: with its login, its authorities and its proxy."""
    from tuf.api.exceptions import DownloadError, DownloadHTTPError

    from walt_edge.update.fetcher import Fetcher, FetchLimits

    limits = FetchLimits(connect_s=_ANSWER_S, silence_s=_ANSWER_S, total_s=2 * _ANSWER_S)
    try:
        with tempfile.TemporaryDirectory() as folder:
            Fetcher(Path(folder), limits, ca).download_bytes(f"{url}/metadata/timestamp.json", _METADATA_MAX_BYTES)
    except DownloadHTTPError as error:
        remedy = "updates.url is the folder that holds metadata/ and targets/ (walt-loop publish --repository)"
        return fail("updates", f"{redact(url)} answers {error.status_code}", remedy)
    except (OSError, WaltError, DownloadError) as error:
        return fail("updates", redact(str(error)), "check updates.url, updates.ca and the network")
    return ok("updates", redact(url))


def _alive(host: str, port: int, *, is_tls: bool) -> Finding:
    shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104 (compared, not bound)
    url = f"http{'s' if is_tls else ''}://{f'[{shown}]' if ':' in shown else shown}:{port}/livez"
    # Its certificate names the device as others call it, and this is the device itself: only life is asked for.
    unverified = ssl.create_default_context()
    unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
    try:
        with urllib.request.urlopen(url, timeout=_ANSWER_S, context=unverified) as answer:  # noqa: S310 (ours)
            answer.read(1)
    except OSError as error:
        return fail("web page", f"{url}: {getattr(error, 'reason', error)}", "look into the agent's log")
    return ok("web page", f"{url} answers")


def _free(host: str, port: int, where: str) -> Finding:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        return fail("web page", f"{where}: {error.strerror}", "give web.port another number, 0 for any free one")
    return ok("web page", f"{where} is free")
