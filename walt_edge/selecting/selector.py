"""What of the sealed crops may use the line home: the novel and the good, within budgets of bytes.

It stands between the watcher and the spool. The watcher chooses the best views of one object; the selector weighs
objects against each other, over hours and days. A crop's value is its worth (`walt_edge.watching.views`) x its
novelty (`walt_edge.selecting.novelty`). While all fits, all that is novel is taken; when a budget gets tight, its
price rises (`walt_edge.selecting.budgets`), so that the best get in rather than the first. The same envelopes in the
same order give the same answers.
"""

from __future__ import annotations

import enum
import threading
from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from walt_edge.contract.closing import Closing
from walt_edge.contract.errors import UsageError
from walt_edge.contract.messages import CropHeader
from walt_edge.contract.topics import Kind
from walt_edge.privacy.anonymiser import PrivacyError, SealedEnvelope
from walt_edge.selecting.budgets import Values, Window, is_sound
from walt_edge.selecting.novelty import Likeness, Novelty
from walt_edge.selecting.state_file import StateFile
from walt_edge.selecting.timeline import Timeline
from walt_edge.watching.views import worth_of_header

FILE_NAME = "selector.json"
_VERSION: Final = 1
_HOUR_S = 3600.0
_DAY_S = 86_400.0
_TRACKS_KEPT = 1024


class Refusal(enum.StrEnum):
    """Why a crop was not taken."""

    NOT_NOVEL = "not-novel"
    TOO_SOON = "too-soon"
    TRACK = "budget-track"
    SPLIT = "holdout-split"
    HOUR = "budget-hour"
    DAY = "budget-day"
    OUTBID = "outbid"


@dataclass(frozen=True, slots=True)
class SelectorSettings:
    """Budgets and what counts as new.

    Attributes:
        bytes_per_track: Crops of one object.
        track_gap_s: Crops of one object are at least this far apart in the stream's own time.
        bytes_per_hour: Crops of one hour that the device watches.
        bytes_per_day: Crops and plates of one day; the default is 12 GB a month at most. Plates always pass.
        novelty_min: Below this a crop is refused even where there is room, 0..1.
        alike: So many alike taken lately halve the novelty.
        half_life_s: How fast what was taken is forgotten.
        values_half_life_s: How fast what was offered is forgotten, by which the price goes.
        save_s: Between two writings of the state.
    """

    bytes_per_track: int = 400_000
    track_gap_s: float = 0.5
    bytes_per_hour: int = 40_000_000
    bytes_per_day: int = 400_000_000
    novelty_min: float = 0.02
    alike: float = 8.0
    half_life_s: float = 2 * _DAY_S
    values_half_life_s: float = 2 * _HOUR_S
    save_s: float = 30.0

    def __post_init__(self) -> None:
        for name in ("bytes_per_track", "bytes_per_hour", "bytes_per_day", "track_gap_s", "save_s"):
            if getattr(self, name) < 0:
                raise UsageError(f"{name} is {getattr(self, name)}: give 0 or more")
        for name in ("alike", "half_life_s", "values_half_life_s"):
            if not getattr(self, name) > 0:
                raise UsageError(f"{name} is {getattr(self, name)}: give more than 0")
        if not 0 <= self.novelty_min <= 1:
            raise UsageError(f"novelty_min is {self.novelty_min}: give 0 to 1")


@dataclass(frozen=True, slots=True)
class Admission:
    """What became of one envelope.

    Attributes:
        refusal: Why it was not taken, or None if it was.
        value: Worth x novelty; 0 for what is no crop.
        price: What it had to exceed; 0 while all fits.
    """

    refusal: Refusal | None = None
    value: float = 0.0
    price: float = 0.0

    @property
    def taken(self) -> bool:
        """Whether it is for the spool."""
        return self.refusal is None


class _State(msgspec.Struct):
    """What outlives a restart."""

    version: int
    timeline: Timeline
    hour: Window
    day: Window
    values: Values
    cells: dict[str, tuple[float, float]]


@dataclass(slots=True)
class _Account:
    """What one track has had: bytes, at which media times, and on which side, holdout or not."""

    size_bytes: int = 0
    times_s: list[float] = field(default_factory=list)
    holdout: bool | None = None


