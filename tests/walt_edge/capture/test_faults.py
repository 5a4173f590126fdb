"""What a live camera survives: one fault of each kind, and a hundred at random."""

from __future__ import annotations

from collections.abc import Iterator

import psutil
import pytest

from benchmarks.fault_site import KINDS, Kind, Site, recovery_s
from benchmarks.faults import GROWTH_MB, OVERTIME_S, RECOVERY_S, Outcome, suffer
from walt_edge.camera import Transport

OPEN_S, STALL_S = 2.0, 1.0
SILENT = ("half-open", "half-open from the camera alone", "camera hangs")
BY_UDP = ("reset", "camera hangs", "rebooted", "decoder killed")


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Transport, Site]]:
    """A site for each transport: what one fault leaves behind, the next one meets."""
    folder = tmp_path_factory.mktemp("films")
    with Site(folder, "tcp", OPEN_S, STALL_S) as tcp, Site(folder, "udp", OPEN_S, STALL_S) as udp:
        yield {"tcp": tcp, "udp": udp}


@pytest.mark.parametrize(
    ("transport", "kind"),
    [("tcp", kind) for kind in KINDS] + [("udp", kind) for kind in KINDS if kind.name in BY_UDP],
    ids=lambda value: value.name if isinstance(value, Kind) else value,
)
def test_a_camera_recovers(sites: dict[Transport, Site], transport: Transport, kind: Kind) -> None:
    site = sites[transport]
    site.settle()
    stalls, restarts = site.camera.stats.stalls, site.camera.stats.decoder_restarts
    resolution_wh = site.camera.resolution_wh
    assert recovery_s(site, kind) < RECOVERY_S
    stats = site.camera.stats
    assert stats.is_live
    assert stats.problem == ""
    assert stats.stalls > stalls or kind.name not in SILENT
    assert stats.decoder_restarts > restarts or "decoder" not in kind.name
    assert site.camera.resolution_wh != resolution_wh or kind.name != "another resolution"
    assert site.watch.backward == 0
    assert site.watch.overtime_s < OVERTIME_S
    assert psutil.Process(site.camera.decoder_pid).status() != psutil.STATUS_STOPPED


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_hundred_faults() -> None:
    outcome = Outcome()
    suffer(outcome, 80, 1, "tcp", open_s=OPEN_S, stall_s=STALL_S)
    suffer(outcome, 20, 2, "udp", open_s=OPEN_S, stall_s=STALL_S)
    assert set(outcome.recoveries_s) == {kind.name for kind in KINDS}
    assert len(outcome.all_s()) == 100
    assert max(outcome.all_s()) < RECOVERY_S, outcome.recoveries_s
    assert outcome.overtime_s < OVERTIME_S
    assert outcome.backward == 0
    assert outcome.most_decoders == 1
    assert outcome.leaked_descriptors == 0
    assert outcome.growth_mb < GROWTH_MB
