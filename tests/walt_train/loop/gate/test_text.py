from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tests.walt_train.loop.gate.parts import CANDIDATE, CHAMPION, cost, holdout, provenance, trial
from walt_train.loop.gate.evaluation import GateError
from walt_train.loop.gate.gate import judge
from walt_train.loop.gate.text import render
from walt_train.loop.gate.verdict import (
    Decision,
    Finding,
    Kind,
    Parity,
    Verdict,
    read_verdict,
    unjudged,
    write_verdict,
)


def verdict() -> Verdict:
    candidate = msgspec.structs.replace(CANDIDATE, cost=cost(12.5, 60.0))
    parity = Parity(figures={"mask_iou": 0.99}, checkpoint_sha256="1", trained_sha256="1")
    return judge(
        candidate, CHAMPION, [trial(holdout(objects=48))], provenance(), parity=parity, versions={"walt": "0.1"}
    )


def test_a_report_for_people() -> None:
    found = verdict()
    lines = render(found).splitlines()
    assert lines[0].startswith("passed: mask IoU at γ=0.5")
    assert any(line.startswith("  + class person") and "24 objects" in line for line in lines)
    assert any(line.startswith("  street: rendered, from elsewhere, 48 frames, 48 half hidden") for line in lines)
    assert "Candidate: demo-2, sha256 cccccccccccc, 12.5 ms (p99 15.0), 60 MB" in lines
    assert "Export against the trained network: mask_iou 0.99" in lines
    assert "Programs: walt 0.1" in lines
    assert "Against it" not in lines


def test_the_evidence_comes_first() -> None:
    line = "3 of 9 frames of north trained it"
    found = msgspec.structs.replace(
        unjudged("x"), decision=Decision.REFUSED, findings=(Finding(kind=Kind.LEAKED_FRAME, line=line),)
    )
    assert render(found).splitlines()[2:] == ["Against it", f"  leaked frame: {line}"]


def test_a_verdict_is_read_as_it_was_written(tmp_path: Path) -> None:
    found = verdict()
    write_verdict(tmp_path / "verdict.json", found)
    assert read_verdict(tmp_path / "verdict.json") == found


def test_a_verdict_of_an_older_version(tmp_path: Path) -> None:
    old = '{"decision":"refused","line":"refused: no","against":"motion","points":1.5,"interval":[1,2],"cases":3}'
    (tmp_path / "verdict.json").write_text(old)
    found = read_verdict(tmp_path / "verdict.json")
    assert (found.decision, found.points, found.interval, found.slices) == (Decision.REFUSED, 1.5, (1.0, 2.0), ())
    assert render(found) == "refused: no\n"


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff", b'{"decision": "maybe", "line": ""}'])
def test_what_is_no_verdict(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "v.json").write_bytes(data)
    with pytest.raises(GateError, match=r"v\.json is no verdict"):
        read_verdict(tmp_path / "v.json")
    with pytest.raises(GateError, match="cannot read"):
        read_verdict(tmp_path / "w.json")
