"""The fake agent's page, served."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fakes.agent_view import FakeAgentView
from walt_edge.web.server import WebServer
from walt_edge.web.settings import WebSettings

TOKEN = "a-token-of-good-length"


@pytest.fixture(scope="module")
def view() -> Iterator[FakeAgentView]:
    """Two cameras that play."""
    with FakeAgentView(["gate", "yard"]) as view:
        yield view


@pytest.fixture(scope="module")
def local(view: FakeAgentView) -> Iterator[str]:
    """The address of the page as a device serves it by default."""
    with WebServer(view, WebSettings(port=0)) as server:
        yield server.url


@pytest.fixture
def guarded(view: FakeAgentView) -> Iterator[str]:
    """The address, by loopback, of the page as it is served to a network, with a token; it forgets no guesses."""
    with WebServer(view, WebSettings(host="0.0.0.0", port=0, token=TOKEN)) as server:
        yield server.url.replace("0.0.0.0", "127.0.0.1")
