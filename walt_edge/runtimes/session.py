"""ONNX Runtime, where it is installed: the one place that opens a model with it, on the device that was asked for."""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal

from walt_edge.contract.errors import UsageError, WaltError
from walt_edge.runtimes.memory import give_back_memory

LOG = logging.getLogger(__name__)

Device = Literal["auto", "cpu", "cuda", "tensorrt"]
"""`auto`: CUDA if it really runs the model, else the CPU. `tensorrt` is ONNX Runtime's provider of that name: it
builds for minutes at the first picture, so it is never chosen by itself; what it does not take runs on CUDA."""

CPU: Final = "CPUExecutionProvider"
_CUDA, _TENSORRT = "CUDAExecutionProvider", "TensorrtExecutionProvider"
_CHAINS: Mapping[Device, tuple[tuple[str, ...], ...]] = MappingProxyType(
    {
        "auto": ((_CUDA, CPU), (CPU,)),
        "cpu": ((CPU,),),
        "cuda": ((_CUDA, CPU),),
        "tensorrt": ((_TENSORRT, _CUDA, CPU),),
    }
)
_ERRORS_ONLY = 3


class SessionError(WaltError):
    """ONNX Runtime cannot open or run a model; the text is its own first line."""


@dataclass(frozen=True, slots=True)
class GpuOptions:
    """What a GPU may be asked.

    Attributes:
        number: Which one, as CUDA counts them.
        memory_mb: The most that ONNX Runtime's own store of memory there may take; None: as much as it needs.
        cache: Folder in which the TensorRT provider keeps what it built; None: it builds at every start.
    """

    number: int = 0
    memory_mb: int | None = None
    cache: Path | None = None


def require_runtime() -> Any:
    """The `onnxruntime` module; raises UsageError where it is not installed."""
    try:
        return importlib.import_module("onnxruntime")
    except ModuleNotFoundError as error:
        raise UsageError("a detector needs ONNX Runtime: pip install 'walt-amodal[cpu]'") from error


def uses_gpu(device: Device) -> bool:
    """Whether a model may be opened on a GPU here; raises UsageError where ONNX Runtime is not installed."""
    return device != "cpu" and not {_CUDA, _TENSORRT}.isdisjoint(require_runtime().get_available_providers())


def open_session(
    model: bytes,
    *,
    device: Device = "auto",
    threads: int | None = None,
    gpu: GpuOptions | None = None,
    check: Callable[[Any], object] = lambda session: None,
) -> Any:
    """An `onnxruntime.InferenceSession`.

    Args:
        model: An ONNX file's bytes.
        device: Where it runs.
        threads: For one picture; None leaves the choice to ONNX Runtime, which takes every core.
        gpu: What a GPU may be asked.
        check: Runs the session once where it was opened on a GPU, which may have been promised too much.

    Raises:
        UsageError: ONNX Runtime is not installed, or has not the device that was asked for.
        SessionError: It cannot open the model.
    """
    available = require_runtime().get_available_providers()
    *hoped_for, last = _CHAINS[device]
    for chain in hoped_for:
        if chain[0] in available:
            try:
                return _open(model, chain, threads, gpu, check)
            except (SessionError, UsageError) as error:
                LOG.warning("running on the processor: %s", error)
    return _open(model, last, threads, gpu, check)


def _open(
    model: bytes, chain: Sequence[str], threads: int | None, gpu: GpuOptions | None, check: Callable[[Any], object]
) -> Any:
    runtime = require_runtime()
    available = runtime.get_available_providers()
    if chain[0] not in available:
        raise UsageError(
            f"this ONNX Runtime has no {chain[0]}, only {', '.join(available)}: "
            "pip install 'walt-amodal[gpu]', or take the device cpu"
        )
    try:
        providers = [(name, _options_of(name, gpu or GpuOptions())) for name in chain if name in available]
        # Its own fall back to a processor prints, and would hide what it fell back from.
        session = runtime.InferenceSession(model, session_options(threads), providers=providers, enable_fallback=0)
        opened = session.get_providers()
        if opened[0] == chain[0] != CPU:
            check(session)
    except Exception as error:  # the runtime's own exceptions share no other base
        words = first_line(error)
        raise SessionError(words if chain[0] == CPU else f"{chain[0]} does not run the model: {words}") from error
    if opened[0] != chain[0]:
        raise UsageError(
            f"{chain[0]} does not start here, only {', '.join(opened)}: mend the GPU's driver and libraries "
            "(nvidia-smi tells), or take the device cpu"
        )
    # A second copy of the file is kept only to open it again on another device, which is never asked for here.
    if hasattr(session, "_model_bytes"):
        session._model_bytes = None
    give_back_memory()
    return session


def _options_of(provider: str, gpu: GpuOptions) -> dict[str, str]:
    """What each provider is told."""
    if provider == CPU:
        return {}
    options = {"device_id": str(gpu.number)}
    if provider == _CUDA:
        # An exhaustive search for kernels takes seconds and much memory, anew for every number of pictures; memory
        # that doubles whenever it grows is lost to whatever else runs on a small device.
        options |= {"cudnn_conv_algo_search": "HEURISTIC", "arena_extend_strategy": "kSameAsRequested"}
        if gpu.memory_mb is not None:
            options["gpu_mem_limit"] = str(gpu.memory_mb << 20)
    elif gpu.cache is not None:
        gpu.cache.mkdir(parents=True, exist_ok=True)
        options |= {
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": str(gpu.cache),
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": str(gpu.cache),
        }
    return options


def session_options(threads: int | None = None) -> Any:
    """What every `onnxruntime.SessionOptions` of ours holds; who asks may add to it.

    Args:
        threads: For one picture; None leaves the choice to ONNX Runtime.

    Raises:
        UsageError: ONNX Runtime is not installed.
    """
    options = require_runtime().SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.intra_op_num_threads = threads or 0
    # Threads that spin between two pictures take 4 % off a picture's time where nothing else runs, and double it
    # where anything does: a second model, a decoder.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # A model is its bytes alone: what it names as weights in other files would be read from this device.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
    # How many things there are changes from picture to picture, so a plan made for one picture serves no other: with
    # the general model it costs 30 MB and saves no time.
    options.enable_mem_pattern = False
    return options


def first_line(error: Exception) -> str:
    """What the runtime said, shortened to one line."""
    return (str(error).splitlines() or [""])[0][:200]
