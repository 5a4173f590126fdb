"""Builds a bundle's engine in a process of its own: `python -m walt_edge.update.engine_build BUNDLE FOLDER`.

It takes minutes, all of a GPU's memory for a while, and may end the process. In the end the engine lies in the folder
and has answered the bundle's golden pictures; one line of JSON says so, or why not.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from walt_edge.contract.bundle import TENSORRT_MODEL, TENSORRT_RECIPE, Bundle
from walt_edge.contract.errors import WaltError
from walt_edge.runtimes.cuda import CudaError
from walt_edge.runtimes.network import Runtime
from walt_edge.runtimes.session import first_line
from walt_edge.runtimes.tensorrt.machine import missing
from walt_edge.runtimes.tensorrt.recipe import MODEL, RECIPE, BuildRecipe, decode
from walt_edge.update.child import ChildAnswer, be_humble

LOG = logging.getLogger(__name__)


def open_engine(plan: bytes, recipe: BuildRecipe) -> Runtime:
    """An engine on the first GPU; raises EngineError or CudaError."""
    # It imports tensorrt, which few machines have, and which takes long.
    from walt_edge.runtimes.tensorrt.engine import EngineNetwork

    return EngineNetwork(plan, recipe=recipe)


def build(bundle_path: Path, folder: Path, opened: Callable[[bytes, BuildRecipe], Runtime] = open_engine) -> Path:
    """Builds and proves an engine.

    Args:
        bundle_path: With the graph for TensorRT.
        folder: Where it is built; a timing cache that lies there is used.
        opened: Opens an engine.

    Returns:
        The engine's file.

    Raises:
        WaltError: The bundle is damaged, TensorRT builds no engine of it, or the engine disagrees.
    """
    from walt_edge.detector import Detector
    from walt_edge.runtimes.tensorrt import engine

    bundle = Bundle.read(bundle_path)
    recipe = decode(bundle.files[TENSORRT_RECIPE], TENSORRT_RECIPE)
    (folder / MODEL).write_bytes(bundle.files[TENSORRT_MODEL])
    (folder / RECIPE).write_bytes(bundle.files[TENSORRT_RECIPE])
    file = engine.build(folder)
    Detector(bundle, runtime=opened(file.read_bytes(), recipe)).check_golden()
    return file


def _answer(bundle: Path, folder: Path) -> ChildAnswer:
    if why_not := missing():
        return ChildAnswer(lacking=f"no engine can be built here: {why_not}")
    try:
        build(bundle, folder)
    except (CudaError, MemoryError, OSError) as error:
        return ChildAnswer(lacking=f"no engine could be built now: {first_line(error)}")
    except WaltError as error:
        return ChildAnswer(unfit=str(error))
    except Exception as error:
        # The process's boundary: TensorRT may raise anything.
        LOG.debug("no engine of %s", bundle, exc_info=True)
        return ChildAnswer(unfit=f"no engine could be built: {type(error).__name__}: {first_line(error)}")
    return ChildAnswer()


def main(argv: Sequence[str] | None = None) -> int:
    """Prints a `ChildAnswer` as one line of JSON; returns 0 if the engine is there, else 1."""
    parser = argparse.ArgumentParser(prog="python -m walt_edge.update.engine_build", description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--parent", type=int, help="process with which to end")
    args = parser.parse_args(argv)
    if args.parent is not None:
        be_humble(args.parent)
    answer = _answer(args.bundle, args.folder)
    sys.stdout.write(msgspec.json.encode(answer).decode() + "\n")
    return 0 if answer == ChildAnswer() else 1


if __name__ == "__main__":
    raise SystemExit(main())
