"""When something is worth an alert: thresholds with defaults, read from a YAML file whose errors name the key."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import yaml
from msgspec import Meta

from walt_edge.contract.errors import UsageError

_MAX_FILE_BYTES: Final = 64 * 1024
Seconds = Annotated[float, Meta(ge=0.0, le=1e9)]
Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Megabytes = Annotated[float, Meta(ge=0.0, le=1e9)]


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every rule has.

    Attributes:
        enabled: Whether anybody wants to know.
        for_s: How long it must be bad without a break before it is raised, seconds.
        clear_s: How long all must be well before it is cleared.
    """

    enabled: bool = True
    for_s: Seconds = 0.0
    clear_s: Seconds = 0.0


class Offline(Rule, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A device that is not there; `stale_s`: telemetry older than this is none."""

    for_s: Seconds = 600.0
    clear_s: Seconds = 60.0
    stale_s: Seconds = 300.0


class SilentCamera(Rule, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A camera that gives no frames; `silence_s`: no frame for so long."""

    for_s: Seconds = 300.0
    clear_s: Seconds = 120.0
    silence_s: Seconds = 60.0


class DirtyLens(Rule, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A lens that has grown dull; `below`, `above`: clearness of the worst quarter of the picture, 0..1.

    Two days: fog and a lorry that parks before a camera pass within that, dirt does not.
    """

    for_s: Seconds = 172_800.0
    clear_s: Seconds = 1_800.0
    below: Share = 0.45
    above: Share = 0.6


class MovedCamera(Rule, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A camera that stands elsewhere than before; `quiet_s`: it is cleared once it has stood still for so long."""

    quiet_s: Seconds = 86_400.0


class Anonymiser(Rule, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Frames that could not be anonymised; `share`: of all, `in_a_row`: without one that could."""

    for_s: Seconds = 120.0
    clear_s: Seconds = 600.0
    share: Share = 0.01
    in_a_row: Annotated[int, Meta(ge=1)] = 10


class DiskRule(Rule, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A device's disk; bad below `free_mb`, well above `clear_mb`."""

    for_s: Seconds = 300.0
    clear_s: Seconds = 300.0
    free_mb: Megabytes = 256.0
    clear_mb: Megabytes = 512.0


class ClockRule(Rule, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A device's clock; `skew_s`: against home's, either way."""

    for_s: Seconds = 1_800.0
    clear_s: Seconds = 300.0
    skew_s: Seconds = 120.0


class SpoolRule(Rule, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Crops that wait; `unacked_s`: something waits and home has taken nothing for so long."""

    for_s: Seconds = 600.0
    clear_s: Seconds = 300.0
    unacked_s: Seconds = 900.0


class ModelRule(Rule, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model that a device does not take; `updating_s`: on its way for so long."""

    updating_s: Seconds = 86_400.0


class Certificate(Rule, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A device's certificate; bad from so many `days` before its end."""

    days: Annotated[float, Meta(ge=0.0, le=3650.0)] = 14.0


class HomeDisk(DiskRule, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Home's own disk, where the store lies on one."""

    for_s: Seconds = 60.0
    free_mb: Megabytes = 2_048.0
    clear_mb: Megabytes = 4_096.0


class BrokerRule(Rule, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The broker, as home sees it."""

    for_s: Seconds = 120.0
    clear_s: Seconds = 30.0


class Webhook(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where alerts are posted.

    Attributes:
        url: http or https; "": nowhere.
        token_file: A file with what is sent as `Authorization: Bearer`; "": nothing is.
        ca_file: The certificate authority of the receiver; "": those of the system.
        timeout_s: For one attempt.
    """

    url: Annotated[str, Meta(pattern=r"\A(https?://[^\s]+)?\Z", max_length=2000)] = ""
    token_file: str = ""
    ca_file: str = ""
    timeout_s: Annotated[float, Meta(gt=0.0, le=60.0)] = 10.0


class Rules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of them, by the kind of alert; `forget_days`: who was not heard for so long is no part of the fleet."""

    offline: Offline = Offline()
    silent_camera: SilentCamera = SilentCamera()
    dirty_lens: DirtyLens = DirtyLens()
    moved_camera: MovedCamera = MovedCamera()
    anonymiser: Anonymiser = Anonymiser()
    disk: DiskRule = DiskRule()
    clock: ClockRule = ClockRule()
    spool: SpoolRule = SpoolRule()
    model: ModelRule = ModelRule()
    certificate: Certificate = Certificate()
    home_disk: HomeDisk = HomeDisk()
    broker: BrokerRule = BrokerRule()
    webhook: Webhook = Webhook()
    forget_days: Annotated[float, Meta(gt=0.0, le=3650.0)] = 30.0


def load_rules(path: Path) -> Rules:
    """Reads a file of rules; what it does not name keeps its default.

    Raises:
        UsageError: It cannot be read, or a key in it is wrong; the text names it.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    if len(data) > _MAX_FILE_BYTES:
        raise UsageError(f"{path} is above {_MAX_FILE_BYTES} bytes: that is no file of rules")
    try:
        tree: Any = yaml.safe_load(data)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} is no YAML: {' '.join(str(error).split())[:300]}") from error
    try:
        rules = msgspec.convert({} if tree is None else tree, Rules)
    except (msgspec.ValidationError, RecursionError) as error:
        raise UsageError(f"{path}: {_named(str(error))}") from error
    _check(rules, path)
    return rules


def _check(rules: Rules, path: Path) -> None:
    if rules.dirty_lens.above < rules.dirty_lens.below:
        raise UsageError(
            f"{path}: dirty_lens.above is below dirty_lens.below: it would be raised and cleared at once"
        )
    for name, rule in (("disk", rules.disk), ("home_disk", rules.home_disk)):
        if rule.clear_mb < rule.free_mb:
            raise UsageError(
                f"{path}: {name}.clear_mb is below {name}.free_mb: it would be raised and cleared at once"
            )


def _named(text: str) -> str:
    """Our words for where a value stands: `disk.free_mb: ...`."""
    what, at, place = text.rpartition(" - at `$")
    return f"{place.rstrip('`').lstrip('.')}: {what}" if at else text
