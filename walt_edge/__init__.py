"""The SDK and the agent beside a camera. No torch, no mm*, ever.

`from walt_edge import Detector` is all that a program needs which wants to look at pictures with a model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from walt_edge.detector import Detector as Detector

__all__ = ["Detector"]


def __getattr__(name: str) -> Any:
    # Imported when asked for: a console script must answer `--help` without numpy and OpenCV.
    if name == "Detector":
        from walt_edge.detector import Detector

        return Detector
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
