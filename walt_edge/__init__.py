"""The SDK and the agent beside a camera. No torch, no mm*, ever.

Each part works alone: `from walt_edge import Detector` is all that a program needs which wants to look at pictures
with a model. `docs/guides/sdk.md` shows every part in five lines, and all of them together.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from walt_edge.detector import Detector
    from walt_edge.sdk import Anonymizer, seal_crops, seal_frame
    from walt_edge.selecting.selector import Selector
    from walt_edge.spool.spool import Spool
    from walt_edge.tracking.tracker import AmodalTracker as Tracker
    from walt_edge.uplink.uplink import Uplink

__all__ = ["Anonymizer", "Detector", "Selector", "Spool", "Tracker", "Uplink", "seal_crops", "seal_frame"]

_HOMES: Final = {
    "Anonymizer": ("walt_edge.sdk", "Anonymizer"),
    "Detector": ("walt_edge.detector", "Detector"),
    "Selector": ("walt_edge.selecting.selector", "Selector"),
    "Spool": ("walt_edge.spool.spool", "Spool"),
    "Tracker": ("walt_edge.tracking.tracker", "AmodalTracker"),
    "Uplink": ("walt_edge.uplink.uplink", "Uplink"),
    "seal_crops": ("walt_edge.sdk", "seal_crops"),
    "seal_frame": ("walt_edge.sdk", "seal_frame"),
}


def __getattr__(name: str) -> Any:
    # Imported when asked for: a console script must answer `--help` without numpy and OpenCV.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, own_name = _HOMES[name]
    return getattr(import_module(module), own_name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
