"""Starts a training: in this process on the CPU, or by torchrun with a process for every GPU."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from walt_edge.contract.errors import UsageError, WaltError
from walt_edge.contract.files import write_whole
from walt_edge.contract.processes import end_with
from walt_train.engine.plan import CHECKPOINT, Fit, FitError

_RESTARTS = 3
_REFUSAL = "WALT_TRAIN_REFUSAL"
_PATIENCE = "last_call_timeout=10,keep_alive_interval=2,keep_alive_max_attempt=5"
"""A lost machine is missed after ten seconds; one that comes late has ten more before the others begin."""
_WAITING = (("OMP_WAIT_POLICY", "PASSIVE"), ("GOMP_SPINCOUNT", "0"))


def calm_threads() -> None:
    """Lets OpenMP's threads sleep while they wait; to be called before anything imports torch.

    Waiting threads spin by default, and where something else wants one of the cores (the process that makes batches
    does) a step then takes twenty times as long.
    """
    for name, value in _WAITING:
        os.environ.setdefault(name, value)


def count_gpus(wanted: int | None) -> int:
    """How many GPUs to train on.

    Args:
        wanted: By the person; None takes all there are.

    Raises:
        UsageError: Fewer than wanted are there, or the number is negative.
    """
    if wanted == 0:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # mmengine takes a GPU where it sees one
        return 0
    import torch

    there = torch.cuda.device_count()
    if wanted is None:
        return there
    if wanted < 0 or wanted > there:
        choice = f"0 to {there}" if there else "0"
        raise UsageError(f"{wanted} GPUs asked for, this machine has {there}: give --gpus {choice} (0 is the CPU)")
    return wanted


@dataclass(frozen=True, slots=True)
class Machines:
    """Which machines train together; each runs the same command.

    Attributes:
        least: Training goes on as long as so many are there.
        most: More are not taken in.
        rendezvous: host:port of the one where they meet, or None for this machine alone.
    """

    least: int = 1
    most: int = 1
    rendezvous: str | None = None

    @property
    def elastic(self) -> bool:
        """Whether machines may come and go."""
        return self.least != self.most


ALONE = Machines()


def parse_machines(nodes: str, rendezvous: str | None) -> Machines:
    """Reads `2` or `1:4`, and where the machines meet.

    Raises:
        UsageError: It is neither, or several machines have nowhere to meet.
    """
    bounds = re.fullmatch(r"([1-9]\d{0,4})(?::([1-9]\d{0,4}))?", nodes)
    if bounds is None or int(bounds[2] or bounds[1]) < int(bounds[1]):
        raise UsageError(f"--nodes {nodes}: give a number, or the fewest and the most as 1:4")
    least, most = int(bounds[1]), int(bounds[2] or bounds[1])
    if most > 1 and rendezvous is None:
        raise UsageError(f"--nodes {nodes}: say where they meet with --rendezvous HOST:PORT, the same on all")
    if rendezvous is not None and not re.fullmatch(r"[^\s:]+:\d{1,5}", rendezvous):
        raise UsageError(f"--rendezvous {rendezvous}: give HOST:PORT")
    return Machines(least, most, rendezvous)


def launch(wanted: Fit, *, processes: int, machines: Machines = ALONE, module: str = __name__) -> Path:
    """Trains; returns the checkpoint's path.

    A process that is killed takes the others down, and all go on from the last state; a machine that is lost too,
    where the number may change. What a process refuses is not tried again.

    Args:
        wanted: What.
        processes: 0 for this process on the CPU; else so many that torchrun starts on each machine.
        machines: Which.
        module: What each process runs, with a `Fit` in JSON as its argument.

    Raises:
        WaltError: What `fit` raises, or processes ended before their work again and again.
    """
    if processes == 0 and machines == ALONE:
        return _fit_here(wanted)
    wanted = dataclasses.replace(wanted, elastic=machines.elastic)
    processes = max(1, processes)
    command = [sys.executable, "-m", "torch.distributed.run", *_meeting(wanted, machines)]
    command += [f"--nproc-per-node={processes}", f"--max-restarts={_RESTARTS}", "-m", module]
    command += [msgspec.json.encode(wanted, enc_hook=str).decode()]
    with tempfile.TemporaryDirectory(prefix="walt-train-") as folder:
        refusal = Path(folder) / "refusal.txt"
        threads = max(1, len(os.sched_getaffinity(0)) // processes)
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), _REFUSAL: str(refusal)}
        own = os.getpid()
        ended = subprocess.run(command, check=False, env=environment, preexec_fn=lambda: end_with(own))
        if refusal.is_file():
            raise FitError(refusal.read_text())
    if ended.returncode != 0:
        raise FitError(
            f"training processes ended {_RESTARTS + 1} times, the last with {ended.returncode}: see above; the same "
            "command goes on where they stopped"
        )
    return wanted.out / CHECKPOINT


def _meeting(wanted: Fit, machines: Machines) -> list[str]:
    """How torchrun's agents find each other."""
    if machines.rendezvous is None:
        return ["--standalone"]
    return [
        f"--nnodes={machines.least}:{machines.most}",
        "--rdzv-backend=c10d",
        f"--rdzv-endpoint={machines.rendezvous}",
        f"--rdzv-id={wanted.out.name}-{wanted.seed}",
        f"--rdzv-conf={_PATIENCE}",
    ]


def _fit_here(wanted: Fit) -> Path:
    from walt_train.engine.fit import fit

    try:
        return fit(wanted)
    except OSError as error:
        raise FitError(
            f"{wanted.out} cannot be written ({error.strerror or error}): make room, then repeat the command to go on"
        ) from error


def to_path(kind: type, value: Any) -> Any:
    """Reads the paths of a `Fit`."""
    return kind(value)


def take_part(argument: str, train: Callable[[Fit], Path]) -> int:
    """Trains in one of torchrun's processes; returns its exit status.

    Args:
        argument: A `Fit` in JSON.
        train: Does it.
    """
    end_with(os.getppid())  # without torchrun's agent the processes would wait for each other for ever
    calm_threads()
    refusal = Path(os.environ[_REFUSAL])
    if refusal.is_file():  # torchrun tries again what ended with an error; this one would end alike
        return 0
    try:
        train(msgspec.json.decode(argument, type=Fit, dec_hook=to_path))
    except WaltError as error:
        write_whole(refusal, str(error).encode())
        return error.exit_code
    return 0


def main() -> int:
    """What each of torchrun's processes runs."""
    return take_part(sys.argv[1], _fit_here)


if __name__ == "__main__":
    sys.exit(main())
