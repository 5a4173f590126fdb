"""Where an agent's model comes from: home's signed releases, or a bundle of the user's own."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack

from walt_edge.contract.bundle import Limits
from walt_edge.contract.messages import Desired, Reported
from walt_edge.packaged import named_model
from walt_edge.settings.tree import AgentConfig, InferenceConfig
from walt_edge.update.holder import Fitted, ModelHolder
from walt_edge.update.options import UpdateOptions, open_updater
from walt_edge.update.updater import ModelUpdater

LOG = logging.getLogger(__name__)

LOCAL_RELEASE = 0
"""What a model that did not come from home is called in messages: no release."""


def open_models(
    config: AgentConfig, tell: Callable[[Reported], None], stack: ExitStack
) -> tuple[ModelHolder, ModelUpdater | None]:
    """The model that looks, and what exchanges it.

    Args:
        config: The agent's.
        tell: Reports home which model runs.
        stack: Ends the updater.

    Raises:
        UsageError: The options contradict each other, or ONNX Runtime is not installed.
        BundleError: The bundle named cannot be run.
    """
    holder = ModelHolder()
    inference = config.inference
    options = _options(config)
    fallback = (lambda: None) if inference.model == "none" else (lambda: _local(inference, options))
    updater = open_updater(options, holder, tell, fallback)
    if updater is not None:
        updater.restore()
        updater.start()
        stack.callback(updater.stop)
    else:
        holder.offer(fallback())
    return holder, updater


def _local(inference: InferenceConfig, options: UpdateOptions) -> Fitted:
    """A bundle that a person named: trusted as it is, checked by its golden pictures."""
    from walt_edge.detector import Detector
    from walt_edge.runtimes.session import GpuOptions

    path = named_model(inference.model)
    gpu = GpuOptions(cache=options.provider_cache)
    detector = Detector.load(path, device=inference.device, threads=inference.threads, gpu=gpu)
    detector.check_golden()
    LOG.info("the model %s looks, by %s", detector.manifest.name, ", ".join(detector.providers))
    wish = Desired(release=LOCAL_RELEASE, target=path.name, sha256=detector.sha256)
    return Fitted(detector, wish, golden_ms=0.0)


def _options(config: AgentConfig) -> UpdateOptions:
    updates, inference = config.updates, config.inference
    return UpdateOptions(
        home=config.home,
        url=updates.url.get_secret_value() if updates.url else None,
        trust=updates.trust,
        ca=updates.ca,
        channel=updates.channel,
        probation_s=updates.probation_s,
        # A model that takes longer than there is between two looks cannot keep the budget that a person has set.
        budget=Limits(latency_ms=1000 / inference.max_fps) if inference.max_fps else Limits(),
        device=inference.device,
        threads=inference.threads,
    )
