from __future__ import annotations

import msgspec
import pytest

from tests.walt_train.loop.gate.parts import CANDIDATE, CHAMPION, HOUR_US, NOON_US, OWN, holdout, learnt, provenance
from walt_train.loop.gate.gate import evidence
from walt_train.loop.gate.holdout import Holdout, Scene, Source
from walt_train.loop.gate.provenance import Learnt, Provenance
from walt_train.loop.gate.rules import Rules
from walt_train.loop.gate.verdict import Finding, Kind

HUMAN = holdout("drawn", Source.HUMAN)


def found(*held: Holdout, seen: Provenance) -> list[Finding]:
    return list(evidence(CANDIDATE, CHAMPION, held, seen, Rules()))


def framed(**changes: object) -> Holdout:
    """Its fourth frame changed."""
    frames = list(HUMAN.frames)
    frames[3] = msgspec.structs.replace(frames[3], **changes)
    return msgspec.structs.replace(HUMAN, frames=tuple(frames))


def test_who_learned_at_other_hours_is_clean() -> None:
    assert found(HUMAN, holdout(), seen=provenance([learnt(n) for n in range(24)], scenes=(8,))) == []


@pytest.mark.parametrize("apart_s", [-60.0, -1.0, 0.0, 59.9, 60.0])
def test_a_crop_from_the_same_minute(apart_s: float) -> None:
    near = learnt(captured_us=NOON_US + 5 * HOUR_US + round(apart_s * 1e6))
    [one] = found(HUMAN, seen=provenance([learnt(n) for n in range(24)] + [near]))
    assert (one.kind, one.holdout) == (Kind.LEAKED_TIME, "drawn")
    assert one.line == (
        "1 of 24 frames of drawn were captured within 60 s of crops that trained it, such as images/5.jpg, "
        f"{abs(apart_s):.1f} s from crop {near.id[:12]}"
    )


@pytest.mark.parametrize("apart_s", [-60.1, 61.0])
def test_a_crop_from_another_minute(apart_s: float) -> None:
    assert found(HUMAN, seen=provenance([learnt(captured_us=NOON_US + round(apart_s * 1e6))])) == []


def test_the_same_minute_of_another_camera() -> None:
    assert found(HUMAN, seen=provenance([learnt(captured_us=NOON_US, camera="cam-2")])) == []


def test_a_block_of_time_counts_every_frame_of_it() -> None:
    minute = tuple(
        msgspec.structs.replace(frame, captured_us=NOON_US + n * 1_000_000) for n, frame in enumerate(HUMAN.frames)
    )
    block = msgspec.structs.replace(HUMAN, frames=minute)
    [one] = found(block, seen=provenance([learnt(captured_us=NOON_US + 30_000_000)]))
    assert one.line.startswith("24 of 24 frames of drawn were captured within 60 s")


@pytest.mark.parametrize(
    ("held", "seen", "kind", "words"),
    [
        (framed(sha256="9" * 64), provenance([learnt(image_sha256="9" * 64)]), Kind.LEAKED_FRAME, "images/3.jpg"),
        (framed(crop="8" * 64), provenance([learnt(id="8" * 64)]), Kind.LEAKED_FRAME, "1 of 24 frames of drawn"),
        (framed(crop="8" * 64), provenance(given=("8" * 64,)), Kind.LEAKED_FRAME, "trained it"),
        (framed(sha256="9" * 64), provenance([Learnt(id="", image_sha256="9" * 64)]), Kind.LEAKED_FRAME, "images/3"),
        (framed(tracks=(f"{OWN}/boot/4",)), provenance([learnt(4)]), Kind.LEAKED_TRACK, f"track {OWN}/boot/4"),
        (holdout(), provenance(scenes=(3, 7)), Kind.LEAKED_SCENE, "rendered street of seed 7"),
        (HUMAN, provenance([learnt(holdout=True)]), Kind.LEAKED_MARK, "1 crops that were marked to judge"),
        (HUMAN, provenance(unknown=("d" * 64,)), Kind.UNKNOWN_DATA, "nobody knows what"),
        (holdout("m", Source.MODEL), provenance(), Kind.MODEL_LABELS, "the labels of m are a model's (anna)"),
        (
            msgspec.structs.replace(HUMAN, made_by_sha256="a" * 64),
            provenance(),
            Kind.MODEL_LABELS,
            "demo-1",
        ),
        (msgspec.structs.replace(HUMAN, made_by_sha256="c" * 64), provenance(), Kind.MODEL_LABELS, "demo-2 itself"),
    ],
)
def test_each_leak_is_named_with_its_evidence(held: Holdout, seen: Provenance, kind: Kind, words: str) -> None:
    findings = found(held, holdout("clean", scene=Scene(seed=99)), seen=seen)
    assert [one.kind for one in findings] == [kind]
    assert words in findings[0].line
    assert "\n" not in findings[0].line


def test_nothing_is_taken_for_a_match_because_nobody_knows_it() -> None:
    unnamed = Learnt(id="", image_sha256="", camera="cam-1")
    assert found(HUMAN, seen=provenance([unnamed], given=("",))) == []


def test_a_holdout_of_which_no_model_is_named_is_nobodys() -> None:
    nameless = msgspec.structs.replace(CHAMPION, sha256="")
    assert not list(evidence(CANDIDATE, nameless, [HUMAN], provenance(), Rules()))
