"""The step that judges, in a generation with fake programs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.walt_train.loop.serve.loop import CROPS, TRUTH_FRAMES, Loop, crop, fill, truth
from walt_edge.contract.messages import CropHeader
from walt_train.loop.gate.holdout import Shown, Source, freeze, holdout_of
from walt_train.loop.gate.judging import least
from walt_train.loop.gate.verdict import Cost, Decision, Kind, Verdict, read_verdict
from walt_train.loop.lineage import graph
from walt_train.loop.serve.folder import Folder
from walt_train.loop.serve.jobs import State
from walt_train.loop.serve.worker import ServeError

NOW_US = 1_795_000_000_000_000


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Loop]:
    with Loop(tmp_path) as loop:
        fill(loop.store)
        yield loop


@pytest.fixture
def wishes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that makes programs misbehave."""
    monkeypatch.setenv("WALT_FAKE", str(tmp_path / "fake.json"))
    return tmp_path / "fake.json"


def drawn(loop: Loop, **told: Any) -> Path:
    """A holdout that people drew on frames of cam-1; `told` of its third frame."""
    folder = truth(loop.folder / "drawn")
    content = json.loads((folder / "annotations.json").read_text()) | {"info": {}}
    (folder / "annotations.json").write_text(json.dumps(content))
    words: dict[str, Any] = {"source": Source.HUMAN, "devices": ["test/walt-test"], "made_by": "anna"}
    freeze(folder, made_us=NOW_US, cameras=["cam-1"], shown={"images/2.jpg": Shown(**told)}, **words)
    return folder


def folder_of(loop: Loop, number: int = 1) -> Folder:
    return Folder(Folder.path(loop.home, "cam-1", number))


def refused(loop: Loop, folder: Path, match: str) -> Verdict:
    loop.truths["cam-1"] = folder
    with pytest.raises(ServeError, match=match):
        loop.worker().run()
    assert loop.generations[0].state is State.REFUSED
    assert loop.releases == []
    return read_verdict(folder_of(loop).verdict)


def test_what_it_leaves(loop: Loop) -> None:
    loop.truths["cam-1"] = truth(loop.folder / "truth")
    loop.worker().run()
    folder, [generation] = folder_of(loop), loop.generations
    found = read_verdict(folder.verdict)
    assert (found.decision, found.against, found.findings) == (Decision.PASSED, "motion", ())
    assert generation.reason == found.line
    assert folder.verdict.with_suffix(".txt").read_text().startswith(f"{found.line}\n")
    assert found.model is not None
    assert found.model.cost == Cost(latency_ms_p50=10.0, latency_ms_p99=12.0, memory_mb=50.0)
    assert found.parity is not None
    assert found.parity.checkpoint_sha256 == found.parity.trained_sha256
    assert [one.frames for one in found.holdouts] == [TRUTH_FRAMES]
    assert {path.name for path in (folder.root / "reports" / "pictures").iterdir()} == {"motion", "candidate"}
    held = holdout_of(loop.folder / "truth", 0)
    with loop.store.engine.connect() as connection:
        parents = graph.parents(connection, _sha256(folder.verdict))
    assert set(parents) == {held.content_sha256, found.model.sha256}


def test_several_holdouts_judge_one_camera(loop: Loop) -> None:
    worker = loop.worker()
    streets = [truth(loop.folder / name) for name in ("one", "two")]
    worker._workshop._court._judging = _judging(worker, streets)
    worker.run()
    found = read_verdict(folder_of(loop).verdict)
    assert [one.name for one in found.holdouts] == ["one", "two"]
    assert (found.cases, found.objects) == (2 * TRUTH_FRAMES, 2 * TRUTH_FRAMES)
    reports = {path.name for path in (folder_of(loop).root / "reports").glob("*.json")}
    assert reports == {"motion.json", "candidate.json", "motion-2.json", "candidate-2.json"}


def test_a_holdout_twice_is_a_mistake(loop: Loop) -> None:
    worker = loop.worker()
    street = truth(loop.folder / "one")
    worker._workshop._court._judging = _judging(worker, [street, street])
    with pytest.raises(ServeError, match="two holdouts are called one"):
        worker.run()


