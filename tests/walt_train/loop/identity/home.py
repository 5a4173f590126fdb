"""A home for tests: authorities, devices with certificates, a broker of its own, and clients at its doors."""

from __future__ import annotations

import datetime
import gc
import getpass
import json
import socket
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from paho.mqtt.enums import CallbackAPIVersion

from tests.broker import HOST, Broker, free_port
from tests.waiting import wait_for
from walt_edge.contract.enrolment import PREFIX, EnrolRequest, Token
from walt_edge.contract.topics import DeviceTopics
from walt_train.loop.identity.authority import Authority, DeviceCertificate, utc_now
from walt_train.loop.identity.desk import Desk
from walt_train.loop.identity.mosquitto import Address, BrokerFiles, write_workers
from walt_train.loop.identity.pairs import keep_server
from walt_train.loop.identity.registry import Registry
from walt_train.loop.identity.service import Attempts, make_app
from walt_train.loop.serve.http import HttpConfig, HttpServer
from walt_train.loop.store.config import StoreConfig
from walt_train.loop.store.database import open_database

BEGIN = datetime.datetime(2026, 11, 23, 12, tzinfo=datetime.UTC)
SETTLED_S = 20.0
JSON = {"content-type": "application/json"}


@dataclass
class Hand:
    """A clock that is set by hand."""

    now: datetime.datetime = BEGIN

    def __call__(self) -> datetime.datetime:
        return self.now

    def day(self, days: float) -> None:
        """So many days after the beginning."""
        self.now = BEGIN + datetime.timedelta(days=days)


def make_request(key: Any, common: str = "somebody else", **extensions: x509.ExtensionType) -> str:
    """A certificate request, PEM."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    for extension in extensions.values():
        builder = builder.add_extension(extension, critical=True)
    algorithm = hashes.SHA256() if hasattr(key, "curve") or hasattr(key, "key_size") else None
    return builder.sign(key, algorithm).public_bytes(Encoding.PEM).decode()


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A key as PEM."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@dataclass
class House:
    """The files of a home and its broker.

    Attributes:
        folder: Where all lies.
        authority: Its authorities.
        address: Its ports.
        files: The broker's.
    """

    folder: Path
    authority: Authority
    address: Address
    files: BrokerFiles

    @classmethod
    def build(cls, folder: Path, clock: Callable[[], datetime.datetime] = utc_now) -> House:
        """Everything but a running broker."""
        authority = Authority.make(folder / "identity", clock)
        address = Address(
            hosts=(HOST, "localhost"),
            listen=HOST,
            port=free_port(),
            workers_port=free_port(),
            enroll_port=free_port(),
            user=getpass.getuser(),
            folder=str(folder / "mosquitto"),
        )
        address.write(authority.folder)
        files = BrokerFiles(authority, address, clock)
        files.write()
        write_workers(folder / "workers", authority, address, clock)
        return cls(folder, authority, address, files)

    def start_broker(self) -> Broker:
        """Mosquitto, from the written files alone."""
        broker = Broker(self.files.folder, HOST, self.address.port)
        broker.restart()
        wait_for(self._workers_door_is_open, SETTLED_S)  # Mosquitto opens one door after the other
        return broker

    def _workers_door_is_open(self) -> bool:
        try:
            socket.create_connection((HOST, self.address.workers_port), timeout=1).close()
        except OSError:
            return False
        return True

    def device(self, site: str, name: str, authority: Authority | None = None) -> tuple[Path, DeviceCertificate]:
        """A device's certificate and key in one file."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (authority or self.authority).issue_device(DeviceTopics(site, name), key.public_key())
        path = self.folder / f"{certificate.serial}.pem"
        path.write_bytes(certificate.pem + key_pem(key))
        return path, certificate

    def worker(self, name: str) -> Path:
        """The file of one of home's workers."""
        return self.folder / "workers" / f"{name}.pem"


