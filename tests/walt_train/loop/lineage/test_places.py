"""The same on PostgreSQL and object storage as on a laptop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.envelopes import sealed
from tests.walt_train.loop.serve.loop import CROPS, crop, fill
from walt_edge.contract.messages import AckState, encode_envelope, envelope_id
from walt_edge.contract.topics import DeviceTopics, Kind
from walt_train.loop.lineage import graph
from walt_train.loop.lineage.backup import make_backup
from walt_train.loop.lineage.carry import Hands, carry_out
from walt_train.loop.lineage.choose import Choice
from walt_train.loop.lineage.forget import Wish, begin, pending
from walt_train.loop.lineage.keep import Policy, keep
from walt_train.loop.lineage.made import Maker, exported, froze, published
from walt_train.loop.lineage.record import note
from walt_train.loop.lineage.restore import restore
from walt_train.loop.lineage.trace import lines, trace
from walt_train.loop.serve.jobs import Jobs, Order, StepName
from walt_train.loop.store.config import StoreConfig
from walt_train.loop.store.database import transaction
from walt_train.loop.store.store import Accepted, Store


@pytest.fixture
def store(database_url: str, s3: Any) -> Any:
    with Store(StoreConfig(database_url, s3.url())) as store:
        yield store


def frame(number: int) -> Accepted:
    envelope = sealed(number, Kind.FRAME).envelope
    data = encode_envelope(envelope)
    return Accepted(envelope_id(data), msgspec.structs.replace(envelope), data)


def test_lineage_forgetting_keeping_and_copies(store: Store, tmp_path: Path) -> None:
    fill(store)
    store.add_group([frame(50), frame(51)])
    jobs = Jobs(store.engine, owner="worker")
    made = jobs.create(Order(camera="cam-1", recipe="demo", seed=0, training_steps=None, crops=CROPS, tracks=CROPS))
    assert made is not None
    maker = Maker("cam-1", 1, tmp_path / "home/generations/cam-1/1", tmp_path / "home")
    roles = {crop(number).id: "clip" for number in range(CROPS)}
    record = froze(maker, "a" * 64, maker.folder / "clipart", roles)
    jobs.finish(jobs.begin(made, StepName.CLIPART), StepName.CLIPART, {"sha256": "a" * 64}, record=record)
    for _ in range(2):
        with transaction(store.engine) as connection:
            note(connection, maker.artifact("b" * 64, "checkpoint", "weights", None), ["a" * 64, maker.run])
            exported(maker, "b" * 64, "c" * 64, "fake", maker.folder / "bundle.walt")(connection)
            published(maker, "c" * 64, 1, "fake-1.walt", [DeviceTopics("test", "walt-test")])(connection)
    with store.engine.connect() as connection:
        assert "test/walt-test was told to run it" in "\n".join(lines(trace(connection, crop(0).id[:12])))
        assert f"{CROPS} clips, cam-1 (2023-11-14: {CROPS})" in "\n".join(lines(trace(connection, "1")))

    make_backup(store, tmp_path / "copy")
    begun = begin(store.engine, Wish(choice=Choice(crops=(crop(0).id,), cameras=("cam-1",)), retrain=True), "a test")
    assert begun is not None
    waits: list[float] = []
    done = carry_out(Hands(store, jobs, tmp_path / "home", wait=waits.append), begun)
    assert (done.blobs, done.stopped, pending(store.engine)) == (1, ["cam-1 generation 1"], [])
    assert crop(0).id not in set(store.blobs.names())
    assert store.add_group([crop(0)]) == [AckState.DUPLICATE]
    with store.engine.connect() as connection:
        assert graph.taints(connection) == {("cam-1", 1): 1}
    assert [one.number for one in jobs.all()] == [1, 2]

    size = store.counts().bytes
    kept = keep(store, Policy(bytes={None: size - 1}), do=True)
    assert kept.crowded == {"cam-1": 1}
    assert len(store.ids(Kind.FRAME)) == 1
    kept = keep(store, Policy(days={Kind.CROP: 1.0}), do=True)
    assert kept.aged == {"crop": CROPS - 1}
    assert store.add_group([crop(1)]) == [AckState.DUPLICATE]
    assert len(list(store.blobs.names())) == 2

    with Store(tmp_path / "laptop") as laptop:
        assert restore(tmp_path / "copy", laptop).forgotten == 1
        assert len(laptop.ids()) == CROPS + 2
        assert crop(0).id not in laptop.ids()
