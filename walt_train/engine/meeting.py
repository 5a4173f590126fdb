"""How the processes of one attempt find each other, and only each other.

torchrun keeps its store when it starts processes anew. Who is quick would read the address that a process of the last
attempt left there, and both would wait for a connection that nobody makes. So the processes first agree on a name
that only this attempt has, and meet below it.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence

import torch
from torch.distributed import PrefixStore, Store, rendezvous  # type: ignore[attr-defined]

_POLL_S = 0.05
_PATIENCE_S = 600.0


def meet(backend: str) -> None:
    """Joins the process group of this attempt; torchrun has set the environment.

    Args:
        backend: `gloo`, or `nccl` on the GPU that has been chosen.

    Raises:
        TimeoutError: The others did not come.
    """
    store, rank, world = next(rendezvous("env://"))
    name = agree(store, rank, world)
    torch.distributed.init_process_group(backend, store=PrefixStore(name, store), rank=rank, world_size=world)


def agree(store: Store, rank: int, world: int, *, patience_s: float = _PATIENCE_S) -> str:
    """A name that exactly `world` living processes have agreed on, whatever earlier ones left in the store.

    Every process leaves a word that nobody had before. The first one lists the words; whoever finds its own on the
    list answers to it. When all have answered, the list holds no word of the dead.

    Raises:
        TimeoutError: That took longer than `patience_s`.
    """
    own, until_s = uuid.uuid4().hex, time.monotonic() + patience_s
    store.set(f"word/{rank}", own)
    while time.monotonic() < until_s:
        name = _lead(store, world) if rank == 0 else _follow(store, own)
        if name is not None:
            return name
        time.sleep(_POLL_S)
    raise TimeoutError(f"process {rank} of {world} waited {patience_s:g} s for the others")


def _lead(store: Store, world: int) -> str | None:
    if not store.check([f"word/{rank}" for rank in range(world)]):
        return None
    words = [store.get(f"word/{rank}").decode() for rank in range(world)]
    name = words[0] + _short(words)
    store.set("list", " ".join([name, *words]))
    if not store.check([f"answer/{name}/{word}" for word in words[1:]] or ["list"]):
        return None
    store.set(f"begin/{name}", "")
    return name


def _follow(store: Store, own: str) -> str | None:
    if not store.check(["list"]):
        return None
    name, *words = store.get("list").decode().split(" ")
    if own not in words:
        return None
    store.set(f"answer/{name}/{own}", "")
    return name if store.check([f"begin/{name}"]) else None


def _short(words: Sequence[str]) -> str:
    """The same for the same list."""
    return uuid.uuid5(uuid.NAMESPACE_OID, " ".join(words)).hex
