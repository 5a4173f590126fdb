"""Starts a training: in this process on the CPU, or by torchrun with a process for every GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec

from walt_edge.contract.errors import UsageError, WaltError
from walt_train.engine.plan import CHECKPOINT, Fit, FitError

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


def launch(wanted: Fit, *, processes: int) -> Path:
    """Trains; returns the checkpoint's path.

    Args:
        wanted: What.
        processes: 0 for this process on the CPU; else so many that torchrun starts.

    Raises:
        WaltError: What `fit` raises, or a process ended before its work.
    """
    if processes == 0:
        return _fit_here(wanted)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command += ["-m", "walt_train.engine.launch", msgspec.json.encode(wanted, enc_hook=str).decode()]
    environment = os.environ | {"OMP_NUM_THREADS": str(max(1, len(os.sched_getaffinity(0)) // processes))}
    ended = subprocess.run(command, check=False, env=environment)
    if ended.returncode != 0:
        raise FitError(
            f"a training process ended with {ended.returncode}: see above; the same command goes on where it stopped"
        )
    return wanted.out / CHECKPOINT


def _fit_here(wanted: Fit) -> Path:
    from walt_train.engine.fit import fit

    try:
        return fit(wanted)
    except OSError as error:
        raise FitError(
            f"{wanted.out} cannot be written ({error.strerror or error}): make room, then repeat the command to go on"
        ) from error


def _to_path(kind: type, value: Any) -> Any:
    return kind(value)


def main() -> int:
    """What each of torchrun's processes runs: its argument is a `Fit` in JSON."""
    calm_threads()
    wanted = msgspec.json.decode(sys.argv[1], type=Fit, dec_hook=_to_path)
    try:
        _fit_here(wanted)
    except WaltError as error:
        sys.stderr.write(f"walt-train: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
