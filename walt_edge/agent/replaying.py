"""An agent's chain over a recording, at the recording's own time: the same bytes every time.

Nothing of the machine goes in. Times count from the recording's first frame; the boot's id is drawn from the
recording's bytes and a seed. What would have been sent is written as files, with the journal and the counts, and one
sha256 over all of it, so that two machines can be compared.
"""

from __future__ import annotations

import hashlib
import logging
import platform
import shutil
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from walt_edge.agent.journal import Journal
from walt_edge.agent.outlet import Outlet
from walt_edge.agent.parts import make_anonymiser, make_sampler, make_selector, make_watcher
from walt_edge.agent.pipeline import Pipeline
from walt_edge.agent.showing import Showing
from walt_edge.agent.sight import Sights
from walt_edge.agent.telemetry import Meter
from walt_edge.camera import Camera, CameraStats, Frame, open_camera
from walt_edge.config import DEFAULT_CAMERA, Device
from walt_edge.contract.closing import Closing
from walt_edge.contract.errors import UsageError, WaltError
from walt_edge.contract.messages import Clock, SpoolCounts, Telemetry
from walt_edge.privacy.anonymiser import SealedEnvelope
from walt_edge.settings.tree import AgentConfig, InferenceConfig
from walt_edge.update.holder import Look

LOG = logging.getLogger(__name__)

RESULT_FILE: Final = "replay.json"
_ENVELOPES: Final = "envelopes"
_JOURNAL: Final = "journal"
_LIST: Final = "envelopes.jsonl"
_COUNTS: Final = "counts.json"
_SUFFIX: Final = ".walt-envelope"
_UNDATED_US: Final = 946_684_800_000_000  # 2000-01-01 UTC, for recordings whose name tells no date
_OWN: Final = (_ENVELOPES, _JOURNAL, _LIST, _COUNTS, RESULT_FILE)


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a replay gave.

    Attributes:
        sha256: Of all output but `replay.json`, names and bytes.
        files: How many files that is.
        frames: Frames watched.
        envelopes: How many would have been sent, by kind.
        refused: What was not sent or not chosen, by reason.
    """

    sha256: str
    files: int
    frames: int
    envelopes: dict[str, int]
    refused: dict[str, int]


def replay(
    source: str,
    config: AgentConfig,
    out: Path,
    *,
    frames: int | None = None,
    seed: int = 0,
    tell: Callable[[Frame], None] = lambda frame: None,
) -> Replayed:
    """Runs watcher, model, selector, sampler and journal over a recording.

    Args:
        source: A video file or a folder of frames.
        config: The agent's; of its cameras only the first one's name and rate count.
        out: A folder that is empty, absent, or an older replay's.
        frames: Watch so many, then end.
        seed: Draws another boot, and so other holdouts.
        tell: Called for every frame, for a progress bar.

    Raises:
        UsageError: The source is a live camera, or the folder holds something else.
        WaltError: The recording cannot be watched, or the folder cannot be written.
    """
    if "://" in source:
        raise UsageError("a live camera is never twice the same: give a video file or a folder of frames")
    _prepare(out)
    with ExitStack() as stack:
        store = stack.enter_context(_FolderStore(out))
        boot = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{digest_of_source(Path(source))}/{seed}"))
        opened = open_camera(source, fps=config.cameras[0].fps if config.cameras else None)
        recording = stack.enter_context(_Recording(opened, boot, tell))
        pipeline = _pipeline(config, recording, store, out, stack)
        pipeline.run(threading.Event(), frames)
        refused = dict(sorted(pipeline.telemetry().rejected_by_reason.items()))
    meter = pipeline.meter
    counts = {
        "frames": meter.frames_processed,
        "failures": meter.anonymiser_failures,
        "objects": pipeline.eyes.objects_seen,
        "envelopes": dict(sorted(store.by_kind.items())),
        "refused": refused,
    }
    _write_json(out / _COUNTS, counts)
    sha256, files = digest_of_output(out)
    result = Replayed(sha256, files, meter.frames_processed, dict(store.by_kind), refused)
    _write_json(out / RESULT_FILE, _made(result, seed, frames))
    return result


def _pipeline(
    config: AgentConfig, recording: _Recording, store: _FolderStore, out: Path, stack: ExitStack
) -> Pipeline:
    """A lane's, with nothing in it that depends on this machine: no gate, no budget of time, no state of before."""
    camera = (config.cameras[0].name if config.cameras else None) or DEFAULT_CAMERA
    device = Device(device="walt-replay", site=config.site or "replay", camera=camera)
    meter = Meter(recording.boot, camera)
    journal = stack.enter_context(closing(Journal(out / _JOURNAL, config.journal.every, config.journal.mb << 20)))
    anonymiser = make_anonymiser(config.privacy)
    sampler = stack.enter_context(closing(make_sampler(config, device, camera, anonymiser.version, None)))
    looks = _Model.of(config.inference)
    return Pipeline(
        recording,
        make_watcher(config, device, camera, anonymiser),
        Outlet(store, store, meter, make_selector(config, None), sampler),
        meter,
        sights=Sights(looks, meter) if looks else None,
        showing=Showing(camera, journal),
    )


