from __future__ import annotations

import base64
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.walt_train.loop import scene
from walt_edge.contract.labels import Label
from walt_edge.privacy.anonymiser import SealedEnvelope
from walt_train.loop.report.evidence import Evidence, ReportError, read_evidence, read_journal
from walt_train.loop.report.figures import (
    Gate,
    Ledger,
    Report,
    Source,
    crops_of,
    failing,
    gates_of,
    ledger_of,
    timings_of,
)
from walt_train.loop.report.overview import best_first
from walt_train.loop.report.page import write_report
from walt_train.loop.report.truth import Match, Truth, judge, wilson
from walt_train.loop.store.store import Store

CROPS = [scene.crop(scene.CAR, 3, 0.95), scene.crop(scene.CAR, 5, 0.7), scene.crop(scene.WALKER, 4, 0.8)]
VOID = {"link", "meta", "img", "br"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    sealed = [scene.plate(), *CROPS]
    scene.write_journal(tmp_path / "journal", sealed)
    scene.write_annotations(tmp_path / "annotations.json")
    with Store(tmp_path / "store") as store:
        scene.fill_store(store, sealed)
    return tmp_path


@pytest.fixture
def evidence(folder: Path) -> Iterator[Evidence]:
    with Store(folder / "store") as store:
        yield read_evidence(folder / "journal", store, scene.telemetry(4))


def report_of(evidence: Evidence, matches: list[Match], gates: list[Gate] | None = None) -> Report:
    ledger = ledger_of(evidence, scene.FRAMES, 4, 0)
    return Report(
        source=Source(title="A <test>", rendered=bool(matches), frames_sent=12, fps=10.0, resolution_wh=(640, 360)),
        ledger=ledger,
        gates=gates or gates_of(ledger, 1),
        rejected_by_reason=evidence.rejected_objects(),
        refused_moments=evidence.refused_moments(),
        timings=timings_of(evidence),
        truth=judge(matches, 3) if matches else None,
        crops=crops_of(evidence),
        stages_s={"watch": 1.0},
        walt_version="test",
        anonymiser="test",
    )


class Page(HTMLParser):
    """Checks that tags are balanced, and gathers what the page refers to and says."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += " ".join(data.split()) + " "


# Evidence


def test_the_journal_is_read_up_to_a_half_written_line(folder: Path) -> None:
    lines = read_journal(folder / "journal")
    assert [line.frame for line in lines] == [*range(scene.FRAMES), None]


def test_evidence_adds_up(evidence: Evidence) -> None:
    assert len(evidence.frames) == scene.FRAMES
    assert [line.frame for line in evidence.sampled] == [0, 4, 8]
    assert evidence.refused_moments() == {"neighbour": 12, "small": 12}
    assert evidence.rejected_objects() == {"neighbour": 1}
    assert evidence.paths()[1][0] == (40 + 60, 260)
    assert evidence.labels() == {1: "vehicle", 2: "person", 3: "person"}
    assert evidence.missing_ids == frozenset()
    assert evidence.plate is not None


def test_what_was_sealed_and_is_not_stored_is_missing(folder: Path) -> None:
    with Store(folder / "store") as store:
        store.delete([CROPS[0].id], "test")
        evidence = read_evidence(folder / "journal", store, None)
    assert evidence.missing_ids == {CROPS[0].id}
    ledger = ledger_of(evidence, scene.FRAMES, 3, 0)
    assert failing(gates_of(ledger, 1)) == (
        "spool: accepted 4, acknowledged 3, dropped 0, rejected 0, waiting 1; "
        "store: holds 2 crops; 1 of what was sealed are missing"
    )


@pytest.mark.parametrize(
    ("content", "says"), [(None, "no journal in"), (b"not json\n", "is malformed"), (b"{}\n", "is malformed")]
)
def test_a_journal_that_cannot_be_read(tmp_path: Path, content: bytes | None, says: str) -> None:
    if content is not None:
        (tmp_path / "journal.jsonl").write_bytes(content)
    with pytest.raises(ReportError, match=says):
        read_journal(tmp_path)


def test_a_missing_picture_is_named(evidence: Evidence) -> None:
    (evidence.pictures / "frame-000004.jpg").unlink()
    with pytest.raises(ReportError, match=r"frame-000004.jpg, which the journal names"):
        evidence.picture(evidence.sampled[1])


# Truth


def test_crops_are_matched_by_time_and_mask(folder: Path, evidence: Evidence) -> None:
    truth = Truth(folder / "annotations.json", scene.FPS)
    matches = [truth.match(clip) for clip in evidence.clips]
    assert [match.frame for match in matches] == [3, 4, 5]
    assert [match.truth and match.truth.track_id for match in matches] == [1, 2, 1]
    assert [round(match.iou, 3) for match in matches] == [1.0, 0.9, 1.0]
    report = judge(matches, truth.objects)
    assert (report.crops, report.whole, report.labels_right, report.unmatched) == (3, 3, 3, 0)
    assert (report.objects, report.true_objects) == (2, 3)
    assert [(row.label, row.crops) for row in report.iou] == [("person", 1), ("vehicle", 2), ("all", 3)]


@pytest.mark.parametrize(
    ("crop", "frame", "whole", "label_right"),
    [
        (scene.crop(scene.HIDDEN, 2), 2, False, True),
        (scene.crop(scene.CAR, 2, label=Label.PERSON), 2, True, False),
        (scene.crop(scene.CAR, 20), 20, False, False),
    ],
    ids=["an occluded object", "a wrong class", "a frame that is none"],
)
def test_what_is_wrong_is_counted(
    folder: Path, crop: SealedEnvelope, frame: int, whole: bool, label_right: bool
) -> None:
    with Store(folder / "other") as store:
        scene.fill_store(store, [crop])
        [clip] = read_evidence(folder / "journal", store, None).clips
    match = Truth(folder / "annotations.json", scene.FPS).match(clip)
    assert (match.frame, match.is_whole, match.is_label_right) == (frame, whole, label_right)
    assert judge([match], 3).whole == int(whole)


def test_a_moment_off_is_seen_in_the_overlap(folder: Path, evidence: Evidence) -> None:
    slow = Truth(folder / "annotations.json", scene.FPS * 1.4)
    assert slow.match(evidence.clips[0]).iou < 0.9


def test_truth_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="cannot read the street's truth"):
        Truth(tmp_path / "annotations.json", 10.0)


@pytest.mark.parametrize(
    ("hits", "trials", "low", "high"),
    [
        (0, 0, 0.0, 1.0),
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (15, 20, 0.5313, 0.8881),
        (81, 263, 0.2553, 0.3662),
    ],
)
def test_wilsons_interval(hits: int, trials: int, low: float, high: float) -> None:
    assert wilson(hits, trials) == pytest.approx((low, high), abs=1e-4)


@given(st.integers(1, 500), st.data())
def test_wilsons_interval_holds_the_share(trials: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, trials))
    low, high = wilson(hits, trials)
    assert 0 <= low <= hits / trials + 1e-12
    assert hits / trials - 1e-12 <= high <= 1


# Gates

GOOD = Ledger(
    frames_sent=100,
    frames_received=100,
    frames_watched=90,
    frames_skipped=10,
    objects_seen=5,
    crops_chosen=7,
    envelopes_accepted=8,
    envelopes_acknowledged=8,
    envelopes_dropped=0,
    envelopes_rejected=0,
    envelopes_waiting=0,
    crops_stored=7,
    plates_stored=1,
    frames_stored=0,
    bytes_stored=1000,
    resends_absorbed=0,
    quarantined=0,
    missing=0,
)


def test_all_gates_pass() -> None:
    assert failing(gates_of(GOOD, 7)) == ""


@pytest.mark.parametrize(
    ("changes", "station"),
    [
        ({"frames_sent": 0}, "camera"),
        ({"frames_watched": 9}, "agent"),
        ({"objects_seen": 0}, "watcher"),
        ({"crops_chosen": 6}, "choice"),
        ({"envelopes_waiting": 1, "envelopes_acknowledged": 7}, "spool"),
        ({"envelopes_acknowledged": 9}, "spool"),
        ({"envelopes_dropped": 1, "envelopes_acknowledged": 7}, "spool"),
        ({"quarantined": 1}, "ingest"),
        ({"missing": 1}, "store"),
        ({"crops_stored": 6}, "store"),
        ({"plates_stored": 0}, "plate"),
    ],
)
def test_a_station_that_did_not_do_its_work_is_named(changes: dict[str, int], station: str) -> None:
    ledger = msgspec.structs.replace(GOOD, **changes)
    assert [gate.station for gate in gates_of(ledger, 7) if not gate.passed] == [station]


# The page


def test_the_report_of_a_rendered_street(folder: Path, evidence: Evidence) -> None:
    truth = Truth(folder / "annotations.json", scene.FPS)
    matches = [truth.match(clip) for clip in evidence.clips]
    report = report_of(evidence, matches)
    html = write_report(folder, report, evidence, matches).read_text()
    page = Page(html)
    assert page.open == []
    assert "script" not in page.tags
    assert "A <test>: 12 frames" in page.text
    assert "Every station did its work." in page.text
    assert "4 accepted = 4 acknowledged" in page.text
    assert "another object touches it" in page.text
    assert "a precision of 100% " in page.text
    assert len(page.sources) == 5 + len(CROPS) + 2  # figures, gallery, two reasons
    for source in page.sources:
        head, _, data = source.partition(",")
        assert head == "data:image/jpeg;base64"
        assert cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR) is not None
    assert msgspec.json.decode((folder / "report.json").read_bytes(), type=Report) == report
    sheet = cv2.imread(str(folder / "overview.png"))
    assert sheet is not None
    assert sheet.shape[1] == 1200


def test_the_report_of_a_camera_that_saw_nothing(folder: Path) -> None:
    (folder / "journal" / "journal.jsonl").write_bytes(b"")
    with Store(folder / "empty") as store:
        evidence = read_evidence(folder / "journal", store, None)
    report = report_of(evidence, [])
    page = Page(write_report(folder, report, evidence, []).read_text())
    assert page.open == []
    assert "A station did not do its work." in page.text
    assert "Nothing was seen whole." in page.text
    assert page.sources == []
    assert not (folder / "overview.png").exists()


def test_a_report_that_cannot_be_written(evidence: Evidence, tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=r"cannot write the report in .*No such file"):
        write_report(tmp_path / "nowhere", report_of(evidence, []), evidence, [])


def test_the_surest_crop_of_every_track_comes_first(evidence: Evidence) -> None:
    ordered = best_first(evidence.clips)
    assert [clip.id for clip in ordered] == [CROPS[0].id, CROPS[2].id, CROPS[1].id]
