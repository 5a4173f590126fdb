"""The parts of a lane, as the configuration says: the same for the agent and for a replay."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Final

from walt_edge.agent.telemetry import Meter, Stage
from walt_edge.config import Device
from walt_edge.contract.messages import Origin
from walt_edge.privacy.anonymiser import Anonymiser
from walt_edge.privacy.faces import find_faces
from walt_edge.privacy.fills import Fill, Style
from walt_edge.selecting.sampling import FrameSampler, SamplingSettings
from walt_edge.selecting.selector import Selector, SelectorSettings
from walt_edge.settings.tree import AgentConfig, PrivacyConfig
from walt_edge.vision.settings import WatchSettings
from walt_edge.watching.watcher import MODEL, Watcher

_STYLES: Final = {"fill": Style.SOLID, "pixelate": Style.PIXELATE, "blur": Style.BLUR}
_KB: Final = 1000


def make_anonymiser(privacy: PrivacyConfig, meter: Meter | None = None) -> Anonymiser:
    """What every frame passes before anything of it is kept.

    Args:
        privacy: How faces and plates are hidden.
        meter: Told how long it takes.

    Raises:
        PrivacyError: The face detector's file is damaged.
    """
    folder = privacy.faces if isinstance(privacy.faces, Path) else None
    faces = None if privacy.faces == "off" else find_faces(folder)
    timed = nullcontext if meter is None else partial(meter.timed, Stage.ANONYMISE)
    return Anonymiser(faces, fill=Fill(_STYLES[privacy.style]), number_plates=privacy.number_plates, timed=timed)


def make_watcher(config: AgentConfig, device: Device, camera: str, anonymiser: Anonymiser) -> Watcher:
    """The eyes of one camera; its anonymiser is its own, since a face detector serves one thread.

    Raises:
        WaltError: A model file is missing or damaged.
    """
    detector = None
    if config.privacy.detector is not None:
        from walt_edge.runtimes.onnx_detector import OnnxDetector  # only where asked for: an extra

        detector = OnnxDetector(config.privacy.detector)
    return Watcher(
        site=device.site,
        device=device.device,
        camera=camera,
        anonymiser=anonymiser,
        detector=detector,
        settings=WatchSettings(
            views_per_track=config.selection.views_per_track, holdout_share=config.frames.holdout_share
        ),
        delay_s=config.privacy.delay_s,
    )


def make_selector(config: AgentConfig, folder: Path | None) -> Selector:
    """What says which crops may use the line; `folder` keeps its state, None keeps none."""
    return Selector(selector_settings(config), folder)


def selector_settings(config: AgentConfig) -> SelectorSettings:
    """Its budgets."""
    chosen = config.selection
    return SelectorSettings(
        bytes_per_track=chosen.track_kb * _KB,
        bytes_per_hour=chosen.hour_mb * _KB * _KB,
        bytes_per_day=chosen.day_mb * _KB * _KB,
    )


def make_sampler(
    config: AgentConfig, device: Device, camera: str, anonymiser: str, folder: Path | None
) -> FrameSampler:
    """What chooses full frames of one camera; `folder` keeps its state, None keeps none."""
    origin = Origin(
        site=device.site,
        device=device.device,
        camera=camera,
        model=MODEL,
        anonymiser=anonymiser,
        frame_wh=(0, 0),
    )
    return FrameSampler(origin, sampling_settings(config), folder)


def sampling_settings(config: AgentConfig) -> SamplingSettings:
    """How many full frames, and which of them judge."""
    chosen = config.frames
    return SamplingSettings(bytes_per_day=chosen.day_mb * _KB * _KB, holdout_share=chosen.holdout_share)
