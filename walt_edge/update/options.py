"""Options of `walt-edge run` that let it take models from home, and the parts that they make."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from pathlib import Path

from walt_edge.contract.errors import UsageError
from walt_edge.contract.messages import Reported
from walt_edge.runtimes.session import require_runtime
from walt_edge.update.errors import UpdateError
from walt_edge.update.holder import Model, ModelHolder
from walt_edge.update.slots import Slots
from walt_edge.update.trust import Trust
from walt_edge.update.updater import ModelUpdater

LOG = logging.getLogger(__name__)


def add_update_arguments(group: argparse._ArgumentGroup) -> None:
    """Declares the options."""
    add = group.add_argument
    add("--updates", metavar="URL", help="where home serves signed models (the --repository of walt-loop publish)")
    add("--trust", type=Path, metavar="FILE", help="its root.json; pinned at the first start and kept from then on")
    add("--updates-ca", type=Path, metavar="FILE", help="certificate authority of an https:// URL (the system's)")


def make_updater(
    args: argparse.Namespace, models: ModelHolder, tell: Callable[[Reported], None]
) -> ModelUpdater | None:
    """What takes models from home, neither restored nor started yet; None without `--updates`, or on a failing disk.

    Args:
        args: With `home` and the options above.
        models: Where the pipeline asks for its model.
        tell: Reports home.

    Raises:
        UsageError: The options contradict each other, or there is nothing to trust.
    """
    if args.updates is None:
        if args.trust or args.updates_ca:
            raise UsageError("--trust and --updates-ca need --updates URL, where home serves its models")
        return None
    try:
        trust = Trust(args.home / "updates", args.updates, args.trust, args.updates_ca)
        slots = Slots(args.home / "models")
    except UpdateError as error:
        LOG.error("watching without models from home until the next start: %s", error)
        return None
    return ModelUpdater(trust, slots, models, load_model, tell, prepare=require_runtime)


def load_model(path: Path) -> Model:
    """Opens a bundle.

    Raises:
        UsageError: ONNX Runtime is not installed.
        BundleError: Missing, damaged, or its model cannot be run.
    """
    # Imported when there is a model: ONNX Runtime is an extra, and takes its time.
    from walt_edge.detector import Detector

    return Detector.load(path)
