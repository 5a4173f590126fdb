"""Collects, from a generation's folder, what the gate has to know of a candidate: the gate itself reads no files."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from walt_edge.contract.bundle import Bundle
from walt_edge.contract.clipart import ClipArt, read_clipart
from walt_train.engine.learned import FILE_NAME as LEARNED
from walt_train.engine.learned import Learned, read_learned
from walt_train.loop.gate.annotated import AnnotatedError, read_annotated
from walt_train.loop.gate.holdout import file_sha256
from walt_train.loop.gate.provenance import Learnt, Provenance
from walt_train.loop.gate.verdict import Cost, Entrant, Parity
from walt_train.loop.lineage.made import roles_in

_GOLDEN = "golden"
_PACKAGE = "walt-amodal"


class Answer(msgspec.Struct, frozen=True):
    """What `python -m walt_edge.update.trial` prints.

    Attributes:
        measured: What the bundle costs; None if it could not be tried.
        unfit: Why the bundle is no good.
        lacking: What this machine lacks.
    """

    measured: Cost | None = None
    unfit: str = ""
    lacking: str = ""


class _Trained(msgspec.Struct, frozen=True):
    data: str = ""


def provenance_of(clipart: Path, train: Path, *, camera: str, devices: Sequence[str]) -> Provenance:
    """Everything that a training learned from.

    Args:
        clipart: Its frozen clip art.
        train: Where it left its checkpoint and `learned.json`.
        camera: Whose model it is.
        devices: `SITE/DEVICE` that it is for.

    Raises:
        WaltError: A file is missing or malformed.
    """
    frozen = read_clipart(clipart)
    learned = read_learned(train / LEARNED)[0] if (train / LEARNED).is_file() else None
    scenes, unknown = _others(train, learned)
    return Provenance(
        camera=camera,
        devices=tuple(devices),
        learnt=tuple(_learnt(clipart, frozen)),
        given=tuple(roles_in(clipart, frozen)),
        scenes=scenes,
        data=_names(learned),
        unknown=unknown,
    )


def parity_of(bundle: Bundle, train: Path, trained_sha256: str, trouble: str = "") -> Parity:
    """How a bundle fits the training that it comes from.

    Args:
        bundle: The export.
        train: Where training left `golden/`.
        trained_sha256: Of the checkpoint.
        trouble: What opening it here said.
    """
    golden = {file_sha256(path) for path in (train / _GOLDEN).glob("*.png")}
    return Parity(
        figures=dict(bundle.manifest.parity),
        checkpoint_sha256=bundle.manifest.lineage.checkpoint_sha256,
        trained_sha256=trained_sha256,
        foreign_golden=tuple(name for name in bundle.manifest.golden if bundle.manifest.files[name] not in golden),
        trouble=trouble,
    )


def entrant_of(bundle: Bundle, cost: Cost | None) -> Entrant:
    """Who a bundle is."""
    promised = bundle.manifest.promised
    return Entrant(
        name=bundle.manifest.name,
        sha256=bundle.sha256,
        cost=cost,
        limit_ms=promised.latency_ms,
        limit_mb=promised.memory_mb,
    )


def versions_of(bundle: Bundle) -> dict[str, str]:
    """Who judged, and who exported."""
    return {
        _PACKAGE: importlib.metadata.version(_PACKAGE),
        "python": platform.python_version(),
        "exported by": bundle.manifest.walt_version,
    }


def answer_in(log: Path) -> Answer:
    """The last answer of a trial in what it said; an empty one where it said none."""
    for line in reversed(log.read_text(errors="replace").splitlines() if log.is_file() else []):
        if line.startswith("{"):
            with contextlib.suppress(msgspec.DecodeError):
                return msgspec.json.decode(line, type=Answer)
    return Answer()


def _learnt(folder: Path, clipart: ClipArt) -> Iterator[Learnt]:
    for clip in clipart.clips:
        header = clip.header
        origin = header.origin
        yield Learnt(
            id=clip.crop,
            image_sha256=file_sha256(folder / clip.image),
            camera=origin.camera,
            captured_us=header.captured.utc_us,
            track=f"{origin.site}/{origin.device}/{header.captured.boot_id}/{header.track_id}",
            holdout=header.holdout,
        )
    for plate in clipart.plates:
        yield Learnt(id=plate.id, image_sha256=file_sha256(folder / plate.image), camera=plate.header.origin.camera)


def _names(learned: Learned | None) -> tuple[str, ...]:
    if learned is None:
        return ()
    return (learned.data_sha256, *(part.data_sha256 for part in learned.parts), *learned.started)


def _others(train: Path, learned: Learned | None) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Of annotated pictures that took part: seeds of rendered streets, and names of what nobody knows."""
    parts = [part for part in learned.parts if not part.clipart_sha256] if learned else []
    if not parts:
        return (), ()
    seeds: list[int] = []
    unknown: list[str] = []
    for folder in _folders(train):
        with contextlib.suppress(AnnotatedError):
            seed = read_annotated(folder).seed
            if seed is None:
                unknown.append(folder.name)
            else:
                seeds.append(seed)
    if len(seeds) + len(unknown) < sum(part.role == "train" for part in parts):
        unknown += [part.data_sha256 for part in parts]
    return tuple(sorted(set(seeds))), tuple(unknown)


def _folders(train: Path) -> list[Path]:
    """The data sets that a training names, those in a folder of folders one by one."""
    try:
        named = msgspec.json.decode((train / "manifest.json").read_bytes(), type=_Trained).data
    except (OSError, msgspec.DecodeError):
        return []
    tops = [Path(word) for word in named.split(", ") if word]
    return [folder for top in tops for folder in (top, *sorted(top.glob("*/")))]