class Selector(Closing):
    """Admits sealed envelopes to the spool, for all cameras of a device; safe to use from several threads.

    Args:
        settings: Budgets and what counts as new.
        folder: The agent's; where the state is kept over restarts. None keeps nothing.

    Attributes:
        rejected_by_reason: Crops that were refused since the start, keyed by `Refusal` values.
        crops_taken: Crops that were not.
    """

    def __init__(self, settings: SelectorSettings | None = None, folder: str | Path | None = None) -> None:
        self._settings = settings or SelectorSettings()
        path = Path(folder) / FILE_NAME if folder is not None else None
        self._file = StateFile(path, _State, _is_sound, "budgets and novelty begin")
        self._lock = threading.Lock()
        self._tracks: OrderedDict[tuple[str, str, int], _Account] = OrderedDict()
        self.rejected_by_reason: Counter[str] = Counter()
        self.crops_taken = 0
        state = self._file.read() or self._fresh()
        self._timeline, self._values = state.timeline, state.values
        self._hour, self._day = state.hour, state.day
        self._apply(state.cells)
        self._saved_s = self._timeline.now_s
        self._is_changed = False

    def configure(self, settings: SelectorSettings) -> None:
        """Goes by other settings from now on; what was spent and taken counts on."""
        with self._lock:
            self._settings = settings
            self._apply(self._novelty.kept(self._timeline.now_s))

    def admit(self, sealed: SealedEnvelope) -> Admission:
        """Decides on one envelope, and counts it if it is taken.

        Raises:
            PrivacyError: Not made by `privacy.seal`.
        """
        if not isinstance(sealed, SealedEnvelope):
            raise PrivacyError(f"the selector takes a SealedEnvelope, not a {type(sealed).__name__}")
        with self._lock:
            self._advance(sealed)
            admission = self._decide(sealed)
            self._save_if_due()
        return admission

    @property
    def price(self) -> float:
        """What a crop's value has to exceed at present; 0 while all fits."""
        with self._lock:
            return self._price()

    @property
    def spent_bytes(self) -> tuple[int, int]:
        """Of the present hour's budget, and of the present day's."""
        with self._lock:
            return self._hour.spent_bytes, self._day.spent_bytes

    @property
    def budget_bytes(self) -> tuple[int, int]:
        """What an hour may use, and what a day may."""
        with self._lock:
            return self._hour.budget_bytes, self._day.budget_bytes

    def close(self) -> None:
        """Writes the state."""
        with self._lock:
            self._save()

    def _advance(self, sealed: SealedEnvelope) -> None:
        passed_s = self._timeline.advance(sealed.envelope.header.captured)
        for clock in (self._hour, self._day, self._values):
            clock.advance(passed_s)

    def _decide(self, sealed: SealedEnvelope) -> Admission:
        header, size_bytes = sealed.envelope.header, len(sealed.data)
        if not isinstance(header, CropHeader):
            # Every crop refers to a plate; sampled frames have a budget of their own.
            if sealed.kind is Kind.PLATE:
                self._day.spent_bytes += size_bytes
                self._is_changed = True
            return Admission()
        likeness = Likeness.of(header)
        novelty = self._novelty(likeness, self._timeline.now_s)
        value = worth_of_header(header) * novelty
        account = self._account(header)
        refusal = self._settled_refusal(header, account, novelty, size_bytes)
        price = 0.0
        if refusal is None:
            price = self._price()
            refusal = self._refusal(value, price, size_bytes)
            self._note_offer(value, size_bytes)
        if refusal is not None:
            self.rejected_by_reason[refusal.value] += 1
            return Admission(refusal, value, price)
        account.holdout = header.holdout
        account.times_s.append(header.captured.media_time_s)
        self._take(likeness, account, size_bytes)
        return Admission(None, value, price)

    def _settled_refusal(
        self, header: CropHeader, account: _Account, novelty: float, size_bytes: int
    ) -> Refusal | None:
        """What no price would change."""
        if account.holdout not in (None, header.holdout):
            return Refusal.SPLIT  # one object must not train and judge
        if account.size_bytes + size_bytes > self._settings.bytes_per_track:
            return Refusal.TRACK
        time_s, gap_s = header.captured.media_time_s, self._settings.track_gap_s
        if any(abs(time_s - taken_s) < gap_s for taken_s in account.times_s):
            return Refusal.TOO_SOON
        return Refusal.NOT_NOVEL if novelty < self._settings.novelty_min else None

    def _refusal(self, value: float, price: float, size_bytes: int) -> Refusal | None:
        if size_bytes > self._hour.room_bytes:
            return Refusal.HOUR
        if size_bytes > self._day.room_bytes:
            return Refusal.DAY
        return Refusal.OUTBID if value < price else None

    def _note_offer(self, value: float, size_bytes: int) -> None:
        self._values.add(value, size_bytes)
        self._hour.offered_bytes += size_bytes
        self._day.offered_bytes += size_bytes
        self._is_changed = True

    def _take(self, likeness: Likeness, account: _Account, size_bytes: int) -> None:
        self._novelty.add(likeness, self._timeline.now_s)
        self._hour.spent_bytes += size_bytes
        self._day.spent_bytes += size_bytes
        account.size_bytes += size_bytes
        self.crops_taken += 1

    def _price(self) -> float:
        return self._values.price(min(self._hour.share, self._day.share))

    def _account(self, header: CropHeader) -> _Account:
        """The track's; the longest unused are forgotten."""
        key = (header.origin.camera, header.captured.boot_id, header.track_id)
        account = self._tracks.setdefault(key, _Account())
        self._tracks.move_to_end(key)
        if len(self._tracks) > _TRACKS_KEPT:
            self._tracks.popitem(last=False)
        return account

    # -- what outlives a restart --------------------------------------------------------------------------

    def _apply(self, cells: dict[str, tuple[float, float]]) -> None:
        options = self._settings
        self._hour.span_s, self._hour.budget_bytes = _HOUR_S, options.bytes_per_hour
        self._day.span_s, self._day.budget_bytes = _DAY_S, options.bytes_per_day
        self._values.half_life_s = options.values_half_life_s
        self._novelty = Novelty(options.half_life_s, options.alike, cells)

    def _fresh(self) -> _State:
        options = self._settings
        return _State(
            version=_VERSION,
            timeline=Timeline(),
            hour=Window(_HOUR_S, options.bytes_per_hour),
            day=Window(_DAY_S, options.bytes_per_day),
            values=Values(options.values_half_life_s),
            cells={},
        )

    def _save_if_due(self) -> None:
        if self._timeline.now_s - self._saved_s >= self._settings.save_s:
            self._save()

    def _save(self) -> None:
        """Writes the state; a disk that does not take it costs no crop."""
        self._saved_s = self._timeline.now_s
        if self._is_changed:
            cells = self._novelty.kept(self._timeline.now_s)
            state = _State(_VERSION, self._timeline, self._hour, self._day, self._values, cells)
            self._is_changed = not self._file.write(state)


def _is_sound(state: _State) -> bool:
    """Whether the numbers are such as this class writes: a file may be valid JSON and yet damaged."""
    if state.version != _VERSION or any(count < 0 for count, _ in state.cells.values()):
        return False
    return is_sound(state.hour) and is_sound(state.day) and state.values.is_sound
