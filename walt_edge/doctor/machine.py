"""The machine: its software, processor, memory, disk and clock."""

from __future__ import annotations

import os
import platform
import re
import resource
import shutil
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Final

from walt_edge.capture.clock import clock_state
from walt_edge.contract.messages import Clock
from walt_edge.doctor import Check, Finding, fail, ok, warn
from walt_edge.doctor.folder import agent_pid
from walt_edge.settings.tree import AgentConfig

_MB: Final = 1 << 20
_MEMORY_FAIL_MB: Final = 300
_MEMORY_WARN_MB: Final = 600
_SPARE_MB: Final = 200
_FSYNC_S: Final = 0.5
_FSYNC_BYTES: Final = 60_000
_FSYNC_RATE_MIN: Final = 10.0
_PROVIDERS: Final = {"cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}
_MEANINGFUL_FLAGS: Final = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "asimd", "asimddp", "i8mm")


def check_python(config: AgentConfig) -> Iterator[Finding]:
    """The interpreter and this package."""
    found = (
        f"{platform.python_version()} ({platform.machine()}), walt-amodal {_version('walt-amodal') or 'from source'}"
    )
    yield ok("python", found)


def check_packages(config: AgentConfig) -> Iterator[Finding]:
    """What the base needs."""
    try:
        needed = [line for line in requires("walt-amodal") or [] if "extra ==" not in line]
    except PackageNotFoundError:
        yield warn("packages", "walt-amodal is not installed, only found on the path", "pip install walt-amodal[cpu]")
        return
    names = [match[0] for line in needed if (match := re.match(r"[A-Za-z0-9_.-]+", line))]
    missing = [name for name in names if _version(name) is None]
    if missing:
        yield fail("packages", f"missing: {', '.join(missing)}", "pip install --force-reinstall walt-amodal")
    else:
        shown = ("numpy", "opencv-python-headless", "av", "paho-mqtt", "tuf", "pydantic")
        yield ok("packages", ", ".join(f"{name} {_version(name)}" for name in shown))


def check_runtime(config: AgentConfig) -> Iterator[Finding]:
    """What runs models, and where."""
    wanted = config.inference.device
    try:
        import onnxruntime
    except ImportError:
        wants_model = config.inference.model != "none" or config.updates.url is not None
        judged = fail if wants_model else warn
        yield judged("runtime", "ONNX Runtime is not installed: no model can run", "pip install 'walt-amodal[cpu]'")
        return
    found = [name.removesuffix("ExecutionProvider") for name in onnxruntime.get_available_providers()]
    text = f"ONNX Runtime {onnxruntime.__version__}: {', '.join(found)}"
    provider = _PROVIDERS.get(wanted)
    if provider and provider.removesuffix("ExecutionProvider") not in found:
        remedy = "pip uninstall onnxruntime; pip install 'walt-amodal[gpu]'; or inference.device auto"
        yield fail("runtime", f"{text}; inference.device is {wanted}", remedy)
    else:
        yield ok("runtime", text)


def check_processor(config: AgentConfig) -> Iterator[Finding]:
    """Cores, and the instructions that models are quick by."""
    flags = _cpu_flags()
    has = [flag for flag in _MEANINGFUL_FLAGS if flag in flags]
    text = f"{_cores()} cores, {', '.join(has) or 'no vector instructions that help'}"
    if not {"avx2", "asimd"} & flags:
        yield warn("processor", text, "expect models to be several times slower; set inference.max_fps")
    else:
        yield ok("processor", text if has[-1:] != ["avx2"] else f"{text}; no VNNI: INT8 models gain little here")


def check_memory(config: AgentConfig) -> Iterator[Finding]:
    """What is free, within what this process may have."""
    free_mb = min(_meminfo_mb("MemAvailable"), _cgroup_free_mb())
    text = f"{free_mb:.0f} MB available"
    if free_mb < _MEMORY_FAIL_MB:
        yield fail("memory", text, f"free memory: one camera needs {_MEMORY_FAIL_MB} to {_MEMORY_WARN_MB} MB")
    elif free_mb < _MEMORY_WARN_MB:
        yield warn(
            "memory", text, f"have {_MEMORY_WARN_MB} MB, or raise MemoryMax, before adding a camera or a model"
        )
    else:
        yield ok("memory", text)