def test_frames_of_the_hour_that_trained(loop: Loop) -> None:
    header = crop(2).envelope.header
    assert isinstance(header, CropHeader)
    found = refused(loop, drawn(loop, captured_us=header.captured.utc_us + 30_000_000), "refused: leaked time: ")
    assert [one.kind for one in found.findings] == [Kind.LEAKED_TIME]
    assert "images/2.jpg" in found.line
    assert not (folder_of(loop).root / "reports").exists(), "evidence comes before any evaluation"


def test_a_crop_that_trained_and_its_track(loop: Loop) -> None:
    one = crop(2)
    header = one.envelope.header
    assert isinstance(header, CropHeader)
    track = f"test/walt-test/{header.captured.boot_id}/2"
    found = refused(loop, drawn(loop, crop=one.id, tracks=(track,)), r"refused: leaked frame: .* \(and 1 more\)")
    assert [one.kind for one in found.findings] == [Kind.LEAKED_FRAME, Kind.LEAKED_TRACK]


def test_what_people_drew_at_other_times_judges(loop: Loop) -> None:
    loop.truths["cam-1"] = drawn(loop)
    loop.worker().run()
    assert read_verdict(folder_of(loop).verdict).decision is Decision.PASSED


def test_its_own_device_alone(loop: Loop) -> None:
    folder = drawn(loop)
    (folder / "holdout.json").unlink()
    freeze(
        folder, source=Source.STATIONARY, made_us=NOW_US, cameras=["cam-1"], devices=["test/walt-test"], made_by="x"
    )
    refused(loop, folder, "refused: its own device alone: drawn is of the devices")


def test_a_holdout_that_was_changed_judges_nobody(loop: Loop) -> None:
    folder = truth(loop.folder / "truth")
    holdout_of(folder, NOW_US)
    (folder / "images/3.jpg").write_bytes(b"another")
    loop.truths["cam-1"] = folder
    with pytest.raises(ServeError, match=r"judge failed: .*3\.jpg was changed after it was frozen"):
        loop.worker().run()
    assert loop.releases == []


def test_a_bundle_that_does_not_open_here(loop: Loop, wishes: Path) -> None:
    wishes.write_text(json.dumps({"costs": {f"0 {CROPS}": {"unfit": "a mask's IoU is 0.5"}}}))
    found = refused(loop, truth(loop.folder / "truth"), "refused: export: its bundle does not hold .*IoU is 0.5")
    assert [one.kind for one in found.findings] == [Kind.PARITY]


def test_a_program_that_measures_nothing_is_tried_again(loop: Loop, wishes: Path) -> None:
    wishes.write_text(json.dumps({"fail": "trial measure", "words": "out of memory"}))
    loop.truths["cam-1"] = truth(loop.folder / "truth")
    with pytest.raises(ServeError, match=r"judge failed: .*cannot be measured here: .*out of memory"):
        loop.worker().run()


@pytest.mark.parametrize(("ms", "state"), [(14.0, State.DONE), (30.0, State.REFUSED)])
def test_a_later_generation_may_not_be_much_slower(loop: Loop, wishes: Path, ms: float, state: State) -> None:
    text = f"0 {2 * CROPS}"
    loop.truths["cam-1"] = truth(loop.folder / "truth", {"motion": 40.0, text: 70.0})
    loop.worker().run()
    fill(loop.store, numbers=range(10, 10 + CROPS))
    wishes.write_text(json.dumps({"costs": {text: {"latency_ms_p50": ms}}}))
    worker = loop.worker()
    if state is State.REFUSED:
        with pytest.raises(ServeError, match=r"refused: latency: it takes 30\.0 ms a picture, fake 10\.0 ms"):
            worker.run()
    else:
        worker.run()
    assert [one.state for one in loop.generations] == [State.DONE, state]
    pictures = {path.name for path in (folder_of(loop, 2).root / "reports" / "pictures").iterdir()}
    assert pictures == {"motion", "champion", "candidate"}


def test_the_quicker_of_two_measurements_counts() -> None:
    one = Cost(latency_ms_p50=5, latency_ms_p99=9, memory_mb=10)
    other = Cost(latency_ms_p50=6, latency_ms_p99=7, memory_mb=12)
    assert least(one, other) == Cost(latency_ms_p50=5, latency_ms_p99=7, memory_mb=10)
    assert least(one, None) is one


def _judging(worker: Any, folders: list[Path]) -> Any:
    return replace(worker._workshop._court._judging, truths={"cam-1": folders})


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
