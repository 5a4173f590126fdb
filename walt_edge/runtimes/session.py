"""ONNX Runtime, where it is installed: the one place that opens a model with it."""

from __future__ import annotations

import importlib
import os
from typing import Any, Literal

from walt_edge.contract.errors import UsageError, WaltError

Device = Literal["auto", "cpu"]
"""`auto`: the GPU if this ONNX Runtime has one, else the CPU."""

_PROVIDERS = {"auto": ("CUDAExecutionProvider", "CPUExecutionProvider"), "cpu": ("CPUExecutionProvider",)}
_ERRORS_ONLY = 3


class SessionError(WaltError):
    """ONNX Runtime cannot open or run a model; the text is its own first line."""


def require_runtime() -> Any:
    """The `onnxruntime` module; raises UsageError where it is not installed."""
    try:
        return importlib.import_module("onnxruntime")
    except ModuleNotFoundError as error:
        raise UsageError("a detector needs ONNX Runtime: pip install 'walt-amodal[cpu]'") from error


def open_session(model: bytes, *, device: Device = "auto", threads: int | None = None) -> Any:
    """An `onnxruntime.InferenceSession`.

    Args:
        model: An ONNX file's bytes.
        device: Where it runs.
        threads: For one picture; None leaves the choice to ONNX Runtime, which takes every core.

    Raises:
        UsageError: ONNX Runtime is not installed.
        SessionError: It cannot open the model.
    """
    options = session_options(threads)
    runtime = require_runtime()
    available = runtime.get_available_providers()
    providers = [name for name in _PROVIDERS[device] if name in available]
    try:
        return runtime.InferenceSession(model, options, providers=providers)
    except Exception as error:  # the runtime's own exceptions share no other base
        raise SessionError(first_line(error)) from error


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
    return options


def first_line(error: Exception) -> str:
    """What the runtime said, shortened to one line."""
    return (str(error).splitlines() or [""])[0][:200]