def check_disk(config: AgentConfig) -> Iterator[Finding]:
    """Room for the spool's quota, and how quickly the disk confirms."""
    place = existing(config.home)
    free_mb = shutil.disk_usage(place).free / _MB
    taken_mb = sum(path.stat().st_size for path in config.home.glob("spool.sqlite3*")) / _MB
    wanted_mb = max(0.0, config.spool.quota_mb - taken_mb) + _SPARE_MB
    text = f"{free_mb:.0f} MB free at {place}"
    if free_mb < _SPARE_MB:
        yield fail("disk", text, "free the disk: nothing can be kept")
    elif free_mb < wanted_mb:
        yield warn("disk", f"{text}, the spool may want {wanted_mb:.0f}", "free the disk, or lower spool.quota_mb")
    else:
        yield ok("disk", text)
    yield _disk_speed(place)


def check_clock(config: AgentConfig) -> Iterator[Finding]:
    """Whether the wall clock is set by a time source."""
    if clock_state() is Clock.SYNCHRONISED:
        yield ok("clock", "synchronised")
    else:
        remedy = (
            "timedatectl set-ntp true, or install chrony; until then no crop can be dated, and none judges by time"
        )
        yield warn("clock", "nobody sets it", remedy)


def check_core_dumps(config: AgentConfig) -> Iterator[Finding]:
    """A crash must not write raw pictures to the disk."""
    pid = agent_pid(config.home)
    limit = _core_limit(pid) if pid else resource.getrlimit(resource.RLIMIT_CORE)[0]
    whose = f"of the running agent ({pid})" if pid else "of this shell"
    if limit == 0:
        yield ok("core dumps", f"off, limit {whose}")
    elif limit is None:
        yield ok("core dumps", f"the limit {whose} cannot be read from here")
    else:
        yield warn("core dumps", f"allowed by the limit {whose}", "LimitCORE=0 in the unit, or ulimit -c 0 before it")


CHECKS: Final[tuple[Check, ...]] = (
    check_python,
    check_packages,
    check_runtime,
    check_processor,
    check_memory,
    check_disk,
    check_clock,
    check_core_dumps,
)


def existing(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    path = path.absolute()
    return next(one for one in (path, *path.parents) if one.is_dir())


def _disk_speed(place: Path) -> Finding:
    data = os.urandom(_FSYNC_BYTES)
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            count, began = 0, time.monotonic()
            while (took := time.monotonic() - began) < _FSYNC_S:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
                count += 1
    except OSError as error:
        return fail("disk speed", f"cannot write at {place}: {error.strerror}", "give a folder of yours with --home")
    text = f"{count / took:.0f} durable writes of 60 KB a second"
    if count / took < _FSYNC_RATE_MIN:
        return warn("disk speed", text, "a crop a second needs more: use another disk, or a card of a better class")
    return ok("disk speed", text)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cpu_flags() -> set[str]:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return set()
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    return set(found[1].split()) if found else set()


def _meminfo_mb(name: str) -> float:
    try:
        found = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return int(found[1]) / 1024 if found else float("inf")


def _cgroup_free_mb() -> float:
    """What the control group leaves; infinite without a limit."""
    folder = Path("/sys/fs/cgroup")
    try:
        own = Path("/proc/self/cgroup").read_text().rpartition("::")[2].strip().lstrip("/")
        limit, used = ((folder / own / f"memory.{name}").read_text().strip() for name in ("max", "current"))
    except OSError:
        return float("inf")
    return float("inf") if limit == "max" else (int(limit) - int(used)) / _MB


def _core_limit(pid: int) -> int | None:
    """The soft limit of another process; None if it may not be read."""
    try:
        found = re.search(r"^Max core file size\s+(\S+)", Path(f"/proc/{pid}/limits").read_text(), re.MULTILINE)
    except OSError:
        return None
    return None if found is None else -1 if found[1] == "unlimited" else int(found[1])
