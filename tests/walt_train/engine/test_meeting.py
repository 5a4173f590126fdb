import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from torch.distributed import HashStore, Store  # type: ignore[attr-defined]

from walt_train.engine.meeting import agree


def attempt(store: Store, world: int, order: list[int]) -> set[str]:
    """All processes of one attempt, begun in some order; the names that they agreed on."""
    with ThreadPoolExecutor(world) as pool:
        return {future.result(30) for future in [pool.submit(agree, store, rank, world) for rank in order]}


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0]])
def test_every_attempt_has_a_name_of_its_own(order: list[int]) -> None:
    store = HashStore()
    names = [attempt(store, 3, order) for _ in range(4)]
    assert all(len(each) == 1 for each in names)
    assert len(set.union(*names)) == 4


def test_nobody_meets_the_dead() -> None:
    """The first of the new attempt finds the second's old word, and has to wait for the new one."""
    store = HashStore()
    (dead,) = attempt(store, 2, [0, 1])
    found: list[str] = []
    quick = threading.Thread(target=lambda: found.append(agree(store, 0, 2)))
    quick.start()
    quick.join(0.5)
    assert quick.is_alive(), "it began with a process that is no more"
    assert agree(store, 1, 2) != dead
    quick.join(30)
    assert found
    assert found[0] != dead


def test_fewer_go_on_and_more_join() -> None:
    store = HashStore()
    names = [attempt(store, world, list(range(world))) for world in (2, 1, 3, 2)]
    assert len(set.union(*names)) == 4


def test_who_waits_in_vain_is_told() -> None:
    with pytest.raises(TimeoutError, match=r"process 0 of 2 waited 0\.2 s"):
        agree(HashStore(), 0, 2, patience_s=0.2)
