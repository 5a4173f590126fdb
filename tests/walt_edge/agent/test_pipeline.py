"""The stages, wired: what is sealed is spooled, what fails leaves nothing, and the loop ends as it should."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.bundles import manifest
from tests.envelopes import sealed
from tests.fakes.edge import RememberingSender, ScriptedCamera, ScriptedEyes, raising
from tests.fakes.models import ScriptedModel
from tests.lanes import make_pipeline
from walt_edge.agent.gating import StillGate
from walt_edge.agent.journal import FILE_NAME, Journal
from walt_edge.agent.outlet import Outlet
from walt_edge.agent.pipeline import PipelineError
from walt_edge.agent.showing import Showing
from walt_edge.agent.telemetry import Meter, Times
from walt_edge.camera import CameraError, CameraTimeout
from walt_edge.contract.messages import Desired, SpoolCounts
from walt_edge.contract.telemetry import Disk
from walt_edge.privacy.anonymiser import PrivacyError, SealedEnvelope
from walt_edge.spool.spool import Spool, SpoolFullError
from walt_edge.update.holder import Fitted
from walt_edge.vision.drift import MovingCameraError
from walt_edge.web.board import LiveBoard
from walt_edge.web.status import LiveFrame


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    with Spool(tmp_path) as spool:
        yield spool


def waiting(spool: Spool) -> list[str]:
    return [one.id for one in spool.pending(1000)]


def test_everything_sealed_is_spooled_in_order_and_the_last_tracks_too(spool: Spool) -> None:
    eyes, sender = ScriptedEyes(per_frame=2), RememberingSender()
    agent = make_pipeline(ScriptedCamera(5), eyes, spool, sender)
    agent.run(threading.Event())
    assert waiting(spool) == eyes.made
    assert len(eyes.made) == 11
    assert sender.notified == 6


def test_it_stops_after_so_many_processed_frames(spool: Spool) -> None:
    eyes = ScriptedEyes(failing=[1])
    agent = make_pipeline(ScriptedCamera(50), eyes, spool)
    agent.run(threading.Event(), frames=4)
    assert agent.camera.stats.frames_received == 5
    assert agent.meter.frames_processed == 4
    assert len(eyes.made) == 5


def test_a_stop_ends_all_tracks(spool: Spool) -> None:
    stop = threading.Event()
    eyes = ScriptedEyes(per_frame=0)
    agent = make_pipeline(ScriptedCamera(50, before=lambda index: stop.set() if index == 3 else None), eyes, spool)
    agent.run(stop)
    assert agent.meter.frames_processed == 4
    assert waiting(spool) == eyes.made
    assert len(eyes.made) == 1


@pytest.mark.parametrize("failure", [PrivacyError("no"), ValueError("no"), MemoryError()])
def test_a_failing_step_keeps_nothing_and_is_counted(spool: Spool, failure: Exception) -> None:
    eyes = ScriptedEyes(failing=[0, 2, 3], failure=failure)
    agent = make_pipeline(ScriptedCamera(6), eyes, spool)
    agent.run(threading.Event())
    assert len(waiting(spool)) == 3 + 1
    assert agent.telemetry().anonymiser_failures == 3
    assert agent.telemetry().frames_processed == 3


def test_steps_that_never_succeed_end_the_agent_with_the_cause(spool: Spool) -> None:
    eyes = ScriptedEyes(failing=range(100), failure=PrivacyError("the lens is covered"))
    agent = make_pipeline(ScriptedCamera(100), eyes, spool, failures_in_a_row=7)
    with pytest.raises(PipelineError, match=r"last 7 frames .* the lens is covered"):
        agent.run(threading.Event())
    assert waiting(spool) == eyes.made  # only what finish() gave


def test_a_moving_camera_ends_the_agent_at_once(spool: Spool) -> None:
    eyes = ScriptedEyes(failing=[2], failure=MovingCameraError("the camera moves"))
    agent = make_pipeline(ScriptedCamera(9), eyes, spool)
    with pytest.raises(MovingCameraError):
        agent.run(threading.Event())
    assert waiting(spool) == eyes.made
    assert len(eyes.made) == 3


def test_a_silent_camera_is_waited_for_and_told(spool: Spool, caplog: pytest.LogCaptureFixture) -> None:
    camera = ScriptedCamera(3, before=raising(1, CameraTimeout("no frame from rtsp://x"), times=4))
    agent = make_pipeline(camera, ScriptedEyes(), spool, quiet_warning_s=0.0)
    agent.run(threading.Event())
    assert agent.meter.frames_processed == 3
    assert "still trying: no frame from rtsp://x" in caplog.text


def test_a_camera_that_breaks_is_an_error_after_its_tracks_were_kept(spool: Spool) -> None:
    eyes = ScriptedEyes()
    camera = ScriptedCamera(9, before=raising(2, CameraError("unreadable"), times=10))
    agent = make_pipeline(camera, eyes, spool)
    with pytest.raises(CameraError, match="unreadable"):
        agent.run(threading.Event())
    assert waiting(spool) == eyes.made
    assert len(eyes.made) == 3


def test_one_unreadable_picture_is_passed_over(spool: Spool, caplog: pytest.LogCaptureFixture) -> None:
    eyes = ScriptedEyes()
    agent = make_pipeline(ScriptedCamera(9, before=raising(2, CameraError("7.jpg is damaged"), times=9)), eyes, spool)
    agent.run(threading.Event())
    assert agent.meter.frames_processed == 9
    assert "passed over: 7.jpg is damaged" in caplog.text


@dataclass
class FullDisk:
    """A spool that is full while `full` holds."""

    full: bool = True
    taken: list[str] = field(default_factory=list)

    def accept(self, sealed: SealedEnvelope) -> bool:
        if self.full:
            raise SpoolFullError("no space")
        self.taken.append(sealed.id)
        return True

    def counts(self) -> SpoolCounts:
        return SpoolCounts()


def test_a_full_disk_drops_what_is_new_and_the_agent_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    disk = FullDisk()

    def free_it(index: int) -> None:
        disk.full = index < 4

    eyes = ScriptedEyes()
    agent = make_pipeline(ScriptedCamera(6, before=free_it), eyes, disk)
    agent.run(threading.Event())
    assert disk.taken == eyes.made[4:]
    assert agent.telemetry().rejected_by_reason == {"border": 2, "disk full": 4}
    assert caplog.text.count("dropping what is new") == 1


def test_home_is_told_of_the_disk_below_the_spool(tmp_path: Path) -> None:
    spool = FullDisk()
    outlet = Outlet(spool, RememberingSender(), Meter("boot-1"), folder=tmp_path, quota_bytes=5)
    told = outlet.disk()
    assert told is not None
    assert (told.free_bytes > 0, told.quota_bytes, told.trouble) == (True, 5, False)
    outlet.take([sealed(1)])
    told = outlet.disk()
    assert told is not None
    assert told.trouble
    spool.full = False
    outlet.take([sealed(2)])
    assert Outlet(spool, RememberingSender(), Meter("boot-1"), folder=tmp_path / "gone").disk() == Disk()


def test_telemetry_counts_and_times(spool: Spool) -> None:
    sender = RememberingSender()
    agent = make_pipeline(ScriptedCamera(5), ScriptedEyes(), spool, sender, telemetry_s=0.0)
    agent.run(threading.Event())
    sent = sender.telemetry
    assert [one.frames_processed for one in sent] == [1, 2, 3, 4, 5, 5]
    last = sent[-1]
    assert last.frames_received == 5
    assert last.crops_chosen == 6
    assert last.spool == spool.counts()
    assert 0 < last.step_ms_p50 <= last.step_ms_p99
    assert 0 < last.frame_age_ms_p50 <= last.frame_age_ms_p99 < 60_000


@pytest.mark.parametrize("script", [{}, {"predict": "raises"}])
def test_what_a_model_sees_is_not_mined_and_its_failures_lose_no_frame(
    spool: Spool, tmp_path: Path, script: dict[str, str]
) -> None:
    eyes = ScriptedEyes(failing=[3])
    journal = Journal(tmp_path / "journal", every=10)
    agent = make_pipeline(ScriptedCamera(30), eyes, spool, showing=Showing("cam-1", journal))
    wish = Desired(release=7, target="street-7.walt", sha256="7" * 64)
    agent.models.offer(Fitted(ScriptedModel(manifest(), wish.sha256, script), wish, 1000.0))
    agent.run(threading.Event())
    journal.close()
    assert agent.meter.frames_processed == 29
    assert waiting(spool) == eyes.made
    lines = [json.loads(line) for line in (tmp_path / "journal" / FILE_NAME).read_text().splitlines()][:-1]
    releases = [line["model_release"] for line in lines]
    assert releases == ([7] * 19 + [0] * 10 if script else [7] * 29), "it looked at the failing frame too"
    assert [len(line["prediction"]["instances"]) for line in lines if "prediction" in line] == (
        [0, 0] if script else [1, 1, 1]
    )
    assert agent.telemetry().model_release == (0 if script else 7)


def test_the_model_looks_at_what_the_camera_saw_and_the_eyes_are_told_what_it_sees(spool: Spool) -> None:
    eyes = ScriptedEyes()
    agent = make_pipeline(ScriptedCamera(6), eyes, spool)
    wish = Desired(release=7, target="street-7.walt", sha256="7" * 64)
    model = ScriptedModel(manifest(), wish.sha256, {})
    agent.models.offer(Fitted(model, wish, 1000.0))
    agent.run(threading.Event())
    assert all((seen == 90).all() for seen in model.seen), "the camera's grey, not what the anonymiser makes of it"
    assert [len(seen) for seen in eyes.told if seen is not None] == [1] * 6


def test_sinks_that_run_behind_are_shown_what_the_model_saw_in_that_very_frame(spool: Spool, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal", every=1)
    agent = make_pipeline(ScriptedCamera(9), ScriptedEyes(behind=3), spool, showing=Showing("cam-1", journal))
    wish = Desired(release=7, target="street-7.walt", sha256="7" * 64)
    model = ScriptedModel(manifest(), wish.sha256, {"begin": 2, "predict": "raises"})
    agent.models.offer(Fitted(model, wish, 1000.0))
    agent.run(threading.Event())
    journal.close()
    lines = [json.loads(line) for line in (tmp_path / "journal" / FILE_NAME).read_text().splitlines()][:-1]
    seen = {line["frame"]: len(line["prediction"]["instances"]) for line in lines if "prediction" in line}
    assert seen == {index: int(index < 2) for index in range(9)}, "the last three when there are no more frames"


def test_the_page_gets_pictures_only_while_somebody_looks_and_none_after_a_failure(spool: Spool) -> None:
    board = LiveBoard(["cam-1"])
    looked: list[LiveFrame | None] = []
    camera = ScriptedCamera(
        8, before=lambda index: looked.append(board.live("cam-1")) if index in (2, 4, 6) else None
    )
    agent = make_pipeline(camera, ScriptedEyes(failing=[5]), spool, showing=Showing("cam-1", None, board))
    wish = Desired(release=7, target="street-7.walt", sha256="7" * 64)
    agent.models.offer(Fitted(ScriptedModel(manifest(), wish.sha256, {}), wish, 1000.0))
    agent.run(threading.Event())
    first, second, third = looked
    assert first is None, "nobody had looked before"
    assert second is not None
    assert second.instances is not None
    assert (second.captured.media_time_s, len(second.instances), second.track_ids) == (0.3, 1, (1,))
    assert third is None


def test_a_quiet_street_is_passed_over_and_counted(spool: Spool) -> None:
    eyes = ScriptedEyes(per_frame=0, busy=range(5))
    agent = make_pipeline(ScriptedCamera(100), eyes, spool)
    agent.gate = StillGate()
    agent.run(threading.Event())
    figures = agent.figures()
    assert figures.frames_skipped["gated"] + figures.frames_processed == 100
    assert 35 < figures.frames_processed < 45, "five busy ones, two seconds of calm, then two a second"


def test_percentiles_are_of_the_newest_samples() -> None:
    times = Times()
    assert times.percentile(99) == 0
    for n in range(3000):
        times.add(float(n))
    assert times.percentile(50) == pytest.approx(3000 - 512.5, abs=1)
