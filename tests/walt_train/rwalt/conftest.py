from __future__ import annotations

from collections.abc import Iterator

import pytest

from walt_train.rwalt.gl import RenderError
from walt_train.rwalt.renderer import Renderer
from walt_train.rwalt.street import Street, StreetConfig

SIZE = (320, 180)


@pytest.fixture(scope="session")
def busy() -> Iterator[Renderer]:
    yield from _renderer(StreetConfig(seed=3, frames=200, size_wh=SIZE, preset="busy", light="day"))


@pytest.fixture(scope="session")
def calm() -> Iterator[Renderer]:
    yield from _renderer(StreetConfig(seed=1, frames=200, size_wh=SIZE, light="dusk"))


def _renderer(config: StreetConfig) -> Iterator[Renderer]:
    try:
        renderer = Renderer(Street(config))
    except RenderError as error:
        pytest.skip(str(error))
    yield renderer
    renderer.close()
