"""What an agent's processes take of memory, and whether it grows.

Three figures, since each has a fault. PSS is the machine's bill, but a library's page counts in full as soon as the
last other process that maps it has ended. So it does in USS: with nobody else about, the same agent's was 40 MB
higher than beside a second one. What the processes have written moves by their own doing alone; a leak is in it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from tqdm import tqdm

EVERY_S = 5.0
_KIB_A_MIB = 1024


@dataclass(frozen=True, slots=True)
class Memory:
    """Of some processes together, MiB.

    Attributes:
        pss: All that they map; what several processes map is shared out among them.
        uss: What nobody else maps.
        written: What they have written (anonymous and shared memory), shared out likewise.
    """

    pss: float = 0.0
    uss: float = 0.0
    written: float = 0.0

    @classmethod
    def of(cls, pid: int) -> Memory:
        """Of a process and all that it has started; one that ends meanwhile is left out."""
        own = psutil.Process(pid)
        parts = [_rolled_up(one.pid) for one in (own, *own.children(recursive=True))]
        return cls(*(sum(part) for part in zip(*((one.pss, one.uss, one.written) for one in parts), strict=True)))


@dataclass(frozen=True, slots=True)
class Course:
    """Memory over time.

    Attributes:
        minutes: When each was taken, since the first.
        sizes: What was taken then.
    """

    minutes: Sequence[float]
    sizes: Sequence[Memory]

    def slope(self, what: str, *, from_minute: float = 0.0, apart: tuple[float, float] = (0.0, math.inf)) -> float:
        """MiB a minute, as `theil_sen` has it.

        Args:
            what: A field of `Memory`.
            from_minute: Of what was taken later alone.
            apart: Of pairs so far apart alone, minutes.
        """
        late = [index for index, minute in enumerate(self.minutes) if minute >= from_minute]
        values = self.of(what)
        return theil_sen([self.minutes[index] for index in late], [values[index] for index in late], apart)

    def of(self, what: str) -> list[float]:
        """One field of `Memory` over time, MiB."""
        return [float(getattr(size, what)) for size in self.sizes]

    def most(self, what: str) -> float:
        """The most there was, MiB."""
        return max(self.of(what))


def watch(pid: int, span_s: float, every_s: float = EVERY_S, now_s: Callable[[], float] = time.monotonic) -> Course:
    """Takes the memory of a process and its children for so long, seconds."""
    began_s = now_s()
    minutes: list[float] = []
    sizes: list[Memory] = []
    with tqdm(total=round(span_s), desc="memory", unit="s", leave=False, disable=None) as bar:
        while (passed_s := now_s() - began_s) < span_s:
            minutes.append(passed_s / 60)
            sizes.append(Memory.of(pid))
            bar.update(round(passed_s) - bar.n)
            time.sleep(every_s)
    return Course(minutes, sizes)


def theil_sen(times: Sequence[float], values: Sequence[float], apart: tuple[float, float] = (0.0, math.inf)) -> float:
    """The median of the slopes of all pairs (Theil 1950, Sen 1968), which no outlier moves.

    Args:
        times: Rising.
        values: At these times.
        apart: Of pairs so far apart alone. In a short course a single step, such as an allocator's that asks for one
            more block, lies between half of all pairs, but between few of those that are near.
    """
    t, v = np.array(times), np.array(values)
    one, other = np.triu_indices(len(t), 1)
    spans = t[other] - t[one]
    chosen = (apart[0] <= spans) & (spans <= apart[1])
    return float(np.median((v[other] - v[one])[chosen] / spans[chosen]))


def _rolled_up(pid: int) -> Memory:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except (FileNotFoundError, ProcessLookupError):
        return Memory()
    sizes = {key: int(rest.split()[0]) / _KIB_A_MIB for key, _, rest in (line.partition(":") for line in lines)}
    return Memory(
        pss=sizes["Pss"],
        uss=_sum(sizes, ("Private_Clean", "Private_Dirty", "Private_Hugetlb")),
        written=_sum(sizes, ("Pss_Anon", "Pss_Shmem")),
    )


def _sum(sizes: dict[str, float], names: Iterable[str]) -> float:
    return sum(sizes[name] for name in names)
