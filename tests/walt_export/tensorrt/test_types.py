"""`engine` against TensorRT's published types, and the fake against the same.

The stubs depend on libraries that no package registry has, so they cannot be installed beside us: they are fetched
alone. Four of their signatures are no Python (parameters of plugins that are called `in`), which is mended in a copy.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.material import ROOT

STUBS = "tensorrt-stubs==10.13.0.35.1"
ENGINE = ROOT / "walt_edge/runtimes/tensorrt/engine.py"
FAKE = ROOT / "tests/fakes/tensorrt.py"
FAKES = sorted(FAKE.parent.glob("tensorrt*.py"))
"""Of which it is made."""
_OF_PYTHON = {"__len__", "__getitem__", "__bool__"}
_MADE_BY_TENSORRT = {
    "IBuilderConfig",
    "ICudaEngine",
    "IExecutionContext",
    "IHostMemory",
    "INetworkDefinition",
    "IOptimizationProfile",
    "ITensor",
    "ITimingCache",
    "ParserError",
}
"""Classes of which only the module itself makes objects: how is the fake's own affair."""
_CONFIG = """\
[mypy]
strict = true
warn_unreachable = true
mypy_path = {types}:{root}/export:{root}
explicit_package_bases = true
python_version = 3.11
cache_dir = {cache}

# What is not TensorRT's the project's own run holds; torch alone takes half a minute to read.
warn_unused_ignores = false
[mypy-torch.*,onnx.*,onnxruntime.*,google.*,cv2.*]
follow_imports = skip
ignore_missing_imports = true
[mypy-tensorrt_bindings.*,tensorrt_libs.*]
ignore_errors = true
ignore_missing_imports = true
"""


@pytest.fixture(scope="session")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published types, mended: a folder for mypy's path."""
    folder = tmp_path_factory.mktemp("stubs")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), STUBS]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"{STUBS} cannot be fetched here")
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    types = folder / "tensorrt_bindings/tensorrt.pyi"
    text = re.sub(r"\bin: ", "in_: ", types.read_text())
    text = text.replace(
        "power: Weights = None, channel_axis: int)", "power: Weights = None, channel_axis: int = ...)"
    )
    types.write_text(re.sub(r"(?m)^bool: .*\n", "", text))  # it hides the type of that name
    return folder


class Mypy:
    """Strict, with a module `tensorrt` of one's choice."""

    def __init__(self, cache: Path) -> None:
        self._cache = cache

    def __call__(self, types: Path, folder: Path, file: Path) -> subprocess.CompletedProcess[str]:
        config = folder / "mypy.ini"
        config.write_text(_CONFIG.format(types=types, root=ROOT, cache=self._cache))
        command = [sys.executable, "-m", "mypy", "--config-file", str(config), str(file)]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)


@pytest.fixture(scope="session")
def mypy(tmp_path_factory: pytest.TempPathFactory) -> Mypy:
    return Mypy(tmp_path_factory.mktemp("mypy"))


@pytest.fixture(scope="session")
def fake_types(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fake under the real module's name."""
    folder = tmp_path_factory.mktemp("fake")
    (folder / "tensorrt.py").symlink_to(FAKE)
    return folder


def test_the_engine_is_right_by_the_real_types(mypy: Mypy, stubs: Path, tmp_path: Path) -> None:
    done = mypy(stubs, tmp_path, ENGINE)
    assert done.returncode == 0, done.stdout


def test_the_engine_is_right_by_the_fake_s_types(mypy: Mypy, fake_types: Path, tmp_path: Path) -> None:
    done = mypy(fake_types, tmp_path, ENGINE)
    assert done.returncode == 0, done.stdout


WRONG = [
    (
        "builder.create_network(1 <<",
        'builder.create_network("typed", 1 <<',
        'Too many arguments for "create_network"',
    ),
    ("config.add_optimization_profile", "config.put_optimization_profile", 'no attribute "put_optimization_profile"'),
    ("low, best, high)", "low, best)", 'Missing positional argument "max"'),
    ("set_output_allocator(name, output)", "set_output_allocator(name, self)", 'expected "IOutputAllocator"'),
    ("clear_flag(trt.BuilderFlag.TF32)", "clear_flag(trt.MemoryPoolType.WORKSPACE)", 'expected "BuilderFlag"'),
]
"""What the engine says, what it might have said wrongly, and what mypy says to that."""


def test_a_wrong_use_is_found_by_either(mypy: Mypy, stubs: Path, fake_types: Path, tmp_path: Path) -> None:
    text = ENGINE.read_text()
    for right, wrong, _ in WRONG:
        assert right in text
        text = text.replace(right, wrong, 1)
    changed = tmp_path / "changed_engine.py"
    changed.write_text(text)
    for types in (stubs, fake_types):
        found = mypy(types, tmp_path, changed).stdout
        for _, wrong, words in WRONG:
            assert re.search(words, found), f"{wrong} is not found: {found}"


Signatures = dict[str, list[tuple[list[str], int]]]
"""By method: of every overload, the arguments' names and how many of them have to be given."""


def signatures(folder_or_file: Path) -> dict[str, tuple[Signatures, set[str], str]]:
    """By class: its methods, its other names, and what is written about it."""
    found: dict[str, tuple[Signatures, set[str], str]] = {}

    def look(body: list[ast.stmt], outer: str) -> None:
        for part in body:
            if isinstance(part, ast.ClassDef):
                methods: Signatures = {}
                for one in part.body:
                    if isinstance(one, ast.FunctionDef):
                        names = [argument.arg for argument in one.args.args[1:]]
                        methods.setdefault(one.name, []).append((names, len(names) - len(one.args.defaults)))
                found[outer + part.name] = methods, _names(part), ast.get_docstring(part) or ""
                look(part.body, f"{outer}{part.name}.")

    look(ast.parse(folder_or_file.read_text()).body, "")
    return found


def _names(part: ast.ClassDef) -> set[str]:
    """What a class, or a method of it, gives a value, but for what is private."""
    targets: list[ast.expr] = [one.target for one in part.body if isinstance(one, ast.AnnAssign)]
    targets += [target for one in part.body if isinstance(one, ast.Assign) for target in one.targets]
    names = {target.id for target in targets if isinstance(target, ast.Name)}
    stored = [one for one in ast.walk(part) if isinstance(one, ast.Attribute) and isinstance(one.ctx, ast.Store)]
    return names | {one.attr for one in stored if not one.attr.startswith("_")}


def _is_own_affair(name: str, method: str) -> bool:
    """Whether a method of the fake is not the real one's: private, or how an object is made that only it makes."""
    if method == "__init__":
        return name in _MADE_BY_TENSORRT
    return method.startswith("_") and method not in _OF_PYTHON


def test_the_fake_has_no_name_and_no_argument_that_the_real_module_has_not(stubs: Path) -> None:
    real = signatures(stubs / "tensorrt_bindings/tensorrt.pyi")
    fake = {name: told for file in FAKES for name, told in signatures(file).items()}
    assert len(fake) >= 20
    compared = 0
    for name, (methods, names, _) in fake.items():
        real_methods, real_names, words = real[name]
        assert names <= real_names | set(real_methods), name
        for method, ((arguments, _),) in methods.items():
            if _is_own_affair(name, method):
                continue
            compared += 1
            # What a class of ours overrides is not bound, and stands in the description of the base.
            described = f"def {method}({', '.join(['self', *arguments])})" in words
            fits = [
                theirs[: len(arguments)] == arguments and len(arguments) >= required
                for theirs, required in real_methods.get(method, [])
            ]
            assert described or any(fits), f"{name}.{method}{arguments}"
    assert compared > 40