@dataclass
class Caller:
    """An MQTT client that notes what it is told.

    Attributes:
        got: Topics of what was delivered.
        answers: What the broker said to each publication, by message id.
    """

    house: House
    pem: Path | None
    port: int
    client_id: str
    will: str = ""
    got: list[str] = field(default_factory=list)
    answers: dict[int, str] = field(default_factory=dict)
    granted: list[bool] = field(default_factory=list)
    state: str = ""

    def __enter__(self) -> Caller:
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2, self.client_id, protocol=mqtt.MQTTv5, reconnect_on_failure=False
        )
        pem = str(self.pem) if self.pem else None
        client.tls_set(str(self.house.authority.folder / "home-ca.pem"), pem, pem)
        if self.will:
            client.will_set(self.will, b"gone", qos=1, retain=True)
        client.on_connect = lambda _c, _u, _f, reason, _p: self._become(str(reason))
        client.on_disconnect = lambda _c, _u, _f, reason, _p: self._become(f"lost: {reason}")
        client.on_message = lambda _c, _u, message: self.got.append(message.topic)
        client.on_publish = lambda _c, _u, mid, reason, _p: self.answers.update({mid: str(reason)})
        client.on_subscribe = lambda _c, _u, _m, reasons, _p: self.granted.extend(
            not one.is_failure for one in reasons
        )
        self.client = client
        try:
            client.connect(HOST, self.port, 60, clean_start=True)
        except OSError as error:
            self.state = f"refused: {error}"
            return self
        client.loop_start()
        wait_for(lambda: self.state != "")
        return self

    def __exit__(self, *error: object) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    @property
    def is_in(self) -> bool:
        """Whether the broker has taken it."""
        return self.state == "Success"

    def say(self, topic: str, payload: bytes = b"x", retain: bool = False) -> str:
        """Publishes with QoS 1; what the broker answers."""
        sent = self.client.publish(topic, payload, qos=1, retain=retain)
        wait_for(lambda: sent.mid in self.answers)
        return self.answers.pop(sent.mid)

    def hear(self, *filters: str) -> None:
        """Subscribes, and waits for the broker's answer."""
        assert self.is_in, self.state
        before = len(self.granted)
        self.client.subscribe([(one, 1) for one in filters])
        wait_for(lambda: len(self.granted) == before + len(filters))

    def vanish(self) -> None:
        """Closes the connection without a word, so that the broker publishes the last will."""
        sock = self.client.socket()
        assert sock is not None
        sock.close()

    def _become(self, state: str) -> None:
        self.state = state


def p256() -> ec.EllipticCurvePrivateKey:
    """A key as a device makes it."""
    return ec.generate_private_key(ec.SECP256R1())


class Served:
    """A desk that is served, and its registry."""

    def __init__(self, house: House, url: str, registry: Registry, desk: Desk) -> None:
        self.house, self.url, self.registry, self.desk = house, url, registry, desk
        self.openapi = make_app(desk).openapi()
        self.session = requests.Session()
        self.session.trust_env = False  # no proxy and no authorities of this machine
        self.session.verify = str(house.authority.folder / "home-ca.pem")

    def post(self, path: str, body: object, headers: dict[str, str] | None = None) -> requests.Response:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.session.post(
            f"{self.url}{PREFIX}{path}", data=data, headers=JSON if headers is None else headers, timeout=20
        )

    def token(self) -> Token:
        return self.registry.make_token(self.house.authority.fingerprint, "north")

    @cached_property
    def good(self) -> dict[str, dict[str, str]]:
        """Bodies in which all is right but one thing: the token is spent, the certificate is too new."""
        token, request = self.token(), make_request(p256())
        enrolled = self.desk.enrol(EnrolRequest(token=str(token), request=request, device="walt-known"))
        enrol = {"token": str(token), "request": make_request(p256()), "device": "walt-known"}
        renew = {"certificate": enrolled.certificate, "request": request, "nonce": self.desk.nonce().nonce}
        return {"/enroll": enrol, "/renew": renew | {"signature": "00" * 70}}


@contextmanager
def serving(
    folder: Path, attempts: Attempts | None = None, clock: Callable[[], datetime.datetime] = utc_now
) -> Iterator[Served]:
    """A home's desk by real HTTPS, its broker not yet started."""
    house = House.build(folder, clock)
    engine = open_database(StoreConfig.local(folder).database)
    registry = Registry(engine, clock)
    pem = folder / "server.pem"
    keep_server(house.authority, pem, (HOST,), clock())
    desk = Desk(house.authority, registry, house.address, clock)
    with HttpServer(make_app(desk, attempts), HttpConfig(host=HOST, tls_cert=pem)) as server:
        served = Served(house, server.url.rstrip("/"), registry, desk)
        yield served
        served.session.close()
    engine.dispose()
    # asyncio leaves a TLS connection that the other side dropped to the garbage collector when its loop ends.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def until_connected(make: Callable[[], Caller]) -> Caller:
    """A broker that was told to reload does so soon, not at once."""
    deadline = time.monotonic() + SETTLED_S
    while True:
        caller = make().__enter__()
        if caller.is_in or time.monotonic() > deadline:
            return caller
        caller.__exit__()
