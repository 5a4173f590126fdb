"""A home as people meet it, for pictures of its dashboard: rendered streets, cut out, composited and judged.

    python -m benchmarks.fleet_street --out docs/pictures

Streets are rendered; what is seen whole in them is anonymised and stored as an agent's crops are. The commands of
home make composites of these and judge the package's own weights on the same streets; the fleet around them is filled
in. Nothing here was filmed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import cv2
import msgspec
import numpy as np

from benchmarks.fleet_filling import fill
from benchmarks.fleet_sizes import HOUR_S, SECOND, Size, camera_name, who
from tests.walt_train.loop.web.client import site_on
from tests.walt_train.loop.web.looking import looking
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import PatchMask, Rle, decode_rle, encode_rle
from walt_edge.contract.messages import Clock, CropHeader, Moment, Origin, PlateHeader
from walt_edge.packaged import general_model
from walt_edge.privacy.anonymiser import Anonymiser, SealedEnvelope, seal
from walt_edge.vision.shape import ground_contact
from walt_edge.vision.sightings import Sighting
from walt_train.loop.children import program
from walt_train.loop.serve.folder import Folder
from walt_train.loop.serve.jobs import now_us
from walt_train.loop.store.store import Accepted, Store
from walt_train.loop.web.access.person import Role
from walt_train.loop.web.queries import runs
from walt_train.loop.web.settings import WebSettings
from walt_train.loop.web.site import Site

_SIZE: Final = Size(devices=160, crops=0, pictured=0, envelopes=0, watched=8, generations=96, rollouts=12)
_STREETS: Final = 2
_FRAMES: Final = 40
_WIDTH, _HEIGHT = _WH = (640, 360)
_LEAST_PX: Final = 500
_MARGIN_PX: Final = 8
_PLATES: Final = 12
_SHOTS: Final = (
    ("fleet", "fleet", 1280, False, 0, 1100),
    ("dark", "fleet", 1280, True, 0, 900),
    ("phone", "fleet", 360, False, 0, 1100),
    ("camera", f"cameras/{camera_name(1)}", 1280, False, 0, 1300),
    ("pictures", f"cameras/{camera_name(1)}", 1280, False, 1600, 2960),
    ("rollout", f"rollouts/{_SIZE.rollouts}", 1280, False, 0, 1300),
    ("run", f"runs/{camera_name(1)}/12", 1280, False, 0, 1060),
)


def main() -> None:
    """Fills a home and takes pictures of its pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/pictures"), help="gets dashboard-NAME.png")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with Store(folder / "store") as store:
            site = fill_street(store, folder)
            with looking(site, Role.OPERATOR, folder, "ada") as eyes:
                for title, path, width, is_dark, top, bottom in _SHOTS:
                    eyes.browser.dark(is_dark)
                    # As high as the page at once: pictures that nobody has come to yet are not loaded.
                    eyes.open(path, width, bottom)
                    eyes.browser.wait("[...document.images].every((one) => one.complete)")
                    eyes.browser.screenshot(folder / "whole.png")
                    whole = _read(folder / "whole.png")
                    small = [cv2.IMWRITE_PNG_COMPRESSION, 9]
                    cv2.imwrite(str(args.out / f"dashboard-{title}.png"), whole[top:bottom], small)


def fill_street(store: Store, folder: Path) -> Site:
    """A fleet whose first cameras watch rendered streets; gives the site on it.

    Args:
        store: Gets everything.
        folder: Gets the streets, and `home/`.
    """
    home, now = folder / "home", now_us()
    fill(store, home, _SIZE, now)
    for number in range(_STREETS):
        truth = folder / f"street-{number}"
        words = ["rwalt", "--seed", str(3 + number), "--frames", str(_FRAMES), "--fps", "0.5", "--light", "day"]
        _run(*words, "--size", f"{_WIDTH}x{_HEIGHT}", "--out", str(truth))
        store.add_group([Accepted(one.id, one.envelope, one.data) for one in _sealed(truth, number, now)])
        newest = runs.listed(store.engine, camera=camera_name(number), limit=1)[0]
        _judge(store, camera_name(number), Folder.of(home, newest), truth, folder / f"came-{number}")
    settings = WebSettings(port=0, rate_per_s=1e6, burst=1_000_000)
    return site_on(store, home=home, settings=settings, clock=lambda: now)


