"""One camera's pipeline as the agent wires it, from whatever parts a test has."""

from __future__ import annotations

from tests.fakes.edge import RememberingSender
from walt_edge.agent.eyes import Eyes
from walt_edge.agent.outlet import Outlet, Sender, Store
from walt_edge.agent.pipeline import Pipeline, PipelineSettings
from walt_edge.agent.showing import Showing
from walt_edge.agent.sight import Sights
from walt_edge.agent.telemetry import Meter
from walt_edge.camera import Camera
from walt_edge.update.holder import ModelHolder


def make_pipeline(
    camera: Camera,
    eyes: Eyes,
    spool: Store,
    sender: Sender | None = None,
    showing: Showing | None = None,
    models: ModelHolder | None = None,
    **settings: float,
) -> Pipeline:
    """A pipeline; `settings` are those of `PipelineSettings`."""
    meter, models = Meter("boot-1", "cam-1"), models or ModelHolder()
    return Pipeline(
        camera,
        eyes,
        Outlet(spool, sender or RememberingSender(), meter),
        meter,
        models,
        Sights(models, meter),
        showing=showing or Showing(),
        settings=PipelineSettings(**settings),  # type: ignore[arg-type]
    )
