from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.crops import moment_at
from tests.envelopes import image, origin
from walt_edge.contract.errors import UsageError
from walt_edge.contract.messages import Clock, FrameHeader, Moment, decode_envelope
from walt_edge.contract.topics import Kind
from walt_edge.privacy.anonymiser import AnonymisedImage, SealedEnvelope
from walt_edge.selecting.sampling import BLOCK_S, FrameSampler, SamplingSettings, is_holdout

DAY_S = 86_400
EVERY_S = 10
FRAMES_A_DAY = 60


def picture(grey: int) -> AnonymisedImage:
    noise = np.random.default_rng(grey).integers(0, 20, (48, 64, 3), dtype=np.uint8)
    return image(noise + np.uint8(grey))


NIGHT, NOON = picture(20), picture(150)


def camera_day(days: float = 1.0) -> Iterator[tuple[AnonymisedImage, Moment, float]]:
    """Dark for half of it; busy for ten minutes at a time, one part in twenty."""
    for at_s in range(0, int(days * DAY_S), EVERY_S):
        hour = (at_s % DAY_S) / 3600
        busy = at_s // 600 % 20 == 7
        yield (NOON if 6 <= hour < 18 else NIGHT), moment_at(at_s), 0.9 if busy else 0.0


def sample(sampler: FrameSampler, frames: Iterator[tuple[AnonymisedImage, Moment, float]]) -> list[SealedEnvelope]:
    return [one for offered in frames if (one := sampler.offer(*offered)) is not None]


def later(
    frames: Iterator[tuple[AnonymisedImage, Moment, float]], days: float
) -> Iterator[tuple[AnonymisedImage, Moment, float]]:
    return (one for one in frames if one[1].monotonic_ns >= days * DAY_S * 1e9)


def header_of(one: SealedEnvelope) -> FrameHeader:
    assert isinstance(one.envelope.header, FrameHeader)
    return one.envelope.header


@pytest.fixture(scope="module")
def modest() -> SamplingSettings:
    frame = FrameSampler(origin(), SamplingSettings(choose_s=0.0))
    frame.offer(NOON, moment_at(100.0), 0.0)
    one = frame.offer(NOON, moment_at(101.0), 0.0)
    assert one is not None
    return SamplingSettings(bytes_per_day=FRAMES_A_DAY * len(one.data))


@pytest.fixture(scope="module")
def taken(modest: SamplingSettings) -> list[SealedEnvelope]:
    return sample(FrameSampler(origin(), modest), camera_day(3.0))


# -- blocks that judge ----------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000_000), st.floats(0, BLOCK_S - 1e-3), st.floats(0, BLOCK_S - 1e-3), st.sampled_from(Clock))
def test_a_block_is_held_out_whole_whatever_the_wall_clock_says(
    block: int, one_s: float, other_s: float, clock: Clock
) -> None:
    here = moment_at(block * BLOCK_S + one_s)
    there = moment_at(block * BLOCK_S + other_s, clock=clock, utc_s=-1e6)
    assert is_holdout("gate", here, 0.3) == is_holdout("gate", there, 0.3)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.25, 1.0])
def test_the_share_is_that_of_the_blocks(share: float) -> None:
    blocks = 4000
    held = sum(is_holdout("gate", moment_at(block * BLOCK_S), share) for block in range(blocks))
    assert held / blocks == pytest.approx(share, abs=0.02)


def test_cameras_and_boots_are_held_out_at_different_times() -> None:
    blocks = range(500)
    of_gate = [is_holdout("gate", moment_at(block * BLOCK_S), 0.5) for block in blocks]
    of_yard = [is_holdout("yard", moment_at(block * BLOCK_S), 0.5) for block in blocks]
    of_boot = [is_holdout("gate", moment_at(block * BLOCK_S, boot="next"), 0.5) for block in blocks]
    for other in (of_yard, of_boot):
        assert 200 < sum(a == b for a, b in zip(of_gate, other, strict=True)) < 300


def test_the_draw_is_the_same_in_every_version() -> None:
    # A device that is updated must not begin to train on what it held out an hour ago.
    held = [block for block in range(60) if is_holdout("cam-1", moment_at(block * BLOCK_S), 0.1)]
    assert held == [9, 13, 14, 24, 55, 56]


def test_frames_are_marked_as_crops_of_their_moment_are(
    taken: list[SealedEnvelope], modest: SamplingSettings
) -> None:
    for one in taken:
        header = header_of(one)
        assert header.holdout == is_holdout("cam-1", header.captured, modest.holdout_share)


def test_no_frame_that_judges_is_a_neighbour_of_what_trains(
    taken: list[SealedEnvelope], modest: SamplingSettings
) -> None:
    judging = [header_of(one).captured.monotonic_ns / 1e9 for one in taken if header_of(one).holdout]
    assert len(judging) > 10
    for at_s in judging:
        for near_s in np.linspace(at_s - modest.guard_s + 0.1, at_s + modest.guard_s - 0.1, 25):
            assert is_holdout("cam-1", moment_at(float(near_s)), modest.holdout_share)


# -- the budget -----------------------------------------------------------------------------------------------


def test_no_day_takes_more_than_its_budget_and_most_of_it_is_used(
    taken: list[SealedEnvelope], modest: SamplingSettings
) -> None:
    times = [(header_of(one).captured.monotonic_ns / 1e9, len(one.data)) for one in taken]
    for start_s, _ in times:
        assert sum(size for at_s, size in times if 0 <= at_s - start_s < DAY_S) <= modest.bytes_per_day
    assert sum(size for _, size in times) > 0.6 * 3 * modest.bytes_per_day


