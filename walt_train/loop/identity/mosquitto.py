"""Mosquitto's configuration, its access list and its list of revoked certificates, written from what is known here.

Two doors. Devices come by the first: their certificate is their name, and their name is their client id, so that
nobody can end or take over another's session, home's least of all. Home's workers come by the second, which believes
home's own authority and no device's.

Mosquitto checks what is delivered, not what is subscribed to. A device may therefore subscribe to anything, and gets
what it may read. One thing follows: whoever joins a shared subscription takes its turns, even for what is then not
delivered. The group in which the ingest shares its load has for that reason a name that nobody can guess.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from walt_edge.contract.errors import UsageError, WaltError
from walt_edge.contract.files import write_private, write_whole
from walt_edge.contract.messages import MAX_ENVELOPE_BYTES
from walt_edge.contract.topics import ROOT, DeviceTopics, Kind
from walt_train.loop.broker.arguments import ADDRESS_FILE, AUTHORITY_FILE, GROUP_FILE, HOME, INGEST, ROLES
from walt_train.loop.identity.authority import Authority, Clock, Revoked, common_name, utc_now
from walt_train.loop.identity.pairs import keep_server, keep_worker

CONFIG: Final = "mosquitto.conf"

# Topic and properties on top of the largest envelope.
_MAX_PACKET_BYTES = MAX_ENVELOPE_BYTES + 64 * 1024
_OWN_WRITE: Final = ("status", "info", "reported", "telemetry", *(f"{kind.value}/+" for kind in Kind))
_OWN_READ: Final = ("desired", "resend", "ack/+")
_TOLD: Final = ("status", "info", "reported", "telemetry", "desired", "resend")


class BrokerFilesError(WaltError):
    """The broker's files cannot be written."""


