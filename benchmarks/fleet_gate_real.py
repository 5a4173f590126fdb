"""A few generations of the gate's benchmark with nothing made up: rendered truth, real networks, real files.

The packaged network stands before the eyes without weights on a rendered street. Its folder says what it learned
from: crops that were cut out of that street, at other hours, at the same hours, or the very frames.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import msgspec
import numpy as np

from walt_edge.contract.bundle import Bundle
from walt_edge.contract.clipart import Clip, ClipArt, Plate, write_clipart
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import encode_rle
from walt_edge.contract.messages import Clock, CropHeader, Moment, Origin, PlateHeader
from walt_edge.detector import Detector
from walt_edge.packaged import general_model
from walt_train.data import open_samples
from walt_train.data.sample import AmodalSample, Samples, SamplesAround
from walt_train.data.write import write_samples
from walt_train.engine.learned import Learned, Part, write_learned
from walt_train.loop.children import program
from walt_train.loop.gate.evaluation import MOTION, Evaluation, read_evaluation
from walt_train.loop.gate.gate import Trial, judge
from walt_train.loop.gate.gather import entrant_of, provenance_of
from walt_train.loop.gate.holdout import Holdout, Source, freeze, holdout_of
from walt_train.loop.gate.provenance import Provenance
from walt_train.loop.gate.verdict import Decision, Entrant, Kind, Verdict

_FRAMES, _SIZE, _SEED = 30, "480x270", 2
_START = "2026-11-20T12:00:00Z"
_CROPS, _SIDE = 20, 64
_OWN = "home/walt-own"
_HOUR_US = 3_600_000_000


@dataclass(frozen=True, slots=True)
class Found:
    """A generation that was judged.

    Attributes:
        what: It is.
        verdict: Of the gate.
        is_right: Whether it passed or was refused as it should be.
    """

    what: str
    verdict: Verdict
    is_right: bool


@dataclass(frozen=True, slots=True)
class _Case:
    what: str
    holdout: Holdout
    evaluations: tuple[Evaluation, Evaluation]
    provenance: Provenance
    kind: Kind | None


def real_generations(folder: Path) -> Iterator[Found]:
    """Renders, evaluates, plants and judges; about a minute.

    Args:
        folder: Empty; holds what is made.
    """
    bundle = Bundle.read(general_model())
    for case in _cases(folder):
        trial = Trial(case.holdout, *case.evaluations)
        verdict = judge(entrant_of(bundle, None), Entrant(name=MOTION), [trial], case.provenance)
        kinds = {one.kind for one in verdict.findings}
        is_right = verdict.decision is Decision.PASSED if case.kind is None else case.kind in kinds
        yield Found(case.what, verdict, is_right)


def _cases(folder: Path) -> Iterator[_Case]:
    street = folder / "street"
    words = ["rwalt", "--seed", str(_SEED), "--frames", str(_FRAMES), "--size", _SIZE, "--preset", "busy"]
    _run([*words, "--fps", "2", "--light", "day", "--start", _START, "--quiet", "--out", str(street)])
    rendered, seen = holdout_of(street, 0), _evaluated(street)
    drawn = _unsigned(street, folder / "drawn")
    human = freeze(drawn, source=Source.HUMAN, made_us=0, cameras=["cam-1"], devices=[_OWN], made_by="somebody")
    clean = _trained(folder / "clean", street, human, shift_us=-5 * _HOUR_US)
    yield _Case("honest, rendered truth", rendered, seen, clean, None)
    yield _Case("honest, truth that people drew", human, seen, clean, None)
    same_hour = _trained(folder / "same-hour", street, human, shift_us=20_000_000)
    yield _Case("crops of the same minute", human, seen, same_hour, Kind.LEAKED_TIME)
    frame = _trained(folder / "frame", street, human, shift_us=-5 * _HOUR_US, plate=street / human.frames[3].file)
    yield _Case("a frame that judges as its plate", human, seen, frame, Kind.LEAKED_FRAME)
    scene = _trained(folder / "scene", street, human, shift_us=-5 * _HOUR_US, pictures=street)
    yield _Case("the rendered street itself in its training", rendered, seen, scene, Kind.LEAKED_SCENE)
    still = _unsigned(street, folder / "still")
    own = freeze(still, source=Source.STATIONARY, made_us=0, cameras=["cam-1"], devices=[_OWN], made_by="eyes")
    yield _Case("its own device alone", own, seen, clean, Kind.OWN_DEVICE)
    copied = _self_made(street, folder / "copied")
    said = freeze(copied, source=Source.HUMAN, made_us=0, cameras=["cam-1"], devices=[_OWN], made_by="somebody")
    yield _Case("its own masks, said to be a person's", said, _evaluated(copied), clean, Kind.OWN_LABELS)


def _run(words: list[str]) -> None:
    subprocess.run([program("walt-train"), *words], check=True, stdout=subprocess.DEVNULL, timeout=600)


def _evaluated(truth: Path) -> tuple[Evaluation, Evaluation]:
    """Of the packaged network and of the eyes without weights."""
    found = []
    for name, model in (("general", str(general_model())), (MOTION, MOTION)):
        out = truth / f"{name}.json"
        _run(["evaluate", "--model", model, "--data", str(truth), "--out", str(out)])
        found.append(read_evaluation(out))
    return found[0], found[1]


def _unsigned(street: Path, folder: Path) -> Path:
    """The same pictures and truth, without what says that they were rendered."""
    shutil.copytree(street / "images", folder / "images")
    content = msgspec.json.decode((street / "annotations.json").read_bytes())
    (folder / "annotations.json").write_bytes(msgspec.json.encode(content | {"info": {}}))
    return folder


class _Answers(SamplesAround):
    """Frames whose truth is what a network answers."""

    def __init__(self, samples: Samples) -> None:
        super().__init__(samples)
        self._detector = Detector.load(general_model())

    def sample(self, epoch: int, index: int) -> AmodalSample:
        """Its answer to a frame, the lowest in the picture nearest."""
        true = self._samples.sample(epoch, index)
        found = self._detector.predict(true.image_bgr)
        order = np.argsort(-found.boxes_xyxy[:, 3], kind="stable").tolist()
        kind = type(true.objects[0])
        objects = tuple(
            kind(Label(int(found.labels[one])), found.amodal[one], 1000 * index + place)
            for place, one in enumerate(order)
        )
        return AmodalSample(true.image_bgr, objects, (), true.name, true.frame, true.time, true.camera)


def _self_made(street: Path, folder: Path) -> Path:
    for _ in write_samples(folder, _Answers(open_samples(street, split="all")), {}):
        pass
    return folder


def _trained(
    folder: Path,
    street: Path,
    human: Holdout,
    *,
    shift_us: int,
    plate: Path | None = None,
    pictures: Path | None = None,
) -> Provenance:
    """What a training leaves that learned from crops of the street, so much later than its frames."""
    clipart, train = folder / "clipart", folder / "train"
    clipart.mkdir(parents=True)
    train.mkdir()
    clips = [_clip(clipart, street, human, number, shift_us) for number in range(_CROPS)]
    background = _plate(clipart, plate or clipart / clips[0].image)
    frozen = ClipArt(camera="cam-1", frame_wh=(480, 270), plates=[background], clips=clips, rejected_by_reason={})
    write_clipart(clipart, frozen)
    parts = [Part(role="train", data_sha256="1" * 64, camera="cam-1", clipart_sha256="2" * 64)]
    if pictures is not None:
        parts.append(Part(role="train", data_sha256="3" * 64))
        (train / "manifest.json").write_bytes(msgspec.json.encode({"data": f"{clipart}, {pictures}"}))
    write_learned(train, Learned(data_sha256="4" * 64, seed=0, parts=tuple(parts)))
    return provenance_of(clipart, train, camera="cam-1", devices=[_OWN])


def _origin() -> Origin:
    return Origin(
        site="home", device="walt-own", camera="cam-1", model="motion-1", anonymiser="1", frame_wh=(480, 270)
    )


def _moment(utc_us: int) -> Moment:
    clock = Clock.SYNCHRONISED
    return Moment(utc_us=utc_us, boot_id="boot", monotonic_ns=utc_us * 1000, clock=clock, media_time_s=0.0)


def _clip(clipart: Path, street: Path, human: Holdout, number: int, shift_us: int) -> Clip:
    """A window of one of the street's frames, as if it had come over the wire."""
    frame = human.frames[number]
    assert frame.captured_us is not None
    picture = cv2.imread(str(street / frame.file))
    assert picture is not None
    x, y = 10 * number, 100
    name = f"{number}.jpg"
    cv2.imwrite(str(clipart / name), picture[y : y + _SIDE, x : x + _SIDE])
    header = CropHeader(
        origin=_origin(),
        captured=_moment(frame.captured_us + shift_us),
        box_xyxy=(x, y, x + _SIDE, y + _SIDE),
        label=Label.PERSON,
        score=1.0,
        unoccluded_confidence=1.0,
        confidence_parts={},
        track_id=number,
        stationary_us=None,
        ground_xy=(x + _SIDE / 2, y + _SIDE),
        crop_xy=(x, y),
        mask=encode_rle(np.ones((_SIDE, _SIDE), bool)),
        plate="",
        holdout=False,
    )
    return Clip(header=header, image=name, crop=f"{number + 1:064x}")


def _plate(clipart: Path, picture: Path) -> Plate:
    """A background, for which any picture stands."""
    shutil.copy(picture, clipart / "plate.jpg")
    known = encode_rle(np.ones((270, 480), bool))
    header = PlateHeader(origin=_origin(), captured=_moment(0), hour=9, known=known, samples=9)
    return Plate(id="f" * 64, header=header, image="plate.jpg")
