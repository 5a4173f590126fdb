"""Clip art out of a store, as `walt-edge mine` writes it: of one camera, or of a group that no camera outweighs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from walt_edge.contract.clipart import Clip, ClipArt, Plate, write_clipart
from walt_edge.contract.messages import CropHeader, Envelope, PlateHeader, envelope_id
from walt_edge.contract.topics import Kind
from walt_train.loop.admission.share import DEFAULT_SHARE, candidates_of, fair
from walt_train.loop.store.errors import StoreError

if TYPE_CHECKING:
    from walt_train.loop.store.store import Store


@dataclass(frozen=True, slots=True)
class Given:
    """What one camera of a group gave.

    Attributes:
        camera: Its name.
        clipart: What was written.
        cut: Crops that might train and were left out, so that nobody gives more than his share.
    """

    camera: str
    clipart: ClipArt
    cut: int


def export_group(store: Store, folder: Path, cameras: Sequence[str], *, share: float = DEFAULT_SHARE) -> list[Given]:
    """Writes the clip art of several cameras, so that no camera and no device gives more than its share of the crops.

    Crops that judge, what may not train yet and what people rejected are not among it.

    Args:
        store: The store.
        folder: Gets a folder for each camera, with its name; made if absent.
        cameras: Their names, each once.
        share: As `walt_train.loop.admission.share.fair` takes it.

    Raises:
        StoreError: The folder holds something else, or a camera has no crop that may train.
    """
    _check_only(folder, cameras)
    candidates = candidates_of(store.engine, cameras)
    empty = [camera for camera in cameras if not any(one.camera == camera for one in candidates)]
    if empty:
        names = ", ".join(store.cameras()) or "none"
        raise StoreError(f"no crop of {', '.join(empty)} may train (cameras: {names}): leave it out")
    picked = frozenset(fair(candidates, share))
    given = []
    for camera in cameras:
        own = {one.id for one in candidates if one.camera == camera}
        plates = frozenset(store.ids(Kind.PLATE, camera))
        ids = [sha256 for sha256 in store.ids(camera=camera) if sha256 in plates or sha256 in own & picked]
        clipart = export_clipart(store, folder / camera, camera, holdout=False, ids=ids)
        given.append(Given(camera, clipart, len(own - picked)))
    return given


def _check_only(folder: Path, cameras: Sequence[str]) -> None:
    """A camera that was exported before would train beside the others, without any share."""
    others = sorted({path.name for path in folder.iterdir()} - set(cameras)) if folder.is_dir() else []
    if others:
        raise StoreError(
            f"{folder} holds {', '.join(others[:4])}, which is none of the cameras: give an empty folder"
        )


def export_clipart(
    store: Store, folder: Path, camera: str, *, holdout: bool, ids: Sequence[str] | None = None
) -> ClipArt:
    """Does what `Store.export_clipart` says; with `ids` of these envelopes alone, in their order."""
    folder.mkdir(parents=True, exist_ok=True)
    plates, clips, sizes = [], [], set()
    for stored in store.envelopes(camera=camera) if ids is None else map(store.get, ids):
        header = stored.envelope.header
        if not isinstance(header, CropHeader | PlateHeader):
            continue
        if isinstance(header, CropHeader) and header.holdout and not holdout:
            continue
        image = _write_image(folder, stored.envelope)
        sizes.add(header.origin.frame_wh)
        if isinstance(header, CropHeader):
            clips.append(Clip(header=header, image=image, crop=stored.id))
        else:
            plates.append(Plate(id=stored.id, header=header, image=image))
    if len(sizes) != 1:
        held = ", ".join(store.cameras()) or "none"
        found = f"frames of sizes {sorted(sizes)}" if sizes else f"nothing (cameras: {held})"
        raise StoreError(
            f"the store in {store.config.place} holds {found} of camera '{camera}': expected one frame size"
        )
    clipart = ClipArt(camera=camera, frame_wh=sizes.pop(), plates=plates, clips=clips, rejected_by_reason={})
    write_clipart(folder, clipart)
    return clipart


def _write_image(folder: Path, envelope: Envelope) -> str:
    suffix = ".jpg" if envelope.media_type == "image/jpeg" else ".png"
    name = f"{envelope_id(envelope.image)}{suffix}"
    (folder / name).write_bytes(envelope.image)
    return name
