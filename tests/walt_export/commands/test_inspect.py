"""`walt-export inspect`: a bundle in words and as bars."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import msgspec
import pytest
from walt_export.cli import SCRIPT
from walt_export.cost import read_model
from walt_export.description import describe

from walt_edge.contract.bundle import MODEL, Bundle, BundleManifest, write_bundle


def inspect(*words: object) -> int:
    return SCRIPT.main(["inspect", *map(str, words)])


def assert_one_line(capsys: pytest.CaptureFixture[str], says: str) -> None:
    err = capsys.readouterr().err.strip()
    assert says in err
    assert len(err.splitlines()) == 1


def test_it_says_what_the_bundle_says_and_draws_the_cost(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "street.walt"
    path.write_bytes(bundle.read_bytes())
    assert inspect(path, "--runs", 1) == 0
    said = capsys.readouterr().out
    read = Bundle.read(path)
    manifest, lineage = read.manifest, read.manifest.lineage
    hashes = (read.sha256, *manifest.files.values(), lineage.checkpoint_sha256, lineage.data_sha256)
    words = (manifest.name, "128x96 pixels", "person, vehicle", f"opset {manifest.opset}", "Conv ", "1 picture at")
    lists = (*manifest.golden, *manifest.operators, *manifest.outputs, *manifest.versions, *manifest.files)
    counts = (f"at most {manifest.candidates}", f"{manifest.parameters:,}", "1 thread", f"{lineage.steps} steps")
    for expected in (*hashes, *words, *lists, *counts, manifest.precision, lineage.recipe):
        assert expected in said
    for name, value in manifest.parity.items():
        assert f"{name} {value:g}" in said
    table = {line.rsplit(maxsplit=4)[0]: line.split()[-4:] for line in said.splitlines() if line.startswith("mask")}
    (of_one_head,) = {row[2] for part, row in table.items() if part != "masks: shared"}
    assert of_one_head == "0.023"
    assert all(float(row[3]) > 0 for row in table.values())
    assert cv2.imread(str(tmp_path / "street.cost.png")) is not None
    assert f"picture: {tmp_path / 'street.cost.png'}" in said


def test_what_a_later_manifest_says_is_shown_too(bundle: Path) -> None:
    class LaterManifest(BundleManifest, frozen=True, kw_only=True):
        hours: dict[str, str]

    read = Bundle.read(bundle)
    later = LaterManifest(**msgspec.structs.asdict(read.manifest), hours={"night": "not judged"})
    facts = list(describe(replace(read, manifest=later), read_model(read)))
    assert ("hours", '{"night":"not judged"}') in facts


def test_without_runs_it_measures_no_time(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert inspect(bundle, "--runs", 0, "--out", tmp_path / "deep" / "cost.png") == 0
    said = capsys.readouterr().out
    assert "nothing measured" in said
    assert " ms" not in said.splitlines()[-1]
    assert (tmp_path / "deep" / "cost.png").is_file()


def test_what_is_no_bundle_is_one_line_and_no_picture(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert inspect(tmp_path / "none.walt") == 1
    assert_one_line(capsys, "cannot read")
    data = bytearray(bundle.read_bytes())
    data[len(data) // 2] ^= 4
    (tmp_path / "damaged.walt").write_bytes(data)
    assert inspect(tmp_path / "damaged.walt") == 1
    assert_one_line(capsys, "damaged")
    assert not list(tmp_path.glob("*.png"))


@pytest.mark.parametrize("content", [b"no ONNX file", b""])
def test_a_bundle_without_a_graph_is_one_line(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    read = Bundle.read(bundle)
    write_bundle(tmp_path / "m.walt", read.manifest, {**read.files, MODEL: content})
    assert inspect(tmp_path / "m.walt") == 1
    assert_one_line(capsys, "export it again")


def test_options_that_make_no_sense(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert inspect(bundle, "--threads", 0, "--out", tmp_path / "c.png") == 2
    assert_one_line(capsys, "at least 1 thread")
    assert inspect(bundle, "--out", tmp_path) == 2
    assert_one_line(capsys, "is a folder")
