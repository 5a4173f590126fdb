"""TensorRT engines of the bundles that this device runs: built here, kept by what they are of and for.

```
DIR/KEY.engine       one line of JSON, then the engine's bytes
DIR/KEY.failed       why none can be built of it here
DIR/timing.cache     what kernels took on this GPU: the next build is shorter
DIR/building/        on its way; forgotten at the next start
```

KEY is the sha256 of the graph's and the recipe's and of the machine's name, version and capability: another release,
TensorRT or GPU is another engine. Whatever the power does, an entry is whole or found to be not.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from walt_edge.contract.bundle import TENSORRT_RECIPE, Bundle, BundleError
from walt_edge.contract.errors import WaltError
from walt_edge.contract.files import remove_partial, write_whole
from walt_edge.runtimes.network import Runtime
from walt_edge.runtimes.tensorrt.machine import Machine, this_machine
from walt_edge.runtimes.tensorrt.recipe import BuildRecipe, decode
from walt_edge.update.child import ChildAnswer, ask_child
from walt_edge.update.engine_build import open_engine
from walt_edge.update.errors import NotNowError, RefusedError
from walt_edge.update.holder import Model

LOG = logging.getLogger(__name__)

_BUILDING = "building"
_TIMING = "timing.cache"
_MAX_HEAD = 4096


class EngineHead(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """First line of an entry.

    Attributes:
        machine: That it was built on and for.
        recipe_sha256: Of the recipe's file, which names the graph's.
        plan_sha256: Of what follows.
    """

    machine: Machine
    recipe_sha256: str
    plan_sha256: str

    @property
    def key(self) -> str:
        """Its name."""
        return hashlib.sha256(msgspec.json.encode((self.machine, self.recipe_sha256))).hexdigest()


class EngineCache:
    """Engines on the disk, the least lately used of them dropped first; used by one thread at a time.

    Args:
        folder: Made if need be.
        max_bytes: Of all engines; one alone may have more.

    Raises:
        NotNowError: The folder cannot be written.
    """

    def __init__(self, folder: Path, max_bytes: int = 1 << 29) -> None:
        self._folder, self._max_bytes = folder, max_bytes
        try:
            folder.mkdir(parents=True, exist_ok=True)
            remove_partial(folder)
            shutil.rmtree(folder / _BUILDING, ignore_errors=True)
        except OSError as error:
            raise NotNowError(f"cannot keep engines in {folder}: {error.strerror}; mend it") from error

    def has(self, key: str) -> bool:
        """Whether there is such an entry, whole or not."""
        return self._path(key).exists()

    def read(self, key: str) -> bytes | None:
        """An engine's bytes; None, and no entry any more, if there is none that is whole."""
        path = self._path(key)
        try:
            data = path.read_bytes()
            line, _, plan = data.partition(b"\n")
            head = msgspec.json.decode(line[:_MAX_HEAD], type=EngineHead)
            if head.key == key and hashlib.sha256(plan).hexdigest() == head.plan_sha256:
                os.utime(path)
                return plan
            LOG.warning("%s is damaged and dropped", path)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            LOG.warning("%s is damaged and dropped: %s", path, error)
        self.drop(key)
        return None

    def store(self, head: EngineHead, plan: bytes) -> None:
        """Keeps an engine, and drops others beyond the bound; raises NotNowError if the disk fails."""
        self._make_room(len(plan))
        try:
            write_whole(self._path(head.key), msgspec.json.encode(head) + b"\n" + plan)
        except OSError as error:
            raise NotNowError(f"cannot keep an engine in {self._folder}: {error.strerror}; free space") from error

    def drop(self, key: str) -> None:
        """Removes an entry."""
        with contextlib.suppress(OSError):
            self._path(key).unlink(missing_ok=True)

    def note_failure(self, key: str, reason: str) -> None:
        """No engine is tried of this again."""
        self.drop(key)
        with contextlib.suppress(OSError):
            write_whole(self._path(key).with_suffix(".failed"), reason.encode())

    def failure(self, key: str) -> str:
        """Why none can be built; nothing if nobody knows."""
        try:
            return self._path(key).with_suffix(".failed").read_text(errors="replace")
        except OSError:
            return ""

    def workshop(self) -> Path:
        """A fresh folder to build in, with what kernels took before; raises NotNowError if the disk fails."""
        folder = self._folder / _BUILDING
        try:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            with contextlib.suppress(FileNotFoundError):
                shutil.copyfile(self._folder / _TIMING, folder / _TIMING)
        except OSError as error:
            raise NotNowError(f"cannot build in {folder}: {error.strerror}; free space") from error
        return folder

    def clear_workshop(self) -> None:
        """Keeps what kernels took, and removes the rest."""
        folder = self._folder / _BUILDING
        with contextlib.suppress(OSError):
            (folder / _TIMING).replace(self._folder / _TIMING)
        shutil.rmtree(folder, ignore_errors=True)

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.engine"

    def _make_room(self, needed: int) -> None:
        paths = sorted(self._folder.glob("*.engine"), key=lambda path: path.stat().st_mtime_ns)
        excess = needed - self._max_bytes + sum(path.stat().st_size for path in paths)
        for path in paths:
            if excess <= 0:
                return
            excess -= path.stat().st_size
            LOG.info("%s gives way to a newer engine", path)
            path.unlink(missing_ok=True)


