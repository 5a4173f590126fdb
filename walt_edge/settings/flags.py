"""Flags that say parts of an agent's configuration, shared by the commands that take one."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from walt_edge.contract.errors import UsageError
from walt_edge.settings.sources import Assignment, Key, Sources, find_unknown, known_keys, read_value
from walt_edge.settings.tree import AgentConfig, CameraConfig

_NAMED_URL = re.compile(r"(?P<name>[^=/:]*)=(?P<url>rtsps?://.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class _Flag:
    """A flag that is one key.

    Attributes:
        name: As typed.
        key: Where its value goes, dotted.
        metavar: What its value is; "" for a flag without one.
        help: One line; the default is added to it.
    """

    name: str
    key: str
    metavar: str
    help: str


_HOME = _Flag("--home", "home", "DIR", "folder of this agent")
_AGENT = (
    _Flag("--broker", "broker.address", "HOST:PORT", "MQTT 5 broker at home"),
    _HOME,
    _Flag("--site", "site", "NAME", "kept for the next start (first start: home)"),
    _Flag("--camera", "cameras.*.name", "NAME", "kept for the next start (until then: cam-1; enrolled: DEVICE-1)"),
    _Flag("--drain-s", "drain_s", "S", "at the end, wait so long for home to acknowledge; the rest stays for later"),
)
_WATCHING = (
    _Flag("--model", "inference.model", "FILE", "bundle that looks until home sends one; general: the package's own"),
    _Flag("--detector", "privacy.detector", "FILE", "ONNX model with COCO boxes that sharpens the choice"),
    _Flag("--models", "privacy.faces", "DIR", "where pulled models lie (WALT_HOME/models)"),
    _Flag("--fps", "cameras.*.fps", "F", "rate of a file or folder that does not tell its own"),
    _Flag("--transport", "cameras.*.transport", "tcp|udp", "how the camera sends"),
    _Flag("--hwaccel", "cameras.*.hwaccel", "NAME", "hardware decoding: auto, off, or FFmpeg's device, as in vaapi"),
    _Flag("--stall-s", "cameras.*.stall_s", "S", "a camera that has sent nothing for so long is connected anew"),
    _Flag("--wait-for-camera", "cameras.*.wait_for_camera", "", "keep trying if it cannot be reached at the start"),
    _Flag("--quota-mb", "spool.quota_mb", "MB", "disk for the spool"),
    _Flag(
        "--spool-key", "spool.key", "FILE", "key that seals the spool (a systemd credential, or one made beside HOME)"
    ),
    _Flag("--journal", "journal.folder", "DIR", "write what was seen, and anonymised pictures, for a report"),
    _Flag("--journal-every", "journal.every", "K", "a picture every K frames"),
    _Flag("--journal-mb", "journal.mb", "MB", "the journal ends there"),
    _Flag("--log-level", "log.level", "LEVEL", "DEBUG, INFO, WARNING or ERROR"),
    _Flag("--log-format", "log.format", "text|json", "for people, or one JSON object a line"),
)
_NETWORK = (
    _Flag("--tls", "broker.tls", "", "TLS with the system's certificate authorities; --ca turns it on too"),
    _Flag("--ca", "broker.ca", "FILE", "certificate authority of the broker"),
    _Flag("--cert", "broker.cert", "FILE", "this device's certificate"),
    _Flag("--key", "broker.key", "FILE", "its private key"),
    _Flag("--telemetry-s", "telemetry_s", "S", "between telemetry messages"),
    _Flag("--ack-timeout-s", "broker.ack_timeout_s", "S", "send again without home's acknowledgement, doubling"),
    _Flag("--reconnect-max-s", "broker.reconnect_max_s", "S", "longest pause between attempts to connect"),
)
_UPDATES = (
    _Flag("--updates", "updates.url", "URL", "where home serves models (--repository of walt-loop publish)"),
    _Flag("--trust", "updates.trust", "FILE", "its root.json; pinned at the first start and kept from then on"),
    _Flag("--probation-s", "updates.probation_s", "S", "a new model stays if it does well for so long; 0: at once"),
    _Flag("--channel", "updates.channel", "canary|stable", "stable: never what home tries on a few devices first"),
    _Flag("--updates-ca", "updates.ca", "FILE", "certificate authority of an https:// URL (the system's)"),
)
_GROUPS = {"": _AGENT, "watching": _WATCHING, "network": _NETWORK, "models from home": _UPDATES}


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares every flag of the configuration; none has a default, so that a file may speak where no flag does."""
    parser.add_argument(
        "--rtsp",
        "--input",
        dest="source",
        metavar="[NAME=]URL",
        action="append",
        help="rtsp:// URL of a camera, may be repeated; a video file or a folder of frames is played once, as fast "
        "as it is watched",
    )
    defaults = AgentConfig()
    for title, flags in _GROUPS.items():
        group = parser.add_argument_group(title) if title else parser
        for flag in flags:
            _declare(group, flag, defaults)
    add_file_arguments(parser.add_argument_group("configuration"))


