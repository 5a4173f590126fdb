from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from walt_export.tensorrt.recipe import readme, trtexec

from walt_edge.runtimes.tensorrt import EngineError
from walt_edge.runtimes.tensorrt.recipe import Batch, BuildRecipe, encode, read_recipe

MODEL = b"an ONNX file"
RECIPE = BuildRecipe(
    sha256=hashlib.sha256(MODEL).hexdigest(),
    precision="fp16",
    size_wh=(640, 384),
    batch=Batch(1, 2, 4),
    dynamic_batch=True,
)


def changed(**fields: Any) -> BuildRecipe:
    return msgspec.structs.replace(RECIPE, **fields)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model.onnx").write_bytes(MODEL)
    (tmp_path / "build.json").write_bytes(encode(RECIPE))
    return tmp_path


def test_what_is_written_is_read(folder: Path) -> None:
    assert read_recipe(folder) == (RECIPE, MODEL)
    assert encode(RECIPE) == encode(changed())


@pytest.mark.parametrize(
    ("former", "new", "words"),
    [
        (b'"format": 1', b'"format": 2', "no build recipe of format 1"),
        (b'"fp16"', b'"fp17"', r"precision"),
        (b'"min": 1', b'"min": 0', r"batch\.min"),
        (b'"min": 1', b'"least": 1', r"unknown field `least`"),
        (b'"model.onnx"', b'"../model.onnx"', r"\$\.model"),
        (b'"model.engine"', b'"/tmp/model.engine"', r"\$\.engine"),
        (b'"timing.cache"', b'".."', r"\$\.timing_cache"),
        (b"{", b"", "no build recipe"),
    ],
)
def test_another_recipe_is_refused_in_one_line(folder: Path, former: bytes, new: bytes, words: str) -> None:
    data = (folder / "build.json").read_bytes()
    assert former in data
    (folder / "build.json").write_bytes(data.replace(former, new, 1))
    with pytest.raises(EngineError, match=words) as caught:
        read_recipe(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["build.json", "model.onnx"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(EngineError, match=rf"cannot read .*{name}"):
        read_recipe(folder)


def test_a_changed_byte_in_the_model_is_found(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(MODEL + b"!")
    with pytest.raises(EngineError, match=r"has sha256 \w{12}, the recipe is for \w{12}"):
        read_recipe(folder)


def test_the_command_line_says_the_same_as_the_recipe() -> None:
    assert trtexec(RECIPE) == [
        "trtexec",
        "--onnx=model.onnx",
        "--saveEngine=model.engine",
        "--timingCacheFile=timing.cache",
        "--memPoolSize=workspace:1024M",
        "--builderOptimizationLevel=3",
        "--skipInference",
        "--stronglyTyped",
        "--minShapes=image:1x384x640x3",
        "--optShapes=image:2x384x640x3",
        "--maxShapes=image:4x384x640x3",
    ]


@pytest.mark.parametrize(("precision", "fine"), [("fp32", True), ("fp16", False), ("int8", False)])
def test_fp32_alone_forbids_tf32(precision: str, fine: bool) -> None:
    assert ("--noTF32" in trtexec(changed(precision=precision))) == fine


def test_a_fixed_batch_has_no_shapes() -> None:
    words = trtexec(changed(dynamic_batch=False, batch=Batch()))
    assert not [word for word in words if "Shapes" in word]


@pytest.mark.parametrize("recipe", [RECIPE, changed(dynamic_batch=False, batch=Batch(), precision="int8")])
def test_the_readme_has_the_command_and_what_was_never_done(recipe: BuildRecipe) -> None:
    text = readme(recipe)
    assert "We have built no engine of this on hardware yet" in text
    for word in trtexec(recipe):
        assert word in text
    assert f"Precision {recipe.precision}" in text
