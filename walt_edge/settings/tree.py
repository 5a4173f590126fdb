"""What an agent is told to do: one frozen, typed tree, the same for every command that runs the agent's parts.

Values come from flags, else the environment (`WALT_EDGE_WEB__PORT` for `web.port`), else a YAML file, else the
defaults here; `walt_edge.settings.sources` reads them and says where a wrong one came from. Passwords and tokens are
kept in types that never show them: `str`, `repr` and dumps of the tree are free of secrets.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Secret,
    SecretStr,
    field_validator,
    model_validator,
)

from walt_edge.config import Endpoint, Tls
from walt_edge.contract.errors import UsageError, WaltError
from walt_edge.contract.redaction import redact
from walt_edge.contract.topics import check_name
from walt_edge.web.settings import TOKEN_MIN, is_loopback


class SecretUrl(Secret[str]):
    """A URL or path that may hold a password, which only `get_secret_value` shows."""

    def _display(self) -> str:
        return redact(self.get_secret_value())


def _as_text(value: object) -> object:
    return str(value) if isinstance(value, Path) else value


def _given(url: SecretUrl) -> SecretUrl:
    if not url.get_secret_value().strip():
        raise ValueError("expected a URL or a path")
    return url


def _name(value: str) -> str:
    try:
        return check_name(value, "")
    except WaltError as error:
        raise ValueError(str(error).strip()) from error


def _off(value: object) -> object:
    """YAML 1.1 reads a bare `off` as false."""
    return "off" if value is False else value


def _is_token(text: str) -> bool:
    return len(text) >= TOKEN_MIN and text.isascii() and text.isprintable()


Url = Annotated[SecretUrl, BeforeValidator(_as_text), AfterValidator(_given)]
NameStr = Annotated[str, AfterValidator(_name)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
SomeSeconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Rate = Annotated[float, Field(gt=0, le=1000)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
Budget = Annotated[int, Field(ge=0)]


class _Section(BaseModel):
    """Frozen, and knows its keys: a misspelt one is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _empty(cls, value: object) -> object:
        """A section's name with nothing below it says nothing."""
        return {} if value is None else value


class CameraConfig(_Section):
    """One camera, or a recording that stands for it.

    Attributes:
        url: `rtsp://` or `rtsps://` URL, a video file, or a folder of frames.
        name: Its name; None for the one of `device.json`, which is right for a single camera.
        transport: How its packets travel.
        hwaccel: Hardware decoding: `auto`, `off`, or the name of FFmpeg's device type (`vaapi`, `cuda`).
        stall_s: So long it may send nothing before it is connected anew.
        open_s: So long connecting may take.
        wait_for_camera: Keep trying if it cannot be reached at the start, instead of an error.
        fps: Rate of a recording that does not tell its own, frames a second.
    """

    url: Url
    name: NameStr | None = None
    transport: Literal["tcp", "udp"] = "tcp"
    hwaccel: Annotated[str, BeforeValidator(_off), Field(pattern=r"^[a-z0-9_]{1,32}$")] = "auto"
    stall_s: SomeSeconds = 5.0
    open_s: SomeSeconds = 5.0
    wait_for_camera: bool = False
    fps: Rate | None = None

    @property
    def is_live(self) -> bool:
        """Whether it never ends: a URL, and no recording."""
        return "://" in self.url.get_secret_value()


def _address(value: str) -> str:
    try:
        Endpoint.parse(value)
    except UsageError as error:
        raise ValueError(str(error)) from error
    return value


class BrokerConfig(_Section):
    """The MQTT 5 broker at home.

    Attributes:
        address: HOST:PORT.
        tls: TLS with the system's authorities; any of the files turns it on too.
        ca: File of the broker's certificate authority.
        cert: This device's certificate.
        key: Its private key.
        ack_timeout_s: Without home's acknowledgement for so long, an envelope is sent again, doubling.
        reconnect_max_s: Longest pause between attempts to connect.
    """

    address: Annotated[str, AfterValidator(_address)] = "localhost:1883"
    tls: bool = False
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    ack_timeout_s: Seconds = 60.0
    reconnect_max_s: Seconds = 300.0

    def endpoint(self) -> Endpoint:
        """Where to connect to; raises UsageError if a file is missing."""
        wants_tls = self.tls or self.ca or self.cert or self.key
        return Endpoint.parse(self.address, Tls(self.ca, self.cert, self.key) if wants_tls else None)


def _level(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


class LogConfig(_Section):
    """What is logged, and how: `text` for people, `json` (one object a line) for machines."""

    level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(_level)] = "INFO"
    format: Literal["text", "json"] = "text"


class PrivacyConfig(_Section):
    """How faces and number plates are hidden. Nothing from outside the device ever changes this.

    Attributes:
        style: Solid fill, pixelation or blur.
        delay_s: Frames leave so much later, 0..10, so that what is found now covers the moments before.
        number_plates: Whether plates of large vehicles are hidden.
        faces: `auto` (the detector where it was pulled), `off` (heads by geometry alone), or the folder it lies in.
        detector: An ONNX model with COCO boxes, a teacher that sharpens what people and vehicles are.
    """

    style: Literal["fill", "pixelate", "blur"] = "fill"
    delay_s: Annotated[float, Field(ge=0, le=10)] = 1.0
    number_plates: bool = True
    faces: Annotated[Literal["auto", "off"] | Path, BeforeValidator(_off)] = "auto"
    detector: Path | None = None


