"""What is installed where: the base alone, its size, one OpenCV, and what each console script imports."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.material import ROOT

_OURS = (".py", ".html", ".css", ".js", ".svg", ".json", ".walt", ".glsl", ".vert", ".frag")
LIMIT_CPU_BYTES = 560 * 1000 * 1000
SCRIPTS = ("walt-edge", "walt-train", "walt-loop", "walt-export")


def disk_bytes(folder: Path) -> int:
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*"))


def pip_install(environment: Path, what: str) -> None:
    # The tests' own pip installs into the new environment, which therefore carries no pip itself.
    python = environment / "bin" / "python"
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    subprocess.run([*command, "-c", str(ROOT / "constraints.txt"), what], check=True)


@pytest.fixture(scope="module")
def base_environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the base and nothing else."""
    environment = tmp_path_factory.mktemp("base") / "venv"
    venv.create(environment, with_pip=False)
    pip_install(environment, str(ROOT))
    return environment


def run_in(environment: Path, *command: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        [str(environment / "bin" / command[0]), *command[1:]],
        capture_output=True,
        text=True,
        check=False,
        env=clean,
        cwd=environment,
    )


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_answers_in_a_base_only_environment(base_environment: Path, script: str) -> None:
    done = run_in(base_environment, script, "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: {script} COMMAND")


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        (("walt-train", "rwalt", "--seed", "1"), "render"),
        (("walt-loop", "ingest", "--broker", "localhost:1"), "loop"),
        (("walt-loop", "demo"), "loop"),
        (("walt-train", "--gpus", "4"), "train"),
        (("walt-export", "checkpoint.pt"), "export"),
    ],
)
def test_a_missing_extra_is_named_in_one_line(base_environment: Path, command: tuple[str, ...], extra: str) -> None:
    done = run_in(base_environment, *command)
    assert done.returncode == 2
    assert f"pip install 'walt-amodal[{extra}]'" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_an_export_without_a_checkpoint_is_one_line(base_environment: Path) -> None:
    done = run_in(base_environment, "walt-export", "--trt")
    assert done.returncode == 2
    assert "no checkpoint.pt under walt" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_wheel_carries_all_packages_types_and_templates(base_environment: Path) -> None:
    (site,) = (base_environment / "lib").glob("python3.*/site-packages")
    for name in ("walt_edge/py.typed", "walt_train/py.typed", "walt_export/py.typed"):
        assert (site / name).is_file(), name
    ours = {path.relative_to(ROOT) for path in ROOT.glob("walt_*/**/*") if path.suffix in _OURS}
    missing = sorted(str(path) for path in ours if not (site / path).is_file())
    assert not missing


def test_the_base_has_one_opencv_no_torch_and_no_onnx_runtime(base_environment: Path) -> None:
    (site,) = (base_environment / "lib").glob("python3.*/site-packages")
    installed = {path.name.split("-")[0].lower() for path in site.glob("*.dist-info")}
    assert {name for name in installed if name.startswith("opencv")} == {"opencv_python_headless"}
    assert not installed & {"torch", "torchvision", "onnx", "onnxruntime", "onnxruntime_gpu", "sqlalchemy"}


def test_the_cpu_extra_fits_on_a_device(base_environment: Path) -> None:
    pip_install(base_environment, f"{ROOT}[cpu]")
    size = disk_bytes(base_environment)
    assert size <= LIMIT_CPU_BYTES, f"walt-amodal[cpu] takes {size / 1e6:.0f} MB"


@pytest.mark.parametrize(
    "script_module", ["walt_edge.cli", "walt_train.cli", "walt_train.loop.cli", "walt_export.cli"]
)
def test_help_imports_only_the_standard_library(script_module: str) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'export')!r}); before = set(sys.modules)\n"
        f"import {script_module} as cli; cli.SCRIPT.main(['--help'])\n"
        "new = {m.split('.')[0] for m in set(sys.modules) - before}\n"
        "ours = {'walt_edge', 'walt_train', 'walt_export'}\n"
        "print(sorted(new - set(sys.stdlib_module_names) - ours), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stderr.strip() == "[]"


def test_the_edge_never_imports_training(base_environment: Path) -> None:
    code = (
        "import importlib, pkgutil, sys, walt_edge\n"
        "for m in pkgutil.walk_packages(walt_edge.__path__, 'walt_edge.'):\n"
        "    if 'rtsp_media' not in m.name and not m.name.endswith('tensorrt.engine'):\n"
        "        importlib.import_module(m.name)\n"
        "bad = {'torch', 'torchvision', 'mmengine', 'mmcv', 'mmdet', 'onnx', 'walt_train', 'walt_export'}\n"
        "print(sorted(bad & set(sys.modules)))"
    )
    done = run_in(base_environment, "python", "-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