class _Recording(Closing):
    """A recording whose frames are dated by itself alone."""

    def __init__(self, camera: Camera, boot: str, tell: Callable[[Frame], None]) -> None:
        self.boot = boot
        self._camera = camera
        self._tell = tell

    @property
    def resolution_wh(self) -> tuple[int, int]:
        return self._camera.resolution_wh

    @property
    def fps(self) -> float:
        return self._camera.fps

    @property
    def stats(self) -> CameraStats:
        return self._camera.stats

    def read(self, timeout_s: float) -> Frame | None:
        frame = self._camera.read(timeout_s)
        if frame is None:
            return None
        captured = frame.captured
        moment = msgspec.structs.replace(
            captured,
            boot_id=self.boot,
            monotonic_ns=round(captured.media_time_s * 1e9),
            # A file's own time is this machine's; a date in its name belongs to the recording.
            utc_us=captured.utc_us
            if captured.clock is Clock.SYNCHRONISED
            else _UNDATED_US + round(captured.media_time_s * 1e6),
        )
        dated = Frame(frame.bgr, frame.index, moment)
        self._tell(dated)
        return dated

    def close(self) -> None:
        self._camera.close()


class _FolderStore:
    """In the place of spool and uplink: a file for every envelope, and a list in their order."""

    def __init__(self, out: Path) -> None:
        self._folder = out / _ENVELOPES
        self._folder.mkdir()
        self._list = (out / _LIST).open("wb")
        self._ids: set[str] = set()
        self._bytes = 0
        self.by_kind: Counter[str] = Counter()

    def accept(self, sealed: SealedEnvelope) -> bool:
        """Writes an envelope; False if it came before."""
        if sealed.id in self._ids:
            return False
        self._ids.add(sealed.id)
        self._bytes += len(sealed.data)
        self.by_kind[sealed.kind.value] += 1
        header = sealed.envelope.header
        line = {"id": sealed.id, "kind": sealed.kind.value, "media_time_s": header.captured.media_time_s}
        try:
            (self._folder / f"{sealed.id}{_SUFFIX}").write_bytes(sealed.data)
            self._list.write(msgspec.json.encode(line) + b"\n")
        except OSError as error:
            raise WaltError(f"cannot write in {self._folder}: {error.strerror}; give another --out") from error
        return True

    def counts(self) -> SpoolCounts:
        """As a spool would count that sends nothing."""
        count = len(self._ids)
        return SpoolCounts(accepted=count, depth=count, bytes=self._bytes)

    def notify(self) -> None:
        """Nobody waits."""

    def send_telemetry(self, telemetry: Telemetry) -> None:
        """Times of this machine are no part of a replay."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._list.close()


class _Model:
    """The model of the configuration on every frame: no budget, and none that is put down for being slow."""

    def __init__(self, inference: InferenceConfig) -> None:
        from walt_edge.detector import Detector  # only where a model is named: an extra, and slow to import

        path = None if inference.model == "general" else Path(inference.model)
        # One thread, unless told otherwise: how sums are split among threads is the machine's.
        self._detector = Detector.load(path, device=inference.device, threads=inference.threads or 1)

    @classmethod
    def of(cls, inference: InferenceConfig) -> _Model | None:
        """The model that is named, if one is."""
        return None if inference.model == "none" else cls(inference)

    def look(self, bgr: NDArray[np.uint8]) -> Look | None:
        """What it makes of a frame."""
        (instances,) = self._detector.predict_many([bgr])
        return Look(release=0, instances=instances, took_ms=0.0)


def digest_of_source(path: Path) -> str:
    """sha256 of a recording's bytes, whatever it is called and wherever it lies."""
    paths = sorted(path.rglob("*")) if path.is_dir() else [path]
    return _digest(
        [one for one in paths if one.is_file()], path if path.is_dir() else path.parent, named=path.is_dir()
    )


def digest_of_output(out: Path) -> tuple[str, int]:
    """sha256 over names and bytes of all that a replay wrote but its `replay.json`; and how many files that is."""
    paths = sorted(path for path in out.rglob("*") if path.is_file() and path != out / RESULT_FILE)
    return _digest(paths, out, named=True), len(paths)


def _digest(paths: Sequence[Path], root: Path, *, named: bool) -> str:
    whole = hashlib.sha256()
    for path in paths:
        name = path.relative_to(root).as_posix() if named else ""
        whole.update(f"{_sha256(path)}  {name}\n".encode())
    return whole.hexdigest()


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WaltError(
            f"{path} cannot be read: {error.strerror}; give a video file or a folder of frames"
        ) from error


def _prepare(out: Path) -> None:
    """Empties an older replay's folder; refuses any other that is not empty."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        found = {path.name for path in out.iterdir()}
        if found and RESULT_FILE not in found:
            raise UsageError(f"--out {out} holds something else: give an empty folder, or an older replay's")
        if found - set(_OWN):
            raise UsageError(
                f"--out {out} holds {min(found - set(_OWN))}, which no replay wrote: give another folder"
            )
        for name in _OWN:
            path = out / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    except OSError as error:
        raise WaltError(f"cannot write in {out}: {error.strerror}; give another --out") from error


def _made(result: Replayed, seed: int, frames: int | None) -> dict[str, Any]:
    """What to compare, and by what it was made; it is no part of what is compared."""
    return {
        "sha256": result.sha256,
        "files": result.files,
        "seed": seed,
        "frames_asked": frames,
        "version": version("walt-amodal"),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "packages": {name: version(name) for name in ("numpy", "opencv-python-headless", "av")},
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    try:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=1) + b"\n")
    except OSError as error:
        raise WaltError(f"cannot write {path}: {error.strerror}; give another --out") from error
