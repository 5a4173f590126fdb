"""The stages, wired: what is sealed is spooled, what fails leaves nothing, and the loop ends as it should."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from tests.bundles import manifest
from tests.envelopes import image
from tests.fakes.edge import RememberingSender, ScriptedCamera, ScriptedEyes, ScriptedStep, raising
from tests.fakes.models import ScriptedModel
from walt_edge.camera import CameraError, CameraTimeout, Frame
from walt_edge.contract.messages import Desired, SpoolCounts
from walt_edge.journal import FILE_NAME, Journal
from walt_edge.pipeline import Pipeline, PipelineError, PipelineSettings
from walt_edge.privacy import PrivacyError, SealedEnvelope
from walt_edge.spool import Spool, SpoolFullError
from walt_edge.telemetry import Meter, Times
from walt_edge.update.holder import Fitted
from walt_edge.vision.drift import MovingCameraError


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    with Spool(tmp_path) as spool:
        yield spool


def pipeline(camera: ScriptedCamera, eyes: ScriptedEyes, spool: Spool, **settings: float) -> Pipeline:
    options = PipelineSettings(**settings)  # type: ignore[arg-type]
    return Pipeline(camera, eyes, spool, RememberingSender(), Meter("boot-1"), settings=options)


def waiting(spool: Spool) -> list[str]:
    return [one.id for one in spool.pending(1000)]


def test_everything_sealed_is_spooled_in_order_and_the_last_tracks_too(spool: Spool) -> None:
    eyes = ScriptedEyes(per_frame=2)
    agent = pipeline(ScriptedCamera(5), eyes, spool)
    agent.run(threading.Event())
    assert waiting(spool) == eyes.made
    assert len(eyes.made) == 11
    assert isinstance(agent.uplink, RememberingSender)
    assert agent.uplink.notified == 6


def test_it_stops_after_so_many_processed_frames(spool: Spool) -> None:
    eyes = ScriptedEyes(failing=[1])
    agent = pipeline(ScriptedCamera(50), eyes, spool)
    agent.run(threading.Event(), frames=4)
    assert agent.camera.stats.frames_received == 5
    assert agent.meter.frames_processed == 4
    assert len(eyes.made) == 5


def test_a_stop_ends_all_tracks(spool: Spool) -> None:
    stop = threading.Event()
    eyes = ScriptedEyes(per_frame=0)
    agent = pipeline(ScriptedCamera(50, before=lambda index: stop.set() if index == 3 else None), eyes, spool)
    agent.run(stop)
    assert agent.meter.frames_processed == 4
    assert waiting(spool) == eyes.made
    assert len(eyes.made) == 1


@pytest.mark.parametrize("failure", [PrivacyError("no"), ValueError("no"), MemoryError()])
def test_a_failing_step_keeps_nothing_and_is_counted(spool: Spool, failure: Exception) -> None:
    eyes = ScriptedEyes(failing=[0, 2, 3], failure=failure)
    agent = pipeline(ScriptedCamera(6), eyes, spool)
    agent.run(threading.Event())
    assert len(waiting(spool)) == 3 + 1
    assert agent.telemetry().anonymiser_failures == 3
    assert agent.telemetry().frames_processed == 3


def test_steps_that_never_succeed_end_the_agent_with_the_cause(spool: Spool) -> None:
    eyes = ScriptedEyes(failing=range(100), failure=PrivacyError("the lens is covered"))
    agent = pipeline(ScriptedCamera(100), eyes, spool, failures_in_a_row=7)
    with pytest.raises(PipelineError, match=r"last 7 frames .* the lens is covered"):
        agent.run(threading.Event())
    assert waiting(spool) == eyes.made  # only what finish() gave


def test_a_moving_camera_ends_the_agent_at_once(spool: Spool) -> None:
    eyes = ScriptedEyes(failing=[2], failure=MovingCameraError("the camera moves"))
    agent = pipeline(ScriptedCamera(9), eyes, spool)
    with pytest.raises(MovingCameraError):
        agent.run(threading.Event())
    assert waiting(spool) == eyes.made
    assert len(eyes.made) == 3


def test_a_silent_camera_is_waited_for_and_told(spool: Spool, caplog: pytest.LogCaptureFixture) -> None:
    camera = ScriptedCamera(3, before=raising(1, CameraTimeout("no frame from rtsp://x"), times=4))
    agent = pipeline(camera, ScriptedEyes(), spool, quiet_warning_s=0.0)
    agent.run(threading.Event())
    assert agent.meter.frames_processed == 3
    assert "still trying: no frame from rtsp://x" in caplog.text


def test_a_camera_that_breaks_is_an_error_after_its_tracks_were_kept(spool: Spool) -> None:
    eyes = ScriptedEyes()
    camera = ScriptedCamera(9, before=raising(2, CameraError("unreadable"), times=10))
    agent = pipeline(camera, eyes, spool)
    with pytest.raises(CameraError, match="unreadable"):
        agent.run(threading.Event())
    assert waiting(spool) == eyes.made
    assert len(eyes.made) == 3


def test_one_unreadable_picture_is_passed_over(spool: Spool, caplog: pytest.LogCaptureFixture) -> None:
    eyes = ScriptedEyes()
    agent = pipeline(ScriptedCamera(9, before=raising(2, CameraError("7.jpg is damaged"), times=9)), eyes, spool)
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
    agent = Pipeline(ScriptedCamera(6, before=free_it), eyes, disk, RememberingSender(), Meter("boot-1"))
    agent.run(threading.Event())
    assert disk.taken == eyes.made[4:]
    assert agent.telemetry().rejected_by_reason == {"border": 2, "disk full": 4}
    assert caplog.text.count("dropping what is new") == 1


def test_telemetry_counts_and_times(spool: Spool) -> None:
    agent = pipeline(ScriptedCamera(5), ScriptedEyes(), spool, telemetry_s=0.0)
    agent.run(threading.Event())
    assert isinstance(agent.uplink, RememberingSender)
    sent = agent.uplink.telemetry
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
    agent = pipeline(ScriptedCamera(30), eyes, spool)
    agent.journal = Journal(tmp_path / "journal", every=10)
    wish = Desired(release=7, target="street-7.walt", sha256="7" * 64)
    agent.models.offer(Fitted(ScriptedModel(manifest(), wish.sha256, script), wish, 1000.0))
    agent.run(threading.Event())
    agent.journal.close()
    assert agent.meter.frames_processed == 29
    assert waiting(spool) == eyes.made
    lines = [json.loads(line) for line in (tmp_path / "journal" / FILE_NAME).read_text().splitlines()][:-1]
    releases = [line["model_release"] for line in lines]
    assert releases == ([7] * 20 + [0] * 9 if script else [7] * 29)
    assert [len(line["prediction"]["instances"]) for line in lines if "prediction" in line] == (
        [0, 0] if script else [1, 1, 1]
    )
    assert agent.telemetry().model_release == (0 if script else 7)


def test_the_model_looks_at_what_the_camera_saw_and_only_if_the_anonymiser_passed_it(spool: Spool) -> None:
    class FillingEyes(ScriptedEyes):
        def step(self, frame: Frame) -> ScriptedStep:
            step = super().step(frame)
            return replace(step, image=image(np.zeros_like(frame.bgr)))

    agent = pipeline(ScriptedCamera(6), FillingEyes(failing=[3]), spool)
    wish = Desired(release=7, target="street-7.walt", sha256="7" * 64)
    model = ScriptedModel(manifest(), wish.sha256, {})
    agent.models.offer(Fitted(model, wish, 1000.0))
    agent.run(threading.Event())
    assert len(model.seen) == 5
    assert all((seen == 90).all() for seen in model.seen), "the camera's grey, not the anonymiser's black"


def test_percentiles_are_of_the_newest_samples() -> None:
    times = Times()
    assert times.percentile(99) == 0
    for n in range(3000):
        times.add(float(n))
    assert times.percentile(50) == pytest.approx(3000 - 512.5, abs=1)
