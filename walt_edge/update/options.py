"""The parts that take models from home, made of what a person asked for."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from walt_edge.contract.bundle import Limits
from walt_edge.contract.errors import UsageError
from walt_edge.contract.messages import Reported
from walt_edge.runtimes.session import Device, GpuOptions, require_runtime
from walt_edge.update.engines import EngineCache, Engines
from walt_edge.update.errors import UpdateError
from walt_edge.update.holder import Fitted, Model, ModelHolder
from walt_edge.update.probation import ProbationRules
from walt_edge.update.settings import Channel, UpdateSettings
from walt_edge.update.slots import Slots
from walt_edge.update.trial import Trial
from walt_edge.update.updater import ModelUpdater

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateOptions:
    """How an agent takes models from home.

    Attributes:
        home: The agent's folder: it keeps what it trusts in `updates/` and models in `models/`.
        url: Where home serves signed models; None: it takes none.
        trust: Home's root.json, pinned at the first start.
        ca: Certificate authority of an https:// URL.
        channel: Whose releases it takes.
        probation_s: So long a new model must stay healthy before it is committed; 0: it is committed at once.
        budget: What the agent has for a model, whatever the model's manifest allows.
        device: Where models run.
        threads: For one picture; None takes every core.
    """

    home: Path
    url: str | None = None
    trust: Path | None = None
    ca: Path | None = None
    channel: Channel = "canary"
    probation_s: float = 600.0
    budget: Limits = Limits()  # noqa: RUF009 - it cannot be changed
    device: Device = "auto"
    threads: int | None = None

    @property
    def provider_cache(self) -> Path:
        """Where ONNX Runtime's TensorRT provider keeps what it builds."""
        return self.home / "engines" / "provider"


def open_updater(
    options: UpdateOptions,
    models: ModelHolder,
    tell: Callable[[Reported], None],
    fallback: Callable[[], Fitted | None] = lambda: None,
) -> ModelUpdater | None:
    """What takes models from home, neither restored nor started yet; None without a URL, or on a failing disk.

    Args:
        options: What a person asked for.
        models: Where the pipeline asks for its model.
        tell: Reports home.
        fallback: Opens what looks where nothing from home does.

    Raises:
        UsageError: The options contradict each other, or there is nothing to trust.
    """
    if options.url is None:
        if options.trust or options.ca:
            raise UsageError("--trust and --updates-ca need --updates URL, where home serves its models")
        return None
    # TUF and its cryptography take 15 MB: only where they are needed.
    from walt_edge.update.trust import Trust

    try:
        trust = Trust(options.home / "updates", options.url, options.trust, options.ca, channel=options.channel)
        slots = Slots(options.home / "models")
    except UpdateError as error:
        LOG.error("watching without models from home until the next start: %s", error)
        return None
    return ModelUpdater(
        trust,
        slots,
        models,
        partial(load_model, device=options.device, threads=options.threads, cache=options.provider_cache),
        tell,
        UpdateSettings(probation=ProbationRules(seconds=options.probation_s), budget=options.budget),
        prepare=require_runtime,
        try_out=_trial(options),
        fallback=fallback,
        engines=_engines(options),
    )


def _trial(options: UpdateOptions) -> Trial:
    # The provider builds for minutes when it first meets a model: in the child, so that the agent finds it built.
    timeout_s = 3600.0 if options.device == "tensorrt" else 300.0
    cache = options.provider_cache
    return Trial(device=options.device, threads=options.threads, cache=cache, timeout_s=timeout_s)


def _engines(options: UpdateOptions) -> Engines | None:
    """What builds engines; None on a machine that is to stay on its processor, or that has no TensorRT."""
    if options.device == "cpu" or find_spec("tensorrt") is None:
        return None
    try:
        return Engines(EngineCache(options.home / "engines"))
    except UpdateError as error:
        LOG.error("running models without engines: %s", error)
        return None


def load_model(
    path: Path, *, device: Device = "auto", threads: int | None = None, cache: Path | None = None
) -> Model:
    """Opens a bundle.

    Args:
        path: Its file.
        device: Where it runs.
        threads: For one picture; None takes every core.
        cache: Where ONNX Runtime's TensorRT provider keeps what it builds.

    Raises:
        UsageError: ONNX Runtime is not installed, or has not the device.
        BundleError: Missing, damaged, or its model cannot be run.
    """
    # Imported when there is a model: ONNX Runtime is an extra, and takes its time.
    from walt_edge.detector import Detector

    return Detector.load(path, device=device, threads=threads, gpu=GpuOptions(cache=cache))
