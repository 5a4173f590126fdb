"""What a candidate learned from, held against what judges it.

Who is judged by what he has seen, or by what he said himself, agrees with himself: that is how self-training goes
wrong unseen. Nothing here is a matter of degree: each finding refuses, and names its evidence.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from walt_train.loop.gate.evaluation import Case, Evaluation
from walt_train.loop.gate.holdout import HeldFrame, Holdout, Source
from walt_train.loop.gate.rules import Rules
from walt_train.loop.gate.verdict import Entrant, Finding, Kind

_OCCLUDED = 0.1
_S = 1_000_000


class Learnt(msgspec.Struct, frozen=True, kw_only=True):
    """A crop or plate that a training was given: to learn from, or to choose its threshold by.

    Attributes:
        id: Of its envelope; "" where nobody knows.
        image_sha256: Of its image; "" where the image was not kept.
        camera: That took it.
        captured_us: When, microseconds since 1970-01-01 UTC; None of a plate, which stands for hours.
        track: `SITE/DEVICE/BOOT/TRACK`; "" of a plate.
        holdout: Whether the edge had marked it to judge and never to train.
    """

    id: str
    image_sha256: str = ""
    camera: str = ""
    captured_us: int | None = None
    track: str = ""
    holdout: bool = False


class Provenance(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a candidate learned from.

    Attributes:
        camera: Whose model it is.
        devices: `SITE/DEVICE` that it is for.
        learnt: Crops and plates.
        given: Ids of everything that mining was given, also of what it left out.
        scenes: Seeds of rendered streets.
        data: sha256 names of all data sets, those of weights that it began with included.
        unknown: Data sets of which nobody knows what they show.
    """

    camera: str
    devices: tuple[str, ...]
    learnt: tuple[Learnt, ...] = ()
    given: tuple[str, ...] = ()
    scenes: tuple[int, ...] = ()
    data: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    def is_independent(self, holdout: Holdout) -> bool:
        """Whether a holdout's truth is not from the devices that the model is for."""
        if holdout.source is Source.MODEL:
            return False
        if holdout.source in (Source.RENDERED, Source.HUMAN):
            return True
        return self.camera not in holdout.cameras and not set(holdout.devices) & set(self.devices)


def leaks(provenance: Provenance, holdouts: Sequence[Holdout], rules: Rules) -> Iterator[Finding]:
    """Everything that shows that the candidate has seen what judges it."""
    marked = [one for one in provenance.learnt if one.holdout]
    if marked:
        yield Finding(
            kind=Kind.LEAKED_MARK,
            line=f"{len(marked)} crops that were marked to judge have trained it, such as {_short(marked[0].id)}",
        )
    if provenance.unknown:
        yield Finding(
            kind=Kind.UNKNOWN_DATA,
            line=f"nobody knows what {_short(provenance.unknown[0])} shows, which it learned from",
        )
    times = _times(provenance.learnt)
    for holdout in holdouts:
        yield from _same_pictures(provenance, holdout)
        yield from _same_tracks(provenance, holdout)
        yield from _same_time(times, holdout, round(rules.time_margin_s * _S))
        if holdout.scene is not None and holdout.scene.seed in provenance.scenes:
            line = f"it learned from the rendered street of seed {holdout.scene.seed}, which judges in {holdout.name}"
            yield Finding(kind=Kind.LEAKED_SCENE, line=line, holdout=holdout.name)


def foreign_makers(holdouts: Sequence[Holdout], models: Iterable[Entrant]) -> Iterator[Finding]:
    """Holdouts whose labels a model made, as they say themselves."""
    hashes = {model.sha256: model.name for model in models if model.sha256}
    for holdout in holdouts:
        maker = hashes.get(holdout.made_by_sha256)
        if holdout.source is Source.MODEL:
            line = f"the labels of {holdout.name} are a model's ({holdout.made_by}), which never judge"
            yield Finding(kind=Kind.MODEL_LABELS, line=line, holdout=holdout.name)
        elif maker is not None:
            line = f"{maker} itself made the truth of {holdout.name}"
            yield Finding(kind=Kind.MODEL_LABELS, line=line, holdout=holdout.name)