def add_home_argument(parser: argparse.ArgumentParser) -> None:
    """Declares `--home` alone."""
    _declare(parser, _HOME, AgentConfig())


def add_file_arguments(group: argparse._ActionsContainer) -> None:
    """Declares `--config` and `--set`."""
    group.add_argument("--config", type=Path, metavar="FILE", help="YAML; flags and WALT_EDGE_... go before it")
    group.add_argument(
        "--set",
        dest="assignments",
        metavar="KEY=VALUE",
        action="append",
        help="any key of the configuration, as in web.port=0 (`walt-edge config` shows them all)",
    )


def sources(args: argparse.Namespace) -> Sources:
    """Where the configuration of this command line is read from.

    Raises:
        UsageError: A flag cannot be understood.
    """
    given: list[Assignment] = []
    cameras = [_camera(text) for text in getattr(args, "source", None) or ()]
    if cameras:
        given.append(Assignment(("cameras",), cameras, "--rtsp"))
    for flag in (flag for flags in _GROUPS.values() for flag in flags):
        value = getattr(args, _dest(flag), None)
        if value is not None and value is not False:
            given.append(Assignment(tuple(flag.key.split(".")), value, flag.name))
    given += [_assignment(text) for text in getattr(args, "assignments", None) or ()]
    return Sources(tuple(given), args.config)


def _declare(group: argparse._ActionsContainer, flag: _Flag, defaults: AgentConfig) -> None:
    if not flag.metavar:
        group.add_argument(flag.name, dest=_dest(flag), action="store_true", help=flag.help)
        return
    section, _, name = flag.key.rpartition(".*.")
    value: Any = CameraConfig.model_fields[name].default if section else defaults
    for part in () if section else name.split("."):
        value = getattr(value, part)
    shown = flag.help if value is None or flag.help.endswith(")") else f"{flag.help} ({value})"
    group.add_argument(flag.name, dest=_dest(flag), metavar=flag.metavar, help=shown.replace("%", "%%"))


def _dest(flag: _Flag) -> str:
    return flag.name.removeprefix("--").replace("-", "_")


def _camera(text: str) -> dict[str, Any]:
    """`URL`, a path, or `NAME=rtsp://...`."""
    named = _NAMED_URL.fullmatch(text)
    return {"url": text} if named is None else {"url": named["url"], "name": named["name"]}


def _assignment(text: str) -> Assignment:
    key, between, value = text.partition("=")
    parts: Key = tuple(int(part) if part.isdigit() else part for part in key.split("."))
    starred = ".".join("*" if isinstance(part, int) else part for part in parts)
    origin = f"--set {key}"
    if not between:
        raise UsageError("--set takes KEY=VALUE, as in --set web.port=0")
    if starred not in known_keys():
        raise UsageError(f"{origin}: {find_unknown(starred)}")
    return Assignment(parts, read_value(value), "--set")