class InferenceConfig(_Section):
    """The model that looks beside the miner.

    Attributes:
        model: `none` (what home publishes, if anything), `general` (the package's own), or a bundle's path.
        device: Where it runs; `auto` takes the best there is.
        threads: Of one inference; None lets the runtime choose.
        max_fps: Frame budget: looks a second over all cameras; None for every frame.
        gate: Skip frames in which nothing moves.
        cpu_budget: Share of the machine's processors that inference may use, 0..1.
    """

    model: Literal["none", "general"] | Path = "none"
    device: Literal["auto", "cpu", "cuda", "tensorrt"] = "auto"
    threads: Positive | None = None
    max_fps: Rate | None = None
    gate: bool = True
    cpu_budget: Share = 1.0


class SelectionConfig(_Section):
    """How much of what is seen whole goes home: views and kilobytes a track, megabytes an hour and a day."""

    views_per_track: Positive = 6
    track_kb: Budget = 400
    hour_mb: Budget = 40
    day_mb: Budget = 400


class FramesConfig(_Section):
    """Sampled anonymised full frames: their own budget a day (0: none), and the share kept for judging alone."""

    day_mb: Budget = 20
    holdout_share: Share = 0.1


class SpoolConfig(_Section):
    """The disk spool.

    Attributes:
        quota_mb: Bytes on disk; the least valuable goes first.
        key: File of the key that it is encrypted with; None for the place that the spool chooses.
    """

    quota_mb: Positive = 1024
    key: Path | None = None


class UpdatesConfig(_Section):
    """Signed models from home.

    Attributes:
        url: Where home serves them; None for none.
        trust: Its root.json, pinned at the first start.
        ca: Certificate authority of an https:// URL.
        channel: `canary` takes what home tries on a few devices first, `stable` only what it has released for all.
        probation_s: So long a new model must stay healthy before it is kept.
    """

    url: Url | None = None
    trust: Path | None = None
    ca: Path | None = None
    channel: Literal["canary", "stable"] = "canary"
    probation_s: Seconds = 600.0


class WebConfig(_Section):
    """The agent's page, health and metrics.

    Attributes:
        enabled: Whether they are served.
        host: Address to listen on; any but loopback needs a token.
        port: 0 for any free one.
        token: What a reader must show.
        token_file: A file that holds it.
        tls_cert: PEM file of the page's certificate, which makes it HTTPS.
        tls_key: PEM file of its private key; None where that lies in the certificate's file.
    """

    enabled: bool = True
    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8090
    token: SecretStr | None = None
    token_file: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None

    @field_validator("token")
    @classmethod
    def _long_enough(cls, token: SecretStr | None) -> SecretStr | None:
        if token is not None and not _is_token(token.get_secret_value()):
            raise ValueError(f"shorter than {TOKEN_MIN} characters of plain ASCII: openssl rand -hex 16")
        return token

    @model_validator(mode="after")
    def _guarded(self) -> Self:
        if self.token is not None and self.token_file is not None:
            raise ValueError("both token and token_file are given: keep one")
        if self.tls_key is not None and self.tls_cert is None:
            raise ValueError("tls_key is given and no tls_cert: give both")
        if self.enabled and not is_loopback(self.host) and self.token is None and self.token_file is None:
            raise ValueError(
                f"host {self.host} is open to the network: give web.token or web.token_file, or host 127.0.0.1"
            )
        return self

    def secret(self) -> str | None:
        """The token, read from its file if it is in one.

        Raises:
            UsageError: The file cannot be read, or holds too little.
        """
        if self.token_file is None:
            return self.token.get_secret_value() if self.token else None
        try:
            token = self.token_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"web.token_file {self.token_file} cannot be read: {error}") from error
        if not _is_token(token):
            raise UsageError(
                f"web.token_file {self.token_file} has fewer than {TOKEN_MIN} characters of plain ASCII: "
                "openssl rand -hex 16"
            )
        return token


class JournalConfig(_Section):
    """A diary of what was seen, with anonymised pictures: where (None: none), every how many frames, how large."""

    folder: Path | None = None
    every: Positive = 25
    mb: Positive = 500


class AgentConfig(_Section):
    """Everything an agent is told.

    Attributes:
        cameras: Watched together, by one model.
        home: The agent's folder.
        site: The site's name; None for the one of `device.json`.
        telemetry_s: Between telemetry messages.
        drain_s: At the end, wait so long for home to acknowledge; the rest stays for the next start.
    """

    cameras: tuple[CameraConfig, ...] = ()
    home: Path = Path("walt")
    site: NameStr | None = None
    telemetry_s: Seconds = 30.0
    drain_s: Seconds = 10.0
    broker: BrokerConfig = BrokerConfig()
    log: LogConfig = LogConfig()
    privacy: PrivacyConfig = PrivacyConfig()
    inference: InferenceConfig = InferenceConfig()
    selection: SelectionConfig = SelectionConfig()
    frames: FramesConfig = FramesConfig()
    spool: SpoolConfig = SpoolConfig()
    updates: UpdatesConfig = UpdatesConfig()
    web: WebConfig = WebConfig()
    journal: JournalConfig = JournalConfig()

    @field_validator("cameras")
    @classmethod
    def _told_apart(cls, cameras: tuple[CameraConfig, ...]) -> tuple[CameraConfig, ...]:
        names = [camera.name for camera in cameras]
        if len(names) > 1 and (None in names or len(set(names)) < len(names)):
            raise ValueError("several cameras need a name each, no two the same: --rtsp NAME=URL, or cameras.*.name")
        return cameras

    def dump(self) -> dict[str, Any]:
        """Plain data for YAML or JSON, without secrets."""
        return self.model_dump(mode="json")
