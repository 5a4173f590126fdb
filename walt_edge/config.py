"""What an agent is told once: its folder, its name in the world, its broker.

The folder (`--home`) belongs to one agent at a time. `device.json` in it holds the device's id, made at the first
start and kept for good, and the names that a person gave by flags.
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

import msgspec

from walt_edge.contract.closing import Closing
from walt_edge.contract.errors import UsageError, WaltError
from walt_edge.contract.files import write_whole
from walt_edge.contract.topics import TopicError, check_name

LOG = logging.getLogger(__name__)

DEFAULT_PORT = 1883
DEFAULT_CAMERA = "cam-1"
"""What a camera is called that nobody named, on a device that no home knows."""
_DEVICE_FILE = "device.json"
_LOCK_FILE = "lock"


class HomeError(WaltError):
    """The agent's folder cannot be used."""


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """Who this agent is.

    Attributes:
        device: Globally unique id; never changes.
        site: The site's name.
        camera: The camera's name on this device.
    """

    device: str
    site: str = "home"
    camera: str = DEFAULT_CAMERA

    def __post_init__(self) -> None:
        for what in ("device", "site", "camera"):
            check_name(getattr(self, what), what)


class _Kept(msgspec.Struct, frozen=True, kw_only=True):
    """The content of `device.json`: a `Device` whose camera is there only if a person named it."""

    device: str
    site: str = "home"
    camera: str | msgspec.UnsetType = msgspec.UNSET

    def __post_init__(self) -> None:
        self.named(DEFAULT_CAMERA)

    def named(self, unnamed: str) -> Device:
        """Who this is; `unnamed` is what a camera without a name is called."""
        camera = unnamed if isinstance(self.camera, msgspec.UnsetType) else self.camera
        return Device(device=self.device, site=self.site, camera=camera)


@dataclass(frozen=True, slots=True)
class Tls:
    """How to trust the broker and be trusted by it.

    Attributes:
        ca: File of the certificate authority, or None for the system's.
        cert: This device's certificate, or None.
        key: Its private key, or None.
    """

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    def __post_init__(self) -> None:
        for path in (self.ca, self.cert, self.key):
            if path is not None and not path.is_file():
                raise UsageError(f"no such file: {path}; give a PEM file to --ca, --cert and --key")
        if (self.cert is None) != (self.key is None):
            raise UsageError("--cert and --key belong together: give both or none")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the broker is.

    Attributes:
        host: Name or address.
        port: TCP port.
        tls: None for plain TCP.
    """

    host: str
    port: int
    tls: Tls | None = None

    @classmethod
    def parse(cls, text: str, tls: Tls | None = None) -> Endpoint:
        """Parses HOST, HOST:PORT or [IPV6]:PORT; raises UsageError."""
        host, _, port = text.rpartition(":") if ":" in text and not text.endswith("]") else (text, "", "")
        bare = host.removeprefix("[").removesuffix("]")
        number = int(port) if port.isascii() and port.isdigit() else 0 if port or text.endswith(":") else DEFAULT_PORT
        is_bracketed = host.startswith("[") and host.endswith("]")
        if (
            not bare
            or not 0 < number < 65536
            or "/" in bare
            or any(map(str.isspace, bare))
            or (":" in bare and not is_bracketed)
        ):
            raise UsageError(f"broker '{text}' is not HOST:PORT, as in home.local:1883 or [::1]:1883")
        return cls(bare, number, tls)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class Home(Closing):
    """The agent's folder, held for this process until `close` or the process's end, however it ends.

    Attributes:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        """Makes the folder if need be and locks it.

        Raises:
            HomeError: It cannot be written, or another agent holds it.
        """
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(path / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise HomeError(
                f"cannot write in {path}: {error.strerror}; give a folder of yours with --home"
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise HomeError(
                f"another agent is using {path}: stop it, or give each agent a folder of its own with --home"
            ) from error

    def device(self, site: str | None = None, camera: str | None = None, unnamed: str = DEFAULT_CAMERA) -> Device:
        """Who this agent is; made at the first call, names given here are kept for the next start.

        Args:
            site: The site's name.
            camera: The camera's name.
            unnamed: What the camera is called if no name was given, now or before; it is not kept.

        Raises:
            HomeError: `device.json` is malformed or cannot be written.
            TopicError: A name cannot stand in a topic.
        """
        path = self.path / _DEVICE_FILE
        known = self._read(path)
        device = known or _Kept(device=f"walt-{secrets.token_hex(8)}")
        given = {key: value for key, value in (("site", site), ("camera", camera)) if value is not None}
        device = msgspec.structs.replace(device, **given)
        if device != known:
            self._write(path, device)
        return device.named(unnamed)

    def known(self) -> Device | None:
        """Who this agent is, None before its first start; raises HomeError if `device.json` cannot be read."""
        kept = self._read(self.path / _DEVICE_FILE)
        return None if kept is None else kept.named(DEFAULT_CAMERA)

    def adopt(self, device: str, site: str) -> Device:
        """Has this agent be who home says it is, now and at every start.

        Raises:
            HomeError: It is another already, or `device.json` is malformed or cannot be written.
            TopicError: A name cannot stand in a topic.
        """
        path = self.path / _DEVICE_FILE
        known = self._read(path)
        if known is not None and known.device != device:
            raise HomeError(
                f"{path} says that this device is {known.device}, its certificate says {device}: restore the file, "
                "or enrol this device anew (walt-edge enroll)"
            )
        adopted = msgspec.structs.replace(known or _Kept(device=device), site=site)
        if adopted != known:
            self._write(path, adopted)
        return adopted.named(DEFAULT_CAMERA)

    def close(self) -> None:
        """Lets go of the folder."""
        os.close(self._lock)

    def _read(self, path: Path) -> _Kept | None:
        try:
            return msgspec.json.decode(path.read_bytes(), type=_Kept)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError, UnicodeDecodeError, TopicError) as error:
            raise HomeError(
                f"{path} holds this device's id and cannot be read ({error}): restore it, or remove it for a new id"
            ) from error

    def _write(self, path: Path, device: _Kept) -> None:
        try:
            write_whole(path, msgspec.json.format(msgspec.json.encode(device), indent=1) + b"\n")
        except OSError as error:
            raise HomeError(f"cannot write {path}: {error.strerror}; free disk or give another --home") from error
        LOG.info("this device is %s, site %s", device.device, device.site)