def test_zero_opts_out(tmp_path: Path) -> None:
    sampler = FrameSampler(origin(), SamplingSettings(bytes_per_day=0), tmp_path)
    assert sample(sampler, camera_day(0.2)) == []
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_with_one_side_alone_the_whole_budget_is_its(modest: SamplingSettings, share: float) -> None:
    sampler = FrameSampler(origin(), replace(modest, holdout_share=share))
    found = sample(sampler, camera_day())
    assert len(found) > 0.5 * FRAMES_A_DAY * (1.0 if share == 0.0 else 0.5)
    assert {header_of(one).holdout for one in found} == {share == 1.0}


def test_the_budget_may_change_while_it_runs(modest: SamplingSettings) -> None:
    sampler = FrameSampler(origin(), modest)
    spent = sum(len(one.data) for one in sample(sampler, camera_day(0.25)))
    for _ in range(100):
        sampler.configure(modest)
    spent += sum(len(one.data) for one in sample(sampler, later(camera_day(0.5), 0.25)))
    assert spent <= modest.bytes_per_day, "to say it again earns nothing"
    sampler.configure(replace(modest, bytes_per_day=0))
    assert sample(sampler, later(camera_day(1.0), 0.5)) == []


def test_a_frame_that_no_purse_can_hold_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    sampler = FrameSampler(origin(), SamplingSettings(bytes_per_day=2000))
    with caplog.at_level(logging.WARNING):
        assert sample(sampler, camera_day(0.2)) == []
    assert len(caplog.records) == 1
    assert "larger budget" in caplog.text


@pytest.mark.parametrize(
    "changed", [{"holdout_share": 1.5}, {"bytes_per_day": -1}, {"guard_s": 400.0}, {"choose_s": -1.0}]
)
def test_settings_that_make_no_sense_are_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(changed))):
        SamplingSettings(**changed)


# -- what is chosen -------------------------------------------------------------------------------------------


def test_rare_scenes_get_more_than_their_part_of_time(taken: list[SealedEnvelope]) -> None:
    hours = Counter(int(header_of(one).captured.monotonic_ns / 1e9 % DAY_S // 10_800) for one in taken)
    assert len(hours) == 8, "every part of the day"
    assert min(hours.values()) * 5 > max(hours.values())
    busy = sum(header_of(one).captured.monotonic_ns / 1e9 // 600 % 20 == 7 for one in taken)
    assert busy / len(taken) > 3 / 20, "busy one part in twenty"


def test_of_frames_as_rare_the_most_interesting_goes() -> None:
    sampler = FrameSampler(origin(), SamplingSettings(holdout_share=0.0))
    for second, interesting in enumerate((0.4, 0.5, 0.6, 0.4, 0.35)):
        assert sampler.offer(NOON, moment_at(100.0 + second), interesting) is None
    one = sampler.offer(NOON, moment_at(140.0), 0.4)
    assert one is not None
    assert header_of(one).captured.monotonic_ns == round(102e9)


def test_what_goes_is_a_whole_frame_that_home_can_read(taken: list[SealedEnvelope]) -> None:
    envelope = decode_envelope(taken[0].data)
    assert envelope.kind is Kind.FRAME
    assert envelope.image_wh == envelope.header.origin.frame_wh == (64, 48)
    assert envelope.header.origin.anonymiser == NOON.anonymiser


# -- clocks and restarts --------------------------------------------------------------------------------------


@pytest.mark.parametrize("utc_s", [1e9, -1e9])
def test_a_wall_clock_that_jumps_earns_nothing(modest: SamplingSettings, utc_s: float) -> None:
    sampler = FrameSampler(origin(), modest)
    spent = sum(len(one.data) for one in sample(sampler, camera_day(0.25)))
    jumped = (
        (picture, msgspec.structs.replace(captured, utc_us=moment_at(0, utc_s=utc_s).utc_us), busy)
        for picture, captured, busy in later(camera_day(0.26), 0.25)
    )
    spent += sum(len(one.data) for one in sample(sampler, jumped))
    assert spent <= modest.bytes_per_day * (0.25 + 0.75 * 0.26)


def test_a_restart_spends_nothing_twice(tmp_path: Path, modest: SamplingSettings) -> None:
    found: list[SealedEnvelope] = []
    for offered in camera_day(0.5):
        # A new process every ten seconds, and never an orderly end.
        sampler = FrameSampler(origin(), replace(modest, choose_s=0.0), tmp_path)
        for second in range(2):
            later = msgspec.structs.replace(offered[1], monotonic_ns=offered[1].monotonic_ns + second * 1_000_000_000)
            one = sampler.offer(offered[0], later, offered[2])
            found += [one] if one else []
    assert len(found) > 5
    assert sum(len(one.data) for one in found) <= modest.bytes_per_day


def test_damaged_state_begins_anew_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, modest: SamplingSettings
) -> None:
    sampler = FrameSampler(origin(), modest, tmp_path)
    sample(sampler, camera_day(0.1))
    sampler.close()
    (path,) = tmp_path.iterdir()
    for content in (b"", path.read_bytes()[:-20], path.read_bytes().replace(b'"version":1', b'"version":7')):
        caplog.clear()
        path.write_bytes(content)
        with caplog.at_level(logging.WARNING):
            again = FrameSampler(origin(), modest, tmp_path)
        assert "begins anew" in caplog.text
        assert sample(again, camera_day(0.1))


def test_a_disk_that_takes_nothing_costs_no_frame(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, modest: SamplingSettings
) -> None:
    with caplog.at_level(logging.WARNING):
        assert sample(FrameSampler(origin(), modest, tmp_path / "gone"), camera_day(0.2))
    assert len(caplog.records) == 1, "said once"