@dataclass(eq=False)
class Engines:
    """Builds and opens the engines of bundles.

    Attributes:
        cache: Where they are kept.
        machine: What this machine is; raises WaltError where it builds none.
        opened: Opens one.
        timeout_s: A build that takes longer is given up.
        command: What builds one, with the bundle, a folder and its parent's number behind it.
    """

    cache: EngineCache
    machine: Callable[[], Machine] = this_machine
    opened: Callable[[bytes, BuildRecipe], Runtime] = open_engine
    timeout_s: float = 3600.0
    command: Sequence[str] = (sys.executable, "-m", "walt_edge.update.engine_build")

    def is_wanted(self, path: Path) -> bool:
        """Whether an engine of a bundle could be built here, and is not there yet."""
        try:
            head = self._head(Bundle.read(path))
        except WaltError as error:
            LOG.debug("no engine: %s", error)
            return False
        return head is not None and not self.cache.has(head.key) and not self.cache.failure(head.key)

    def has(self, path: Path) -> bool:
        """Whether an engine of a bundle is there."""
        try:
            head = self._head(Bundle.read(path))
        except WaltError:
            return False
        return head is not None and self.cache.has(head.key)

    def load(self, path: Path) -> Model:
        """A bundle's model, run by its engine.

        Raises:
            BundleError: The bundle is damaged, or there is no engine of it.
            EngineError: The engine cannot be opened.
        """
        from walt_edge.detector import Detector

        bundle = Bundle.read(path)
        head = self._head(bundle)
        plan = self.cache.read(head.key) if head is not None else None
        if plan is None:
            raise BundleError(f"no engine of {bundle.manifest.name} is here")
        return Detector(bundle, runtime=self.opened(plan, decode(bundle.files[TENSORRT_RECIPE])))

    def build(self, path: Path, is_cancelled: Callable[[], bool]) -> None:
        """Builds a bundle's engine in a process of its own, proves it, and keeps it.

        Raises:
            RefusedError: None can be built, or it disagrees; it is not tried again.
            NotNowError: Something is lacking, for now.
            CancelledError: Not wanted any more.
        """
        bundle = Bundle.read(path)
        head = self._head(bundle)
        assert head is not None
        folder = self.cache.workshop()
        try:
            words = [*self.command, str(path), str(folder), "--parent", str(os.getpid())]
            ask_child(words, ChildAnswer, self.timeout_s, is_cancelled)
            plan = (folder / decode(bundle.files[TENSORRT_RECIPE]).engine).read_bytes()
            plan_sha256 = hashlib.sha256(plan).hexdigest()
            self.cache.store(msgspec.structs.replace(head, plan_sha256=plan_sha256), plan)
        except RefusedError as error:
            self.cache.note_failure(head.key, str(error))
            raise
        except OSError as error:
            raise NotNowError(f"the engine that was built cannot be read: {error.strerror}") from error
        finally:
            self.cache.clear_workshop()

    def give_up(self, path: Path, reason: str) -> None:
        """An engine does badly: it is dropped, and not built again."""
        with contextlib.suppress(WaltError):
            head = self._head(Bundle.read(path))
            if head is not None:
                self.cache.note_failure(head.key, reason)

    def _head(self, bundle: Bundle) -> EngineHead | None:
        """What an engine of it would be; None of a bundle without a graph for TensorRT."""
        recipe = bundle.files.get(TENSORRT_RECIPE)
        if recipe is None:
            return None
        return EngineHead(self.machine(), hashlib.sha256(recipe).hexdigest(), "")
