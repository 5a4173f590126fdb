"""`walt-export inspect`: a bundle in words and as bars."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest
from walt_export.cli import SCRIPT

from walt_edge.contract.bundle import MODEL, Bundle, write_bundle
from walt_edge.packaged import general_model


def inspect(*words: object) -> int:
    return SCRIPT.main(["inspect", *map(str, words)])


def assert_one_line(capsys: pytest.CaptureFixture[str], says: str) -> None:
    err = capsys.readouterr().err.strip()
    assert says in err
    assert len(err.splitlines()) == 1


def test_it_says_what_the_bundle_says_and_draws_the_cost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "street.walt"
    path.write_bytes(general_model().read_bytes())
    assert inspect(path, "--runs", 1) == 0
    said = capsys.readouterr().out
    bundle = Bundle.read(path)
    manifest, lineage = bundle.manifest, bundle.manifest.lineage
    hashes = (bundle.sha256, *manifest.files.values(), lineage.checkpoint_sha256, lineage.data_sha256)
    words = (manifest.name, "640x384", "person, vehicle", "opset 20", "Conv 44", lineage.recipe, *manifest.golden)
    for expected in (*hashes, *words, f"at most {manifest.candidates}", f"{manifest.parameters:,}", "1 thread"):
        assert expected in said
    for name, value in manifest.parity.items():
        assert f"{name} {value:g}" in said
    table = {line.rsplit(maxsplit=4)[0]: line.split()[-4:] for line in said.splitlines() if line.startswith("masks")}
    assert table["masks: amodal"][2] == "1.276"
    picture = cv2.imread(str(tmp_path / "street.cost.png"))
    assert picture is not None
    assert f"picture: {tmp_path / 'street.cost.png'}" in said


def test_without_runs_it_measures_no_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert inspect(general_model(), "--runs", 0, "--out", tmp_path / "deep" / "cost.png") == 0
    said = capsys.readouterr().out
    assert "nothing measured" in said
    assert " ms" not in said.splitlines()[-1]
    assert (tmp_path / "deep" / "cost.png").is_file()


def test_what_is_no_bundle_is_one_line_and_no_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert inspect(tmp_path / "none.walt") == 1
    assert_one_line(capsys, "cannot read")
    data = bytearray(general_model().read_bytes())
    data[len(data) // 2] ^= 4
    (tmp_path / "damaged.walt").write_bytes(data)
    assert inspect(tmp_path / "damaged.walt") == 1
    assert_one_line(capsys, "damaged")
    assert not list(tmp_path.glob("*.png"))


@pytest.mark.parametrize("content", [b"no ONNX file", b""])
def test_a_bundle_without_a_graph_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    bundle = Bundle.read(general_model())
    write_bundle(tmp_path / "m.walt", bundle.manifest, {**bundle.files, MODEL: content})
    assert inspect(tmp_path / "m.walt") == 1
    assert_one_line(capsys, "export it again")


def test_options_that_make_no_sense(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert inspect(general_model(), "--threads", 0, "--out", tmp_path / "c.png") == 2
    assert_one_line(capsys, "at least 1 thread")
    assert inspect(general_model(), "--out", tmp_path) == 2
    assert_one_line(capsys, "is a folder")
