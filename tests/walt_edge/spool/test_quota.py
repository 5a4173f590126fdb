"""The quota, by a model of a few lines: who goes, in which order, what is counted, and what lies on the disk."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.envelopes import sealed
from tests.power_cut import unflushed
from walt_edge.contract.messages import SpoolCounts
from walt_edge.contract.topics import Kind
from walt_edge.privacy.anonymiser import SealedEnvelope
from walt_edge.spool.key import KEY_BYTES, SpoolKey
from walt_edge.spool.spool import FILE_NAME, Spool

KEY = SpoolKey(bytes(KEY_BYTES))
TAG_BYTES = 28
WAL_BYTES = 6 << 20
_POOL = [(Kind.PLATE, 0.0, 32), (Kind.FRAME, 0.0, 32)] + [
    (Kind.CROP, confidence, side) for side in (16, 32, 48, 96) for confidence in (0.0, 0.2, 0.7, 0.7, 1.0)
]
POOL = [sealed(n, kind, confidence=confidence, side_px=side) for n, (kind, confidence, side) in enumerate(_POOL)]
Step = tuple[str, int]


@dataclass
class Model:
    """What the spool does, without a disk."""

    quota_bytes: int
    state: dict[str, str] = field(default_factory=dict)
    held: dict[str, int] = field(default_factory=dict)

    def accept(self, one: SealedEnvelope) -> None:
        if one.id in self.state:
            return
        self.state[one.id] = "depth"
        self.held[one.id] = len(one.data) + TAG_BYTES
        while sum(self.held.values()) > self.quota_bytes:
            acked = [id_ for id_ in self.held if self.state[id_] == "acked"]
            if acked:
                del self.held[acked[0]]
                continue
            worst = min((id_ for id_ in self.held), key=lambda id_: (VALUE[id_], list(self.state).index(id_)))
            self.state[worst] = "dropped"
            del self.held[worst]

    def ack(self, one: SealedEnvelope) -> None:
        if one.id in self.state:
            self.state[one.id] = "acked"

    def reject(self, one: SealedEnvelope) -> None:
        if self.state.get(one.id) in ("depth", "dropped"):
            self.state[one.id] = "rejected"
            self.held.pop(one.id, None)

    def resend(self) -> None:
        for id_ in self.held:
            self.state[id_] = "depth"

    @property
    def counts(self) -> SpoolCounts:
        states = list(self.state.values())
        by_state = {name: states.count(name) for name in ("acked", "dropped", "rejected", "depth")}
        return SpoolCounts(accepted=len(states), bytes=sum(self.held.values()), **by_state)


VALUE = {
    one.id: ({Kind.CROP: 0, Kind.FRAME: 1, Kind.PLATE: 2}[kind], confidence * side * side if kind is Kind.CROP else 0)
    for one, (kind, confidence, side) in zip(POOL, _POOL, strict=True)
}
NUMBERS = st.integers(0, len(POOL) - 1)
STEPS = st.lists(
    st.tuples(st.sampled_from(["accept"] * 6 + ["ack", "ack", "reject", "resend"]), NUMBERS), max_size=60
)


@settings(max_examples=100, deadline=None)
@given(steps=STEPS, quota_bytes=st.sampled_from([1_000, 20_000, 60_000, 1 << 30]))
def test_it_does_what_its_model_does(steps: list[Step], quota_bytes: int) -> None:
    model = Model(quota_bytes)
    with tempfile.TemporaryDirectory() as name, unflushed(Path(name)), Spool(name, quota_bytes, KEY) as spool:
        for number, (what, index) in enumerate(steps):
            one = POOL[index]
            if what == "accept":
                spool.accept(one)
                model.accept(one)
            elif what == "ack":
                spool.acked([one.id])
                model.ack(one)
            elif what == "reject":
                spool.rejected(one.id, "for a test")
                model.reject(one)
            else:
                spool.resend(0, f"request-{number}")
                model.resend()
            assert spool.counts() == model.counts
        rows = dict(spool._db.execute("SELECT id, state FROM envelopes ORDER BY seq").fetchall())
        assert rows == model.state
        assert [one.id for one in spool.pending(100)] == [id_ for id_ in rows if rows[id_] == "depth"]


@pytest.mark.parametrize("side_px", [16, 48, 128])
def test_the_disk_holds_little_more_than_the_quota(tmp_path: Path, side_px: int) -> None:
    quota_bytes = 400_000
    with unflushed(tmp_path), Spool(tmp_path, quota_bytes, KEY) as spool:
        for n in range(250):
            spool.accept(sealed(n, side_px=side_px))
            if n % 2:
                spool.acked([sealed(n, side_px=side_px).id])
            bodies = spool._db.execute("SELECT count(*) FROM bodies").fetchone()[0]
            most = quota_bytes + 4096 * bodies + 400 * (n + 1) + 100_000
            # A put may lie in the file twice before its pages are free again.
            assert (tmp_path / FILE_NAME).stat().st_size <= most + 60_000
            assert (tmp_path / f"{FILE_NAME}-wal").stat().st_size <= WAL_BYTES
        assert spool.counts().bytes <= quota_bytes


def test_a_quota_that_is_lowered_holds_and_gives_the_disk_its_space_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("walt_edge.spool.spool._FREE_KEPT_BYTES", 100_000)
    with unflushed(tmp_path):
        with Spool(tmp_path, 1 << 30, KEY) as spool:
            for n in range(60):
                spool.accept(sealed(n, side_px=96))
        before = (tmp_path / FILE_NAME).stat().st_size
        with Spool(tmp_path, 100_000, KEY) as spool:
            counts = spool.counts()
            assert counts.bytes <= 100_000
            assert counts.dropped + counts.depth == 60
            assert len(spool.pending(100)) == counts.depth > 0
        assert (tmp_path / FILE_NAME).stat().st_size < before / 3
