"""Which device decodes a camera's pictures: looked for once, and given up for software at its first failure."""

from __future__ import annotations

import os

import av
from av.codec.hwaccel import HWAccel, hwdevices_available

from walt_edge.capture.wire import SOFTWARE

_PROBED_BY = "h264"  # what every device that decodes video can decode


class Hardware:
    """The device that decodes, or software.

    Args:
        wish: `off`; `auto` for the first device that works; or one by FFmpeg's name of it, as `cuda` or `vaapi`,
            with its number or path where there are several: `cuda:1`, `vaapi:/dev/dri/renderD129`.

    Attributes:
        device: The device's name, or `software`.
        notice: Why the wish was not met; empty if it was.
    """

    def __init__(self, wish: str) -> None:
        self.device = SOFTWARE
        self.notice = ""
        self._accel: HWAccel | None = None
        if wish != "off":
            self._probe(wish)

    def accel(self) -> HWAccel | None:
        """What to open the next connection with; None for software."""
        return self._accel

    def recheck(self) -> None:
        """Gives the device up if it cannot be opened any more."""
        if self._accel is not None and _opened(self.device)[1] is None:
            self.failed("cannot be opened any more")

    def failed(self, why: str) -> None:
        """The device could not decode what came: software from now on. Harmless where it is software already."""
        if self._accel is not None:
            self.notice = f"decoding in software from now on: {self.device} {why}"
            self.device, self._accel = SOFTWARE, None

    def _probe(self, wish: str) -> None:
        causes = []
        for candidate in hwdevices_available() if wish == "auto" else [wish]:
            cause, accel = _opened(candidate)
            if accel is not None:
                self.device, self._accel = candidate, accel
                return
            causes.append(f"{candidate} {cause}")
        self.notice = f"decoding in software: {'; '.join(causes) or 'this FFmpeg knows no device'}"


def _opened(candidate: str) -> tuple[str, HWAccel | None]:
    """The device, or why it cannot be had."""
    name, _, number = candidate.partition(":")
    if name not in hwdevices_available():  # an unknown name would stand for whichever device comes first
        return f"is not among this FFmpeg's devices ({', '.join(hwdevices_available()) or 'none'})", None
    try:
        accel = HWAccel(name, number or None, allow_software_fallback=True)
        if av.CodecContext.create(_PROBED_BY, "r", hwaccel=accel).is_hwaccel:
            return "", accel
    except (av.FFmpegError, OSError, ValueError, RuntimeError) as error:
        return f"cannot be opened ({os.strerror(abs(getattr(error, 'errno', None) or 0))})", None
    return "does not decode video here", None
