"""Drawn frames as a folder that judges models: COCO with exact amodal layers, frozen as truth that people made.

The pictures come from strangers' cameras: they are decoded by a process that can do nothing else, and written again.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from sqlalchemy import delete

from walt_edge.contract.errors import UsageError
from walt_edge.contract.labels import Label
from walt_train.data.depth import stack
from walt_train.data.sample import AmodalSample
from walt_train.data.write import write_samples
from walt_train.decoding import ConfinedDecoder
from walt_train.loop.gate.holdout import Holdout, Shown, Source, freeze
from walt_train.loop.labels.agreement import Agreement, agreement_of
from walt_train.loop.labels.drawing import Drawing, read_drawing, regions_of
from walt_train.loop.labels.drawn import Drawings, Drawn
from walt_train.loop.labels.tables import label_exports
from walt_train.loop.lineage.record import insert_missing
from walt_train.loop.store.database import transaction
from walt_train.loop.store.store import Store


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written.

    Attributes:
        holdout: As it is frozen.
        agreement: Of frames that two people drew on.
        objects: How many were outlined.
        skipped: Frames that nobody could draw on.
    """

    holdout: Holdout
    agreement: Agreement
    objects: int
    skipped: int


def export_labels(store: Store, camera: str, folder: Path, *, by: str = "") -> Exported:
    """Writes what people drew on a camera's frames, and freezes it.

    Of a frame that two people drew on, who finished it first is taken; the other tells how well they agree.

    Args:
        store: The store.
        camera: The camera.
        folder: Must not be there yet; appears whole or not at all.
        by: Who asks for it, beside the people who drew.

    Raises:
        UsageError: Nothing is drawn, or the folder is there.
        DecodingError, NoDecoderError: A frame's picture is damaged, or cannot be decoded safely here.
        OutputError, HoldoutError: The folder cannot be written.
    """
    if folder.exists():
        raise UsageError(f"{folder} is there already, and what judges is never written over: give another folder")
    newest = Drawings(store.engine).newest(camera)
    firsts: dict[str, Drawn] = {}
    for one in newest:
        if one.state == "done":
            firsts.setdefault(one.frame, one)
    if not firsts:
        raise UsageError(f"nobody finished a frame of camera {camera}: draw on some first")
    # Of this call alone: whoever presses the button twice writes twice, and one of them comes first.
    partial = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.partial")
    # Before a frame is read: whoever forgets one from now on is told of this folder.
    _note(store, folder, list(firsts))
    try:
        with ConfinedDecoder() as decoder:
            samples = DrawnSamples(store, decoder, list(firsts.values()))
            agreement = agreement_of(newest)
            people = sorted({one.by for one in firsts.values()})
            info = {"drawn": {"people": people, "agreement": msgspec.to_builtins(agreement), "by": by}}
            objects = _written(partial, samples, info)
        holdout = _frozen(partial, folder.name, samples, people)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if not folder.exists():
            _unnote(store, folder)
    skipped = {one.frame for one in newest} - firsts.keys()
    return Exported(holdout, agreement, objects, len(skipped))


class DrawnSamples:
    """Frames with what was drawn on them, in the order of capture; decoded when asked for.

    Args:
        store: Where the frames are.
        decoder: Decodes them.
        drawn: One version of each frame.
    """

    def __init__(self, store: Store, decoder: ConfinedDecoder, drawn: Sequence[Drawn]) -> None:
        self._store, self._decoder = store, decoder
        headers = {one.frame: store.get(one.frame).envelope.header for one in drawn}
        self._drawn = sorted(drawn, key=lambda one: (headers[one.frame].captured.utc_us, one.frame))
        self._headers = [headers[one.frame] for one in self._drawn]
        self._drawings = [
            read_drawing(one.drawing, header.origin.frame_wh)
            for one, header in zip(self._drawn, self._headers, strict=True)
        ]

    @property
    def frames(self) -> list[str]:
        """Their ids."""
        return [one.frame for one in self._drawn]

    @property
    def devices(self) -> list[str]:
        """The devices that took them, SITE/DEVICE."""
        return sorted({f"{header.origin.site}/{header.origin.device}" for header in self._headers})

    @property
    def shown(self) -> list[Shown]:
        """What is known of each."""
        pairs = zip(self._drawn, self._headers, strict=True)
        return [Shown(camera=one.camera, captured_us=header.captured.utc_us, crop=one.frame) for one, header in pairs]

    @property
    def sha256(self) -> str:
        """Of the frames' ids and the drawings."""
        told = [(one.frame, one.by, one.number, one.drawing) for one in self._drawn]
        return hashlib.sha256(msgspec.json.encode(told)).hexdigest()

    @property
    def frame_wh(self) -> tuple[int, int]:
        """Size of the frames, pixels; of the first, where the camera was changed."""
        return self._drawings[0].size_wh

    @property
    def labels(self) -> Sequence[Label]:
        """The classes that occur."""
        found = {thing.label for drawing in self._drawings for thing in drawing.things}
        return [label for label in Label if label.title in found]

    def __len__(self) -> int:
        """How many frames."""
        return len(self._drawn)

    def drawing(self, index: int) -> Drawing:
        """What was drawn on one."""
        return self._drawings[index]

    def sample(self, epoch: int, index: int) -> AmodalSample:
        """Frame `index` with its layers; the epoch changes nothing."""
        envelope = self._store.get(self._drawn[index].frame).envelope
        regions = regions_of(self._drawings[index])
        objects, static = stack(regions, range(len(regions)))
        captured_us = self._headers[index].captured.utc_us
        return AmodalSample(
            self._decoder.decode(envelope.image, envelope.image_wh),
            objects,
            static,
            self._drawn[index].frame,
            frame=index,
            time=datetime.fromtimestamp(captured_us / 1e6, UTC).isoformat(timespec="microseconds"),
            camera=self._drawn[index].camera,
        )


def _written(folder: Path, samples: DrawnSamples, info: Mapping[str, object]) -> int:
    for _ in write_samples(folder, samples, info):
        pass
    things = (thing for place in range(len(samples)) for thing in samples.drawing(place).things)
    return sum(thing.label != "static" for thing in things)


def _frozen(partial: Path, name: str, samples: DrawnSamples, people: Sequence[str]) -> Holdout:
    files = (f"images/{place:06d}.png" for place in range(1, len(samples) + 1))
    return freeze(
        partial,
        source=Source.HUMAN,
        made_us=time.time_ns() // 1000,
        name=re.sub(r"[^A-Za-z0-9_.-]", "-", name)[:64],
        devices=samples.devices,
        made_by=", ".join(people),
        shown=dict(zip(files, samples.shown, strict=True)),
    )


def _note(store: Store, folder: Path, frames: Sequence[str]) -> None:
    row = {"place": _place(folder), "at_us": time.time_ns() // 1000}
    with transaction(store.engine) as connection:
        insert_missing(connection, label_exports, [{**row, "frame": frame} for frame in frames])


def _unnote(store: Store, folder: Path) -> None:
    with transaction(store.engine) as connection:
        connection.execute(delete(label_exports).where(label_exports.c.place == _place(folder)))


def _place(folder: Path) -> str:
    return str(folder.resolve())[:500]
