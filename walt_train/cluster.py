"""Pure functions over many tasks: in this process, on processes of this machine, or on Ray, with the same results.

Results come in the order of the tasks, whoever made them first, and only a few wait at a time, so that an archive
of a thousand cameras needs no more memory than one of ten. A function that depends on nothing but its task gives
the same results everywhere; that is what makes a composite of a cluster the composite of a laptop.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import multiprocessing
import os
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import cv2

from walt_edge.contract.errors import UsageError, WaltError
from walt_edge.contract.processes import end_with

Task = TypeVar("Task")
Result = TypeVar("Result")

_AHEAD = 2
"""Tasks under way or waiting for their turn, for each worker."""
_RETRIES = 2
_MISSING = "Ray is not installed: pip install 'walt-amodal[cluster]', or give a number of processes"
# Set before Ray is imported: it reports nothing to anyone and leaves the accelerators' variables as they are.
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
}


class TaskError(WaltError):
    """A task failed, or the worker that had it died."""


@dataclass(frozen=True, slots=True)
class Workers:
    """Who works.

    Attributes:
        kind: This process, processes of this machine, or Ray.
        count: How many processes; 0 for as many as this process may use processors.
        address: Of a Ray cluster that runs already, `host:port`; "" starts one on this machine.
    """

    kind: Literal["here", "processes", "ray"] = "here"
    count: int = 0
    address: str = ""

    @classmethod
    def parse(cls, text: str | int) -> Workers:
        """From `0` (here), a number of processes, `ray`, `ray:PROCESSES` or `ray:HOST:PORT`.

        Raises:
            UsageError: It is none of these.
        """
        kind, _, rest = str(text).partition(":")
        if kind == "ray" and (not rest or rest.isdecimal()):
            return cls("ray", int(rest or 0))
        if kind == "ray" and rest.rpartition(":")[2].isdecimal():
            return cls("ray", 0, rest)
        if kind.isdecimal() and not rest:
            return cls("processes", int(kind)) if int(kind) else cls()
        raise UsageError(f"workers '{text}': give a number of processes, ray, ray:PROCESSES or ray:HOST:PORT")

    @property
    def processes(self) -> int:
        """How many work at a time, as far as this machine knows."""
        return self.count or len(os.sched_getaffinity(0))


def map_tasks(
    function: Callable[[Task], Result],
    tasks: Iterable[Task],
    *,
    workers: str | int = 0,
    name: Callable[[Task], str] = repr,
) -> Iterator[Result]:
    """Applies a pure function to every task; yields the results in the tasks' order.

    Args:
        function: Importable, or an instance of an importable class; what it holds travels to the workers once each.
        tasks: Small values; what is large is better opened by the function.
        workers: As `Workers.parse` takes it.
        name: What a task is called where it fails.

    Raises:
        TaskError: A task failed, or its worker died too often; names the task.
        UsageError: Ray is wanted and missing, or `workers` is malformed.
    """
    chosen = Workers.parse(workers)
    if chosen.kind == "here":
        return _here(function, tasks, name)
    if chosen.kind == "ray":
        _import_ray()  # what is missing is told at once, not with the first result
    return (_on_processes if chosen.kind == "processes" else _on_ray)(function, tasks, chosen, name)


def _here(function: Callable[[Task], Result], tasks: Iterable[Task], name: Callable[[Task], str]) -> Iterator[Result]:
    for task in tasks:
        try:
            result = function(task)
        except Exception as error:
            raise _failed(name(task), error) from error
        yield result


def _on_processes(
    function: Callable[[Task], Result], tasks: Iterable[Task], workers: Workers, name: Callable[[Task], str]
) -> Iterator[Result]:
    # Spawned, not forked: OpenCV's and torch's threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers.processes, context, _take, (function, os.getpid())) as pool:
        try:
            for task, future in _ahead(lambda task: pool.submit(_call, task), tasks, workers.processes):
                yield _result(future, name(task))
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _result(future: Future[Any], named: str) -> Any:
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise TaskError(f"{named}: a worker died at it or just before it; {_DIED}") from error
    except Exception as error:
        raise _failed(named, error) from error


_DIED = "look for a lack of memory, or take fewer workers"


class _Worker:
    """What one process holds between its tasks."""

    function: Callable[[Any], Any] | None = None


def _take(function: Callable[[Any], Any], parent: int) -> None:
    end_with(parent)  # a killed command would leave them waiting for tasks for ever
    # Who started them has warned already, and every processor has its own worker.
    logging.disable(logging.WARNING)
    cv2.setNumThreads(1)
    _Worker.function = function


def _call(task: Any) -> Any:
    assert _Worker.function is not None
    return _Worker.function(task)


def _ahead(submit: Callable[[Task], Any], tasks: Iterable[Task], count: int) -> Iterator[tuple[Task, Any]]:
    """Tasks with what was submitted for them, in order; a few are submitted before they are asked for."""
    waiting: deque[tuple[Task, Any]] = deque()
    for task in tasks:
        waiting.append((task, submit(task)))
        if len(waiting) >= _AHEAD * count:
            yield waiting.popleft()
    while waiting:
        yield waiting.popleft()


def _failed(named: str, error: BaseException) -> TaskError:
    what = str(error) if isinstance(error, WaltError) else f"{type(error).__name__}: {error}"
    return TaskError(f"{named}: {' '.join(what.split())}")


def _on_ray(
    function: Callable[[Task], Result], tasks: Iterable[Task], workers: Workers, name: Callable[[Task], str]
) -> Iterator[Result]:
    with ray_session(workers) as ray:
        held = ray.put(function)
        # A worker that dies is replaced and its task done again; what the function raises is not tried again.
        remote = ray.remote(num_cpus=1, max_retries=_RETRIES, retry_exceptions=False)(_apply)
        processes = max(1, int(ray.cluster_resources().get("CPU", 1)))
        for task, reference in _ahead(lambda task: remote.remote(held, task), tasks, processes):
            yield _fetch(ray, reference, name(task))


def _apply(function: Callable[[Any], Any], task: Any) -> Any:
    cv2.setNumThreads(1)
    return function(task)


def _fetch(ray: Any, reference: Any, named: str) -> Any:
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise _failed(named, error.cause or error) from error
    except ray.exceptions.RayError as error:
        raise TaskError(f"{named}: its worker died {_RETRIES + 1} times ({type(error).__name__}); {_DIED}") from error


@contextlib.contextmanager
def ray_session(workers: Workers) -> Iterator[Any]:
    """Ray, connected; what is started here is ended here. Within another session that one is used.

    Raises:
        UsageError: Ray is not installed.
        TaskError: It does not start, or there is no cluster at the address.
    """
    ray = _import_ray()
    if ray.is_initialized():
        yield ray
        return
    # Sockets lie below the folder, and their paths may not be longer than some hundred characters.
    folder = Path(tempfile.mkdtemp(prefix="walt-ray-"))
    try:
        _start(ray, workers, folder)
        yield ray
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def _import_ray() -> Any:
    for variable, value in _QUIET.items():
        os.environ.setdefault(variable, value)
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise UsageError(_MISSING) from error


def _start(ray: Any, workers: Workers, folder: Path) -> None:
    own: dict[str, Any] = {"num_cpus": workers.processes, "include_dashboard": False, "_temp_dir": str(folder)}
    try:
        ray.init(
            logging_level="ERROR",
            log_to_driver=False,
            **({"address": workers.address} if workers.address else own),
        )
    except (ConnectionError, RuntimeError, TimeoutError, ValueError) as error:
        where = f"at {workers.address}" if workers.address else "on this machine"
        raise TaskError(f"no Ray {where}: {' '.join(str(error).split())[:200]}") from error
