"""Sampled anonymised full frames, for judging and calibration, and which blocks of time judge alone.

What judges must not have trained. So time is cut into blocks, and some of them, drawn by a hash, are held out whole:
every crop and frame of such a block is marked `holdout`, and full frames are taken from its inner part only, so that
no frame that judges is a neighbour of one that trains. Blocks go by the monotonic clock of a boot, as home's time
splits do (docs/decisions/0006): it is right whether or not the wall clock is synchronised, and nobody sets it.

Frames have a budget of bytes of their own, one purse for each side. Out of every half minute the frame is kept that
shows what was sampled least; it goes if it is rare enough for what is in the purse. So quiet and busy streets, day
and night all get their part, however seldom they are.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from walt_edge.contract.errors import UsageError
from walt_edge.contract.messages import Clock, FrameHeader, Moment, Origin
from walt_edge.privacy.anonymiser import AnonymisedImage, SealedEnvelope, seal
from walt_edge.selecting.state_file import StateFile
from walt_edge.selecting.timeline import Timeline

LOG = logging.getLogger(__name__)

FILE_NAME = "frames-{camera}.json"
BLOCK_S = 600.0
_VERSION: Final = 1
_DAY_S = 86_400.0
_HOURS_A_BIN = 3
_LEVELS = (45.0, 100.0)  # mean grey levels: night, dusk, day
_BUSY = (0.01, 0.34, 0.67)
_LUMA_STEP = 8
_BYTES_A_PIXEL = 0.6  # of a JPEG as they are sealed, until one was


def is_holdout(camera: str, captured: Moment, share: float, block_s: float = BLOCK_S) -> bool:
    """Whether what was captured at a moment judges and never trains.

    Args:
        camera: The camera's name: cameras are held out at different times.
        captured: When; its boot and monotonic clock decide, never the wall clock.
        share: Of all blocks, 0..1.
        block_s: Length of a block, seconds.
    """
    block = _block(captured, block_s)
    drawn = hashlib.sha256(f"{camera}/{captured.boot_id}/{block}".encode()).digest()
    return int.from_bytes(drawn[:8], "big") < share * 2**64


@dataclass(frozen=True, slots=True)
class SamplingSettings:
    """How many full frames, and which.

    Attributes:
        bytes_per_day: In any 24 hours, over both sides; 0 takes none.
        holdout_share: Of the blocks of time, 0..1.
        holdout_bytes: Share of the budget that is for frames that judge, 0..1.
        block_s: Length of a block.
        guard_s: At both ends of a held-out block in which no frame is taken.
        choose_s: Out of so long a time at most one frame is taken.
        purse_part: A purse holds at most this part of its day's budget, 0..1: what is left of quiet hours.
        half_life_s: How fast what was sampled is forgotten.
    """

    bytes_per_day: int = 20_000_000
    holdout_share: float = 0.1
    holdout_bytes: float = 0.5
    block_s: float = BLOCK_S
    guard_s: float = 60.0
    choose_s: float = 30.0
    purse_part: float = 0.25
    half_life_s: float = 7 * _DAY_S

    def __post_init__(self) -> None:
        for name in ("holdout_share", "holdout_bytes", "purse_part"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{name} is {getattr(self, name)}: give 0 to 1")
        if self.bytes_per_day < 0 or self.choose_s < 0:
            raise UsageError("bytes_per_day and choose_s: give 0 or more")
        if not 0 <= 2 * self.guard_s < self.block_s:
            raise UsageError(f"guard_s of {self.guard_s} leaves nothing of a block of {self.block_s} s")


class _Purse(msgspec.Struct):
    """Bytes that may be spent; they come in evenly, so that no 24 hours see more than the budget."""

    budget_bytes: float
    part: float
    held_bytes: float

    @classmethod
    def full(cls, budget_bytes: float, part: float) -> _Purse:
        return cls(budget_bytes, part, part * budget_bytes)

    @property
    def capacity_bytes(self) -> float:
        return self.part * self.budget_bytes

    @property
    def fullness(self) -> float:
        return self.held_bytes / self.capacity_bytes if self.capacity_bytes else 0.0

    def advance(self, passed_s: float) -> None:
        earned = passed_s * (1 - self.part) * self.budget_bytes / _DAY_S
        self.held_bytes = min(self.capacity_bytes, self.held_bytes + earned)


class _State(msgspec.Struct):
    """What outlives a restart."""

    version: int
    timeline: Timeline
    train: _Purse
    judge: _Purse
    sampled: dict[str, tuple[float, float]]
    frame_bytes: float


@dataclass(frozen=True, slots=True, eq=False)
class _Candidate:
    image: AnonymisedImage
    captured: Moment
    scene: str
    rank: tuple[float, float]
    until_s: float
    holdout: bool


class FrameSampler:
    """Chooses full frames of one camera; not for several threads.

    Args:
        origin: Where the frames come from; size and anonymiser are those of each frame.
        settings: How many, and which.
        folder: The agent's; what was spent is kept there over restarts. None keeps nothing.

    Attributes:
        frames_taken: Since the start, those that judge included.
        frames_held_out: Those that judge.
    """

    def __init__(
        self, origin: Origin, settings: SamplingSettings | None = None, folder: str | Path | None = None
    ) -> None:
        self._origin = origin
        self._settings = settings or SamplingSettings()
        path = Path(folder) / FILE_NAME.format(camera=origin.camera) if folder is not None else None
        self._file = StateFile(path, _State, _is_sound, "the budget of frames begins")
        self._state = self._file.read() or self._fresh()
        self._refit(self._state)
        self._candidate: _Candidate | None = None
        self._is_told = False
        self.frames_taken = 0
        self.frames_held_out = 0

    def offer(self, image: AnonymisedImage, captured: Moment, interesting: float) -> SealedEnvelope | None:
        """Considers one frame; returns one to spool when its time has come, which may be an earlier one.

        Args:
            image: The whole frame, anonymised.
            captured: When it was.
            interesting: How much goes on in it, 0 (nothing) to 1 (as much as there ever is): objects over ten, say.
                It tells scenes apart, and of frames that are as rare the most interesting goes.

        Raises:
            PrivacyError: It cannot be encoded.
        """
        if self._settings.bytes_per_day == 0:
            return None
        passed_s = self._state.timeline.advance(captured)
        self._state.train.advance(passed_s)
        self._state.judge.advance(passed_s)
        sealed = self._ripe(captured)
        self._consider(image, captured, min(1.0, max(0.0, interesting)))
        return sealed

    def configure(self, settings: SamplingSettings) -> None:
        """Goes by other settings from now on; what was spent is spent. Call it in the thread that offers."""
        self._settings = settings
        self._is_told = False
        self._refit(self._state)

    def close(self) -> None:
        """Writes what was spent; a frame that was still being considered is let go."""
        self._candidate = None
        self._file.write(self._state)

    # -- which --------------------------------------------------------------------------------------------

    def _consider(self, image: AnonymisedImage, captured: Moment, interesting: float) -> None:
        options, now_s = self._settings, self._state.timeline.now_s
        holdout = is_holdout(self._origin.camera, captured, options.holdout_share, options.block_s)
        purse = self._purse(holdout)
        height, width = image.bgr.shape[:2]
        if holdout and self._is_at_an_end(captured):
            return
        if purse.held_bytes < self._expected_bytes(width * height):
            self._tell_if_hopeless(purse, width * height)
            return
        scene = _scene(image, captured, interesting)
        rank = (self._rarity(scene), interesting)
        best = self._candidate
        if best is None:
            self._candidate = _Candidate(image, captured, scene, rank, now_s + options.choose_s, holdout)
        elif best.holdout == holdout and rank > best.rank:
            self._candidate = _Candidate(image, captured, scene, rank, best.until_s, holdout)

    def _ripe(self, captured: Moment) -> SealedEnvelope | None:
        """The candidate, if its time has come and it is rare enough for what is in its purse."""
        best = self._candidate
        if best is None or (self._state.timeline.now_s < best.until_s and best.captured.boot_id == captured.boot_id):
            return None
        self._candidate = None
        purse = self._purse(best.holdout)
        if best.rank[0] < 1.0 - purse.fullness:
            return None
        height, width = best.image.bgr.shape[:2]
        origin = msgspec.structs.replace(self._origin, frame_wh=(width, height))
        sealed = seal(FrameHeader(origin=origin, captured=best.captured, holdout=best.holdout), best.image)
        self._state.frame_bytes = len(sealed.data) / (width * height)
        if len(sealed.data) > purse.held_bytes:
            return None
        self._spend(purse, best, len(sealed.data))
        return sealed

    def _spend(self, purse: _Purse, taken: _Candidate, size_bytes: int) -> None:
        purse.held_bytes -= size_bytes
        now_s = self._state.timeline.now_s
        self._state.sampled[taken.scene] = (self._count(taken.scene) + 1.0, now_s)
        self.frames_taken += 1
        self.frames_held_out += taken.holdout
        # At once: frames are few, and what a loss of power forgets would be spent again.
        self._file.write(self._state)

    def _rarity(self, scene: str) -> float:
        """1 for a scene that was never sampled, 1/2 for one that had its even part, towards 0 for a common one."""
        counts = [self._count(known) for known in self._state.sampled]
        total = sum(counts)
        return 1.0 / (1.0 + self._count(scene) * len(counts) / total) if total > 0 else 1.0

    def _count(self, scene: str) -> float:
        count, at_s = self._state.sampled.get(scene, (0.0, 0.0))
        age_s = max(0.0, self._state.timeline.now_s - at_s)
        return count * float(0.5 ** (age_s / self._settings.half_life_s))

    def _purse(self, holdout: bool) -> _Purse:
        return self._state.judge if holdout else self._state.train

    def _expected_bytes(self, pixels: int) -> float:
        return self._state.frame_bytes * pixels

    def _is_at_an_end(self, captured: Moment) -> bool:
        """Whether a moment is so near to an end of its block that the next one shows the same objects."""
        options = self._settings
        into_s = captured.monotonic_ns / 1e9 - _block(captured, options.block_s) * options.block_s
        return not options.guard_s <= into_s < options.block_s - options.guard_s

    def _tell_if_hopeless(self, purse: _Purse, pixels: int) -> None:
        if self._is_told or self._expected_bytes(pixels) <= purse.capacity_bytes or purse.budget_bytes == 0:
            return
        self._is_told = True
        LOG.warning(
            "a full frame of %s takes about %.1f MB and its purse holds %.1f MB: none is sampled; give frames a "
            "larger budget a day",
            self._origin.camera,
            self._expected_bytes(pixels) / 1e6,
            purse.capacity_bytes / 1e6,
        )

    # -- what outlives a restart --------------------------------------------------------------------------

    def _purses(self) -> tuple[_Purse, _Purse]:
        options = self._settings
        judging = options.bytes_per_day * (options.holdout_bytes if options.holdout_share > 0 else 0.0)
        training = options.bytes_per_day - judging if options.holdout_share < 1 else 0.0
        return _Purse.full(training, options.purse_part), _Purse.full(judging, options.purse_part)

    def _fresh(self) -> _State:
        train, judge = self._purses()
        return _State(_VERSION, Timeline(), train, judge, {}, _BYTES_A_PIXEL)

    def _refit(self, state: _State) -> None:
        """Gives the purses the sizes of the settings, with what they hold."""
        train, judge = self._purses()
        train.held_bytes = min(train.held_bytes, max(0.0, state.train.held_bytes))
        judge.held_bytes = min(judge.held_bytes, max(0.0, state.judge.held_bytes))
        state.train, state.judge = train, judge


def _is_sound(state: _State) -> bool:
    counts = all(count >= 0 for count, _ in state.sampled.values())
    return state.version == _VERSION and counts and state.frame_bytes > 0


def _block(captured: Moment, block_s: float) -> int:
    return int(captured.monotonic_ns // round(block_s * 1e9))


def _scene(image: AnonymisedImage, captured: Moment, interesting: float) -> str:
    """What tells frames apart: time of day, light, and how much goes on."""
    hour = "?"
    if captured.clock is Clock.SYNCHRONISED:
        hour = str(captured.utc_us // 3_600_000_000 % 24 // _HOURS_A_BIN)
    grey = float(image.bgr[::_LUMA_STEP, ::_LUMA_STEP].mean(dtype=np.float64))
    return f"h{hour}/l{sum(grey > level for level in _LEVELS)}/b{sum(interesting >= busy for busy in _BUSY)}"