def _judge(store: Store, camera: str, folder: Folder, truth: Path, came: Path) -> None:
    """Composites of what was stored, and the same frames by the eyes without weights and by the package's."""
    store.export_clipart(came, camera, holdout=False)
    made = came / "composites"
    _run("compose", "--clipart", str(came), "--count", "12", "--out", str(made), "--preview", str(made / "sheet.png"))
    folder.root.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(folder.composites), _read(made / "sheet.png"))
    for name, model in (("motion", "motion"), ("candidate", str(general_model()))):
        out = folder.root / "reports" / f"{name}.json"
        out.parent.mkdir(exist_ok=True)
        pictures = out.parent / "pictures" / name
        _run("evaluate", "--model", model, "--data", str(truth), "--out", str(out), "--pictures", str(pictures))


def _sealed(truth: Path, number: int, now: int) -> Iterator[SealedEnvelope]:
    """What of a street is seen whole, and its background."""
    told = msgspec.json.decode((truth / "annotations.json").read_bytes())
    by_image: dict[int, list[dict[str, Any]]] = {}
    for one in told["annotations"]:
        by_image.setdefault(one["image_id"], []).append(one)
    anonymiser, frames = Anonymiser(), []
    for place, image in enumerate(told["images"]):
        bgr = _read(truth / image["file_name"])
        frames.append(bgr)
        captured_us = now - (len(told["images"]) - place) * 400 * SECOND
        yield from _crops(anonymiser, bgr, by_image.get(image["id"], []), number, captured_us)
    plate = np.median(np.stack(frames), axis=0)
    known = encode_rle(np.ones((_HEIGHT, _WIDTH), dtype=bool))
    for hour in range(_PLATES):
        captured_us = now - hour * HOUR_S * SECOND
        bgr = np.clip(plate * (1.0 - 0.03 * hour), 0, 255).astype(np.uint8)
        passed = anonymiser.plate(bgr, np.zeros((_HEIGHT, _WIDTH), dtype=bool))
        day_hour = captured_us // (HOUR_S * SECOND) % 24
        header = PlateHeader(
            origin=_origin(number, passed.anonymiser),
            captured=_moment(captured_us),
            hour=day_hour,
            known=known,
            samples=len(frames),
        )
        yield seal(header, passed)


def _crops(
    anonymiser: Anonymiser,
    bgr: np.ndarray[Any, np.dtype[np.uint8]],
    things: list[dict[str, Any]],
    number: int,
    at: int,
) -> Iterator[SealedEnvelope]:
    masks = [_mask(one["visible_segmentation"]) for one in things]
    moving = np.zeros((_HEIGHT, _WIDTH), dtype=bool)
    for mask in masks:
        moving |= mask
    patches = [PatchMask.from_full(mask) for mask in masks]
    labels = [Label(one["category_id"]) for one in things]
    seen = [
        Sighting(patch, label, 0.95, ground_contact(patch))
        for patch, label in zip(patches, labels, strict=True)
        if patch.area
    ]
    passed = anonymiser(bgr, seen, moving)
    for one, patch, label in zip(things, patches, labels, strict=True):
        if one["occlusion_fraction"] or one["truncated"] or patch.area < _LEAST_PX:
            continue
        x0, y0, x1, y1 = patch.box_xyxy
        box = (
            max(0, x0 - _MARGIN_PX),
            max(0, y0 - _MARGIN_PX),
            min(_WIDTH, x1 + _MARGIN_PX),
            min(_HEIGHT, y1 + _MARGIN_PX),
        )
        header = CropHeader(
            origin=_origin(number, passed.anonymiser),
            captured=_moment(at),
            box_xyxy=(float(x0), float(y0), float(x1), float(y1)),
            label=label,
            score=0.95,
            unoccluded_confidence=0.9,
            confidence_parts={"neighbour": 0.9},
            track_id=one["track_id"],
            stationary_us=None,
            ground_xy=ground_contact(patch),
            crop_xy=box[:2],
            mask=encode_rle(patch.window(box)),
            plate="",
            holdout=False,
        )
        yield seal(header, passed.crop(box, patch))


def _mask(segmentation: dict[str, Any]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    return decode_rle(msgspec.convert(segmentation, Rle))


def _origin(number: int, anonymiser: str) -> Origin:
    site, device, camera = who(number)
    return Origin(site=site, device=device, camera=camera, model="motion-1", anonymiser=anonymiser, frame_wh=_WH)


def _moment(at: int) -> Moment:
    return Moment(utc_us=at, boot_id="boot", monotonic_ns=at, clock=Clock.SYNCHRONISED, media_time_s=1.0)


def _read(path: Path) -> np.ndarray[Any, np.dtype[np.uint8]]:
    image = cv2.imread(str(path))
    if image is None:
        raise RuntimeError(f"{path} is no picture")
    return np.asarray(image, dtype=np.uint8)


def _run(*words: str) -> None:
    subprocess.run([program("walt-train"), *words], check=True, stdout=subprocess.DEVNULL, stderr=sys.stderr)


if __name__ == "__main__":
    main()
