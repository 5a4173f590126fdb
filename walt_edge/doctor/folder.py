"""The agent's own folder: who uses it, its identity, its spool and the spool's key."""

from __future__ import annotations

import os
import re
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import msgspec

from walt_edge.agent.logs import known_secrets
from walt_edge.config import Device
from walt_edge.contract.errors import WaltError
from walt_edge.doctor import Check, Finding, fail, ok, warn
from walt_edge.settings.tree import AgentConfig
from walt_edge.spool.file import FILE_NAME, read_counts
from walt_edge.spool.key import CREDENTIAL, default_path, read_key

_DEVICE_FILE: Final = "device.json"
_LOCK_FILE: Final = "lock"


def check_folder(config: AgentConfig) -> Iterator[Finding]:
    """Whether it can be written, and whether an agent uses it now."""
    home, pid = config.home.absolute(), agent_pid(config.home)
    place = next(one for one in (home, *home.parents) if one.exists())
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        yield fail("folder", f"{place} cannot be written by uid {os.geteuid()}", "chown it, or give another --home")
    elif pid:
        yield ok("folder", f"{home}, used by the running agent ({pid})")
    elif home.exists():
        yield ok("folder", f"{home}, no agent runs here")
    else:
        yield ok("folder", f"{home} will be made at the first start")


def check_identity(config: AgentConfig) -> Iterator[Finding]:
    """Who this device is."""
    if not (config.home / _DEVICE_FILE).exists():
        yield ok("identity", "will be made at the first start")
        return
    try:
        device = identity(config.home)
    except (OSError, ValueError, WaltError) as error:
        remedy = f"restore {config.home / _DEVICE_FILE}, or remove it for a new identity"
        yield fail("identity", f"cannot be read: {error}", remedy)
        return
    assert device is not None
    yield ok("identity", f"{device.device}, site {config.site or device.site}")


def check_spool(config: AgentConfig) -> Iterator[Finding]:
    """Whether every envelope is accounted for, and what waits."""
    path = config.home / FILE_NAME
    if not path.exists():
        yield ok("spool", "will be made at the first start")
        return
    try:
        # Read-only, beside a running agent: SQLite's own locks keep a reader from seeing half a transaction.
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=5.0)) as db:
            damage = db.execute("PRAGMA quick_check(1)").fetchone()[0]
            counts = read_counts(db)
    except sqlite3.DatabaseError as error:
        yield fail("spool", f"cannot be read: {error}", f"check the disk; the next start sets {path.name} aside")
        return
    text = f"{counts.accepted} accepted = {counts.acked} at home + {counts.depth} waiting + {counts.dropped} dropped"
    text += f" + {counts.rejected} rejected, {counts.bytes >> 20} of {config.spool.quota_mb} MB"
    if damage != "ok":
        yield fail("spool", f"damaged: {damage}", f"check the disk; the next start sets {path.name} aside")
    elif counts.accepted != counts.acked + counts.depth + counts.dropped + counts.rejected:
        yield fail("spool", f"does not add up: {text}", "report this, and keep the file")
    elif counts.dropped:
        yield warn("spool", text, "the quota was too small for how long home was away: raise spool.quota_mb")
    else:
        yield ok("spool", text)
    aside = sorted(config.home.glob(f"{FILE_NAME}.*corrupt*"))
    if aside:
        remedy = "check the disk; remove them when their loss is understood"
        yield warn("spool", f"{len(aside)} damaged files were set aside, the last is {aside[-1].name}", remedy)


def check_spool_key(config: AgentConfig) -> Iterator[Finding]:
    """Where the key is that seals what waits; it must not lie beside it."""
    path = _key_path(config)
    if path is None or not path.exists():
        if config.spool.key is not None:
            remedy = f"(umask 077; head -c 32 /dev/urandom > {config.spool.key})"
            yield fail("spool key", f"{config.spool.key} is missing", remedy)
        else:
            yield ok("spool key", "will be made at the first start, outside of the folder")
        return
    try:
        read_key(path, config.home, 0o007 if path.name == CREDENTIAL else 0o077)
    except WaltError as error:
        yield fail("spool key", str(error), "give it back from a backup, or name another with spool.key")
    else:
        yield ok("spool key", f"{path}")


def check_credentials(config: AgentConfig) -> Iterator[Finding]:
    """What systemd handed over."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        yield ok("credentials", "not started by systemd")
        return
    try:
        names = sorted(path.name for path in Path(folder).iterdir())
    except OSError as error:
        yield fail("credentials", f"{folder} cannot be read: {error.strerror}", "LoadCredential= in the unit")
        return
    if CREDENTIAL in names:
        yield ok("credentials", ", ".join(names))
    else:
        yield warn(
            "credentials", f"no {CREDENTIAL} among them", f"LoadCredential={CREDENTIAL}:/etc/walt/credentials/..."
        )


def check_secrets(config: AgentConfig) -> Iterator[Finding]:
    """Whether others on this machine can read a password or a key."""
    named = (config.broker.key, config.spool.key, config.web.token_file)
    for path in (path for path in named if path is not None and path.exists()):
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & stat.S_IROTH:
            yield fail("secrets", f"{path} can be read by everybody (mode {mode:04o})", f"chmod 600 {path}")
            return
    yield ok("secrets", "no key file is open to others")


def config_file(path: Path, config: AgentConfig) -> Finding:
    """The configuration's own file, which holds the cameras' passwords."""
    mode = stat.S_IMODE(path.stat().st_mode)
    if known_secrets(config) and mode & stat.S_IROTH:
        text = f"{path} can be read by everybody (mode {mode:04o}) and a password is configured"
        return fail("configuration", text, f"chmod 640 {path}, and chgrp it to the agent's group")
    return ok("configuration", str(path))


CHECKS: Final[tuple[Check, ...]] = (
    check_folder,
    check_identity,
    check_spool,
    check_spool_key,
    check_credentials,
    check_secrets,
)


def identity(home: Path) -> Device | None:
    """Who the agent of a folder is; None before its first start.

    Raises:
        OSError, ValueError, WaltError: `device.json` cannot be read.
    """
    try:
        return msgspec.json.decode((home / _DEVICE_FILE).read_bytes(), type=Device)
    except FileNotFoundError:
        return None


def agent_pid(home: Path) -> int | None:
    """The process that holds the folder's lock, without trying the lock: that could stop an agent from starting."""
    try:
        lock = (home / _LOCK_FILE).stat()
        held = Path("/proc/locks").read_text()
    except OSError:
        return None
    device = f"{os.major(lock.st_dev):02x}:{os.minor(lock.st_dev):02x}:{lock.st_ino}"
    found = re.search(rf"FLOCK\s+ADVISORY\s+WRITE\s+(\d+)\s+{device}\s", held)
    return int(found[1]) if found else None


def _key_path(config: AgentConfig) -> Path | None:
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    if credentials and (Path(credentials) / CREDENTIAL).exists():
        return Path(credentials) / CREDENTIAL
    if config.spool.key is not None:
        return config.spool.key
    try:
        device = identity(config.home)
    except (OSError, ValueError, WaltError):
        return None
    try:
        return default_path(device.device) if device else None
    except WaltError:
        return None
