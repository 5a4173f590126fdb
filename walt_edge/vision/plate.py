"""The plate: the camera's background with nothing movable in it.

Two parts. `PlateLearner` keeps a bounded set of frames spread over the time watched so far and takes their masked
median. `Plate` is the working model: it follows the light where nothing moves, knows each pixel's noise from the
quarter-quantile of |difference| (which a busy lane does not inflate as it does a deviation), and knows which
pixels it has never seen at rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.masks import Mask, PatchMask
from walt_edge.vision.settings import WatchSettings

Image = NDArray[np.uint8]
"""(H, W, 3) uint8, BGR."""

_QUARTER = 0.25
_STRIP_ROWS = 32
_PIXELS_AT_ONCE = 2048


class SampleBuffer:
    """Frames spread evenly over all the time watched, in bounded memory.

    When full, every other frame is dropped and the spacing doubles: at any time between half and all of the
    places are filled, and the oldest and newest moments are both represented. What comes later is written over what
    was dropped: freed at once and taken again over half an hour, so much memory would look like a leak.

    Attributes:
        frames: In the order of time; copy what shall last beyond the next `offer`.
        masks: Of each, what to leave out; likewise.
    """

    def __init__(self, spacing_s: float, capacity: int) -> None:
        self.frames: list[Image] = []
        self.masks: list[Mask | None] = []
        self._dropped: list[tuple[Image, Mask | None]] = []
        self._spacing_s = spacing_s
        self._capacity = max(4, capacity)
        self._next_s = -np.inf

    def offer(self, frame: Image, time_s: float, busy: Callable[[], Mask] | None = None) -> bool:
        """Keeps a copy of the frame, and of its mask `busy()`, if its moment has come; says whether it did."""
        if time_s < self._next_s:
            return False
        if len(self.frames) >= self._capacity:
            self._dropped += zip(self.frames[1::2], self.masks[1::2], strict=True)
            del self.frames[1::2]
            del self.masks[1::2]
            self._spacing_s *= 2
        self.add(frame, None if busy is None else busy())
        self._next_s = time_s + self._spacing_s * 0.999
        return True

    def add(self, frame: Image, mask: Mask | None) -> None:
        """Keeps a copy of a frame and its mask whatever its time; the caller knows that there is room."""
        kept, hidden = self._dropped.pop() if self._dropped else (np.empty(frame.shape, np.uint8), None)
        kept[:] = frame
        if mask is not None:
            hidden = np.empty(mask.shape, bool) if hidden is None else hidden
            hidden[:] = mask
        self.frames.append(kept)
        self.masks.append(None if mask is None else hidden)

    def __len__(self) -> int:
        return len(self.frames)


def masked_median(frames: Sequence[Image], masks: Sequence[Mask | None]) -> tuple[Image, NDArray[np.uint8], Mask]:
    """Median of frames over the pixels not masked.

    Args:
        frames: N images (H, W, 3).
        masks: Per frame, pixels to leave out, or None.

    Returns:
        The median (H, W, 3); the quarter-quantile of the largest channel's |difference| from it (H, W), grey levels;
        and where at least a quarter of the frames were left in (elsewhere the plain median stands).
    """
    count, (height, width) = len(frames), frames[0].shape[:2]
    median = np.empty((height, width, 3), np.uint8)
    noise = np.empty((height, width), np.uint8)
    seen = np.ones((height, width), bool)
    quarter = max(0, round(_QUARTER * (count - 1)))
    for top in range(0, height, _STRIP_ROWS):
        rows = slice(top, top + _STRIP_ROWS)
        strip = np.stack([frame[rows] for frame in frames])
        median[rows] = np.partition(strip, count // 2, axis=0)[count // 2]
        if any(mask is not None for mask in masks):
            seen[rows] = _refine(strip, [None if m is None else m[rows] for m in masks], median[rows])
        far = np.abs(strip.astype(np.int16) - median[rows]).max(axis=3)
        noise[rows] = np.partition(far, quarter, axis=0)[quarter]
    return median, noise, seen


def _refine(strip: Image, masks: list[Mask | None], median: Image) -> Mask:
    """Replaces the median, in place, where a mask hides some frames; returns where enough were left."""
    shape = strip.shape[1:3]
    hidden = np.stack([np.zeros(shape, bool) if mask is None else mask for mask in masks])
    left = len(masks) - hidden.sum(axis=0)
    enough: Mask = left >= max(2, len(masks) // 4)
    ys, xs = np.nonzero(hidden.any(axis=0) & enough)
    if ys.size:
        values = strip[:, ys, xs]
        values[hidden[:, ys, xs]] = 255  # sorts to the end, behind the middle of what is left
        middle = (left[ys, xs] - 1) // 2
        ordered = np.sort(values, axis=0)
        median[ys, xs] = np.take_along_axis(ordered, middle[None, :, None], axis=0)[0]
    return enough


class Plate:
    """The working background of one camera at one position.

    Attributes:
        bgr: (H, W, 3) uint8, what the background looks like now.
        threshold: (H, W) uint8, the difference above which a pixel is something else.
        known: (H, W) bool, pixels whose background was seen at rest.
    """

    def __init__(self, median: Image, noise: NDArray[np.uint8], known: Mask, settings: WatchSettings) -> None:
        self._settings = settings
        self._mean = median.astype(np.float32)
        self._noise = noise.astype(np.float32)
        # Specks that flicker are no unknown background: an object is larger.
        busy = (noise > settings.busy_level) | ~known
        self.known: Mask = cv2.morphologyEx(busy.astype(np.uint8), cv2.MORPH_OPEN, np.ones((5, 5), np.uint8)) == 0
        self.refresh()

    @classmethod
    def learn(cls, buffer: SampleBuffer, settings: WatchSettings) -> Plate:
        """Takes the masked median of a buffer: first of all pixels, then without what stood out from it."""
        median, noise, known = masked_median(buffer.frames, buffer.masks)
        return cls(median, noise, known, settings)

    def refresh(self) -> None:
        """Recomputes what is derived from mean and noise."""
        settings = self._settings
        self.bgr: Image = cv2.convertScaleAbs(self._mean)
        grey = cv2.cvtColor(self.bgr, cv2.COLOR_BGR2GRAY)
        self.gradient = cv2.morphologyEx(grey, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
        level = settings.floor_level + settings.noise_gain * cv2.blur(self._noise, (3, 3))
        level += settings.gradient_gain * self.gradient
        self.threshold: NDArray[np.uint8] = cv2.convertScaleAbs(np.minimum(level, settings.ceiling_level))

    @property
    def typical_noise(self) -> float:
        """Median over the picture of the quarter-quantile of |difference|: the sensor's, grey levels."""
        return float(np.median(self._noise[::4, ::4]))

    def follow(self, frame: Image, difference: NDArray[np.uint8], occupied: Mask, elapsed_s: float) -> None:
        """Moves towards the frame where nothing stands, and learns the noise everywhere.

        Args:
            frame: (H, W, 3).
            difference: (H, W) largest channel's |frame - plate|.
            occupied: (H, W) pixels of silhouettes, with a rim: they are kept out.
            elapsed_s: Since the last call.
        """
        rate = 1.0 - float(np.exp(-elapsed_s / self._settings.drift_time_s))
        cv2.accumulateWeighted(frame, self._mean, rate, (~occupied).astype(np.uint8))
        # Stochastic quantile: up by 1/4 of a step when above, down by 3/4 when below, so that it rests where a
        # quarter of the differences lie below it. All pixels take part: a busy lane keeps its noise.
        step = 4.0 * rate
        below = cv2.compare(difference.astype(np.float32), self._noise, cv2.CMP_LT)
        self._noise += step * (_QUARTER - below * (1.0 / 255.0))
        np.clip(self._noise, 0.0, 30.0, out=self._noise)
        self.refresh()

    def adopt(self, frame: Image, patch: PatchMask) -> None:
        """Takes the frame's pixels under a mask as background: a healed ghost, or a vehicle that parked."""
        x0, y0, x1, y1 = patch.box_xyxy
        self._mean[y0:y1, x0:x1][patch.mask] = frame[y0:y1, x0:x1][patch.mask]
        self._noise[y0:y1, x0:x1][patch.mask] = np.minimum(self._noise[y0:y1, x0:x1][patch.mask], 2.0)
        self.known[y0:y1, x0:x1] |= patch.mask
        self.refresh()

    def relearn(self, buffer: SampleBuffer) -> int:
        """Tries pixels never seen at rest again, on a buffer that spans more time; returns how many were learned."""
        ys, xs = np.nonzero(~self.known)
        if ys.size == 0 or len(buffer) < self._settings.plate_samples_min:
            return 0
        # Piece by piece: of a picture that is all noise, as in snow, the whole would take 1.7 GB at 1920x1080.
        pieces = (slice(begin, begin + _PIXELS_AT_ONCE) for begin in range(0, ys.size, _PIXELS_AT_ONCE))
        learned = sum(self._relearn_at(buffer, ys[piece], xs[piece]) for piece in pieces)
        self.refresh()
        return learned

    def _relearn_at(self, buffer: SampleBuffer, ys: NDArray[np.intp], xs: NDArray[np.intp]) -> int:
        values = np.stack([frame[ys, xs] for frame in buffer.frames])
        median = np.median(values, axis=0)
        far = np.abs(values - median[None]).max(axis=2)
        noise = np.quantile(far, _QUARTER, axis=0)
        calm = noise <= self._settings.busy_level
        self._mean[ys, xs] = median
        self._noise[ys[calm], xs[calm]] = noise[calm]
        self.known[ys[calm], xs[calm]] = True
        return int(calm.sum())
