"""From a bundle on the disk to a model that may be offered to the pipeline."""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from walt_edge.contract.errors import UsageError, WaltError
from walt_edge.contract.messages import Desired
from walt_edge.runtimes.cuda import CudaError
from walt_edge.update.engines import Engines
from walt_edge.update.errors import NotNowError, RefusedError, UpdateError
from walt_edge.update.holder import Fitted, Model

LOG = logging.getLogger(__name__)

_GOLDEN_ROUNDS = 3


def be_ready(prepare: Callable[[], object]) -> None:
    """What can be told before a bundle is fetched need not be told again after every download.

    Args:
        prepare: Raises UsageError where this machine could open none.

    Raises:
        NotNowError: It could open none.
    """
    try:
        prepare()
    except UsageError as error:
        raise NotNowError(str(error)) from error


def fit(load: Callable[[Path], Model], path: Path, wish: Desired, *, is_engine: bool = False) -> Fitted:
    """Opens a bundle and has it answer its golden pictures.

    Args:
        load: Opens it.
        path: Where it lies.
        wish: The release that it should be.
        is_engine: Whether what is opened is run by an engine.

    Raises:
        RefusedError: It is not the release, cannot be opened, or disagrees.
        NotNowError: This machine lacks what it takes to run it, for now.
    """
    times_ms = []
    try:
        model = load(path)
        for _ in range(_GOLDEN_ROUNDS):
            start_s = time.perf_counter()
            model.check_golden()
            times_ms.append(1e3 * (time.perf_counter() - start_s) / max(1, len(model.manifest.golden)))
    except (UsageError, CudaError) as error:
        raise NotNowError(str(error)) from error
    except MemoryError as error:
        raise NotNowError("not enough memory to open it here: free some, or wish for a smaller one") from error
    except WaltError as error:
        raise RefusedError(str(error)) from error
    except Exception as error:
        # A boundary: a model is data from elsewhere, and may make a runtime raise anything.
        LOG.debug("release %d does not load", wish.release, exc_info=True)
        raise RefusedError(f"it does not load: {type(error).__name__}: {error}") from error
    if model.sha256 != wish.sha256:
        raise RefusedError(f"its sha256 is {model.sha256[:12]}..., not {wish.sha256[:12]}...")
    return Fitted(model, wish, statistics.median(times_ms), is_engine)


def fit_best(engines: Engines | None, load: Callable[[Path], Model], path: Path, wish: Desired) -> Fitted:
    """As `fit`, by the bundle's engine if there is one that does as well."""
    if engines is not None and engines.has(path):
        try:
            return fit(engines.load, path, wish, is_engine=True)
        except UpdateError as error:
            LOG.warning("the engine of release %d is not used: %s", wish.release, error)
            # One that was damaged is gone by now, and built anew.
            if isinstance(error, RefusedError) and engines.has(path):
                engines.give_up(path, str(error))
    return fit(load, path, wish)


def build_engine(engines: Engines, path: Path, wish: Desired, is_cancelled: Callable[[], bool]) -> Fitted | None:
    """A bundle run by its engine, which is built if need be; None where this machine builds none of it.

    Raises:
        RefusedError: None can be built, or it disagrees; it is not tried again.
        NotNowError: Something is lacking, for now.
        CancelledError: Not wanted any more.
    """
    if not engines.has(path):
        if not engines.is_wanted(path):
            return None
        LOG.info("building an engine of release %d", wish.release)
        engines.build(path, is_cancelled)
    return fit(engines.load, path, wish, is_engine=True)