def own_labels(holdout: Holdout, evaluation: Evaluation, rules: Rules) -> Iterator[Finding]:
    """Truth that equals a model's answers better than exact truth could: the network's grid cannot draw so well."""
    hidden = [case for case in evaluation.result.cases if case.occlusion >= _OCCLUDED and case.mask_iou > 0]
    same = [case for case in hidden if case.mask_iou >= rules.same_mask_iou]
    if len(same) < max(rules.same_cases_min, rules.same_share * len(hidden)):
        return
    example = _name(max(same, key=lambda case: (case.mask_iou, case.image)))
    line = (
        f"{len(same)} of {len(hidden)} occluded objects in {holdout.name} are {evaluation.model}'s own masks "
        f"(IoU {rules.same_mask_iou:g} and more, such as {example}): it made that truth"
    )
    yield Finding(kind=Kind.OWN_LABELS, line=line, holdout=holdout.name)


def trained_on(provenance: Provenance, holdout: Holdout, evaluation: Evaluation) -> Iterator[Finding]:
    """The holdout itself among the data sets that trained."""
    if evaluation.data_sha256 in provenance.data:
        line = f"it was trained on {holdout.name} itself (data {evaluation.data_sha256[:12]})"
        yield Finding(kind=Kind.LEAKED_DATA, line=line, holdout=holdout.name)


def _same_pictures(provenance: Provenance, holdout: Holdout) -> Iterator[Finding]:
    images = {one.image_sha256 for one in provenance.learnt} - {""}
    ids = {one.id for one in provenance.learnt} | set(provenance.given)
    ids.discard("")
    same = [frame for frame in holdout.frames if frame.sha256 in images or frame.crop in ids]
    if same:
        line = f"{_count(same, holdout)} trained it, such as {same[0].file} ({same[0].sha256[:12]})"
        yield Finding(kind=Kind.LEAKED_FRAME, line=line, holdout=holdout.name)


def _same_tracks(provenance: Provenance, holdout: Holdout) -> Iterator[Finding]:
    tracks = {one.track for one in provenance.learnt} - {""}
    same = [(frame, track) for frame in holdout.frames for track in frame.tracks if track in tracks]
    if same:
        (frame, track), frames = same[0], {frame.file: frame for frame, _ in same}
        line = f"{_count(list(frames.values()), holdout)} show what trained it, such as track {track} in {frame.file}"
        yield Finding(kind=Kind.LEAKED_TRACK, line=line, holdout=holdout.name)


def _same_time(times: dict[str, list[tuple[int, str]]], holdout: Holdout, margin_us: int) -> Iterator[Finding]:
    near = []
    for frame in holdout.frames:
        found = _nearest(times.get(frame.camera, []), frame.captured_us)
        if found is not None and found[0] <= margin_us:
            near.append((found[0], frame, found[1]))
    if near:
        apart_us, frame, crop = min(near, key=lambda one: (one[0], one[1].file))
        line = (
            f"{_count([one for _, one, _ in near], holdout)} were captured within {margin_us / _S:g} s of crops that "
            f"trained it, such as {frame.file}, {apart_us / _S:.1f} s from {_short(crop)}"
        )
        yield Finding(kind=Kind.LEAKED_TIME, line=line, holdout=holdout.name)


def _times(learnt: Iterable[Learnt]) -> dict[str, list[tuple[int, str]]]:
    """When crops were captured, by camera, in order."""
    found: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for one in learnt:
        if one.captured_us is not None:
            found[one.camera].append((one.captured_us, one.id))
    return {camera: sorted(times) for camera, times in found.items()}


def _nearest(times: Sequence[tuple[int, str]], captured_us: int | None) -> tuple[int, str] | None:
    """How far away the nearest is, microseconds, and which."""
    if captured_us is None or not times:
        return None
    place = bisect_left(times, (captured_us, ""))
    return min((abs(at_us - captured_us), crop) for at_us, crop in times[max(0, place - 1) : place + 1])


def _count(frames: Sequence[HeldFrame], holdout: Holdout) -> str:
    return f"{len(frames)} of {len(holdout.frames)} frames of {holdout.name}"


def _name(case: Case) -> str:
    return f"{case.image} object {case.place}"


def _short(id_: str) -> str:
    return f"crop {id_[:12]}" if id_ else "a crop without a name"