class Address(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where home is met; kept in the authorities' folder.

    Attributes:
        hosts: Names and addresses of the broker and of home's HTTPS; devices are told the first.
        listen: Where the broker's door for devices listens; "" for everywhere.
        port: Its port.
        workers_host: Where the broker's door for home's workers listens.
        workers_port: Its port.
        enroll_port: HTTPS port of the enrolment.
        user: Whom Mosquitto becomes if it is started as root.
        folder: Where Mosquitto's files are.
        seen_as: That folder's path where Mosquitto runs, if it is another (in a container).
    """

    hosts: tuple[str, ...]
    listen: str = ""
    port: int = 8883
    workers_host: str = "127.0.0.1"
    workers_port: int = 8884
    enroll_port: int = 8843
    user: str = "mosquitto"
    folder: str = ""
    seen_as: str = ""

    @property
    def broker_names(self) -> tuple[str, ...]:
        """Every name by which the broker is met: home's workers meet it on this machine."""
        own = [name for name in (self.workers_host,) if name not in ("", "0.0.0.0", "::")]  # noqa: S104 (compared)
        return tuple(dict.fromkeys((*self.hosts, *own, "localhost", "127.0.0.1")))

    @property
    def broker(self) -> str:
        """HOST:PORT that devices are told."""
        return f"{_bracketed(self.hosts[0])}:{self.port}"

    @property
    def workers_broker(self) -> str:
        """HOST:PORT by which home's workers meet the broker."""
        everywhere = self.workers_host in ("", "0.0.0.0", "::")  # noqa: S104 (compared)
        return f"{_bracketed(self.hosts[0] if everywhere else self.workers_host)}:{self.workers_port}"

    @property
    def url(self) -> str:
        """https://HOST:PORT of the enrolment."""
        return f"https://{_bracketed(self.hosts[0])}:{self.enroll_port}"

    def write(self, folder: Path) -> None:
        """Keeps it in the authorities' folder."""
        write_whole(folder / "address.json", msgspec.json.format(msgspec.json.encode(self)) + b"\n")

    @classmethod
    def read(cls, folder: Path) -> Address:
        """What `write` kept; raises UsageError if nothing was."""
        try:
            return msgspec.json.decode((folder / "address.json").read_bytes(), type=cls)
        except (OSError, msgspec.DecodeError) as error:
            raise UsageError(f"{folder} does not say where home is: walt-loop broker --host NAME first") from error


@dataclass(frozen=True, slots=True)
class Revocations:
    """What no longer counts.

    Attributes:
        certificates: Refused at the next connection.
        devices: May do nothing any more, though they may still be connected.
    """

    certificates: tuple[Revoked, ...] = ()
    devices: tuple[DeviceTopics, ...] = ()


NOTHING: Final = Revocations()


class BrokerFiles:
    """A folder from which Mosquitto is run.

    Attributes:
        folder: Made if absent: `mosquitto.conf`, `acl`, `devices.crl`, `devices-ca.pem`, `home-ca.pem`, `broker.pem`
            and `data/`, where Mosquitto keeps what outlives it.

    Args:
        authority: Signs the broker's certificate and the revocations.
        address: Names, ports, folder.
        clock: What time it is.
    """

    def __init__(self, authority: Authority, address: Address, clock: Clock = utc_now) -> None:
        self.folder = Path(address.folder)
        self._authority = authority
        self._address = address
        self._clock = clock

    def write(self, revocations: Revocations = NOTHING) -> None:
        """Writes all; a certificate that still lasts stays. The broker must then be started, or told (`reload`).

        Args:
            revocations: Who is refused.

        Raises:
            BrokerFilesError: A file cannot be written.
            UsageError: A name in the address is none.
        """
        folder, authority = self.folder, self._authority
        try:
            (folder / "data").mkdir(parents=True, exist_ok=True)
            write_whole(folder / "home-ca.pem", authority.home_pem)
            write_whole(folder / "devices-ca.pem", authority.devices_pem)
            keep_server(authority, folder / "broker.pem", self._address.broker_names, self._clock())
            self.revoke(revocations)
            write_whole(folder / CONFIG, _config(self._address).encode())
            self._give_away()
        except OSError as error:
            raise BrokerFilesError(f"cannot write in {folder}: {error.strerror}; give another --write") from error

    def revoke(self, revocations: Revocations) -> None:
        """Writes what refuses certificates, and what silences connections that stand.

        Raises:
            OSError: A file cannot be written.
        """
        write_whole(self.folder / "devices.crl", self._authority.revocation_list(revocations.certificates))
        write_whole(self.folder / "acl", access_list(map(common_name, revocations.devices)).encode())

    def reload(self) -> bool:
        """Tells the broker that runs from this folder to read its lists anew; False if none was found here."""
        try:
            pid = int((self.folder / "data" / "mosquitto.pid").read_text())
            if Path(f"/proc/{pid}/comm").read_text().strip() != "mosquitto":
                return False
            os.kill(pid, signal.SIGHUP)
        except (OSError, ValueError):
            return False
        return True

    def _give_away(self) -> None:
        """Mosquitto reads its key after it has become another user, and again whenever it reloads."""
        if os.geteuid() == 0 and self._address.user != "root":
            for name in ("data", "broker.pem"):
                try:
                    shutil.chown(self.folder / name, self._address.user)
                except LookupError:
                    return  # no such user on this machine: in a container there is


def write_workers(folder: Path, authority: Authority, address: Address, clock: Clock = utc_now) -> None:
    """What home's workers need at the broker, to be copied to whatever machine they run on.

    `home-ca.pem`, `NAME.pem` each (certificate and key), `ingest-group`, and `broker`, its address.

    Raises:
        BrokerFilesError: A file cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_whole(folder / AUTHORITY_FILE, authority.home_pem)
        write_whole(folder / ADDRESS_FILE, f"{address.workers_broker}\n".encode())
        for name in ROLES:
            keep_worker(authority, folder / f"{name}.pem", name, clock())
        if not (folder / GROUP_FILE).exists():
            write_private(folder / GROUP_FILE, f"ingest-{secrets.token_hex(16)}\n".encode())
    except OSError as error:
        raise BrokerFilesError(f"cannot write in {folder}: {error.strerror}; give another --home") from error


def access_list(silenced: Iterable[str] = ()) -> str:
    """Who may read and write what; `%u` is SITE/DEVICE, as the certificate says.

    Args:
        silenced: Names of devices that may do nothing, though they may still be connected.
    """
    lines = ["# Written by walt-loop; what is changed here is lost.", "", "# devices"]
    lines += [f"pattern write {ROOT}/%u/{leaf}" for leaf in _OWN_WRITE]
    lines += [f"pattern read {ROOT}/%u/{leaf}" for leaf in _OWN_READ]
    lines += ["", f"user {INGEST}"]
    lines += [f"topic read {ROOT}/+/+/{kind.value}/+" for kind in Kind] + [f"topic write {ROOT}/+/+/ack/+"]
    lines += ["", f"user {HOME}"]
    lines += [f"topic read {ROOT}/+/+/{leaf}" for leaf in _TOLD]
    lines += [f"topic write {ROOT}/+/+/{leaf}" for leaf in ("desired", "resend")]
    lines += ["topic read $SYS/broker/#"]
    for name in sorted(silenced):
        lines += ["", f"user {name}", "topic deny #"]
    return "\n".join(lines) + "\n"


def _config(address: Address) -> str:
    folder = address.seen_as or Path(address.folder).absolute()
    return f"""\
# Written by walt-loop; what is changed here is lost.
user {address.user}
pid_file {folder}/data/mosquitto.pid
log_dest stderr
log_type error
log_type warning
log_type notice

allow_anonymous false
acl_file {folder}/acl

persistence true
persistence_location {folder}/data/
autosave_interval 60
persistent_client_expiration 14d
max_packet_size {_MAX_PACKET_BYTES}
max_inflight_messages 64
max_queued_messages 10000
max_queued_bytes {256 << 20}
max_keepalive 300
queue_qos0_messages false
set_tcp_nodelay true

# Devices.
listener {address.port} {address.listen}
cafile {folder}/devices-ca.pem
crlfile {folder}/devices.crl
{_door(folder)}
use_username_as_clientid true

# Home's own workers.
listener {address.workers_port} {address.workers_host}
cafile {folder}/home-ca.pem
{_door(folder)}
"""


def _door(folder: Path | str) -> str:
    return f"""\
certfile {folder}/broker.pem
keyfile {folder}/broker.pem
tls_version tlsv1.2
require_certificate true
use_identity_as_username true"""


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host
