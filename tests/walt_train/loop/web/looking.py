"""A real browser in which somebody of a role is signed in: keys, mouse, and what it complains of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.chromium import Browser, chromium
from tests.walt_train.loop.web.client import signed_in
from walt_train.loop.web.access.cookies import SESSION
from walt_train.loop.web.access.person import Role
from walt_train.loop.web.app import make_app
from walt_train.loop.web.server import WebServer
from walt_train.loop.web.site import Site

_CODES = {"ArrowRight": 39, "ArrowDown": 40, "Enter": 13, " ": 32, "Escape": 27}


@dataclass(eq=False)
class Looking:
    """A browser on a site.

    Attributes:
        browser: It.
        url: Where the site is, with a slash at its end.
    """

    browser: Browser
    url: str

    def open(self, path: str, width: int = 1280, height: int = 900) -> None:
        """Opens a page, and waits for it and its pictures."""
        self.browser.size(width, height)
        self.browser.open(f"{self.url}{path}")
        self.browser.wait(f"location.href === {f'{self.url}{path}'!r} && document.readyState === 'complete'")

    def key(self, key: str, modifiers: int = 0) -> None:
        """Presses a key as a person does; `modifiers` 2 is Ctrl, 8 is Shift."""
        told = {"key": key, "modifiers": modifiers, "windowsVirtualKeyCode": _CODES.get(key, ord(key[0].upper()))}
        words = {"text": key} if len(key) == 1 and not modifiers & 2 else {}
        self.browser._call("Input.dispatchKeyEvent", type="keyDown" if words else "rawKeyDown", **told, **words)
        self.browser._call("Input.dispatchKeyEvent", type="keyUp", **told)

    def mouse(self, kind: str, x: float, y: float) -> None:
        """One event of the mouse, in pixels of the window."""
        button = {"button": "left", "clickCount": 1} if kind != "mouseMoved" else {}
        self.browser._call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **button)

    def click(self, x: float, y: float) -> None:
        """A click."""
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.mouse(kind, x, y)

    def press(self, selector: str) -> None:
        """Presses a button of the page."""
        self.browser.value(f"document.querySelector({selector!r}).click()")

    @property
    def is_wide(self) -> bool:
        """Whether the page is wider than the window."""
        return bool(self.browser.value("document.documentElement.scrollWidth > innerWidth"))

    def must_be_content(self) -> None:
        """Nothing was complained of, and nothing asked for elsewhere."""
        assert self.browser.complaints == []
        strangers = [one for one in self.browser.requests if not one.startswith((self.url, "data:", "about:"))]
        assert strangers == []


@contextmanager
def looking(site: Site, role: Role, folder: Path, name: str = "") -> Iterator[Looking]:
    """A server with the site, and a browser with somebody signed in."""
    app = make_app(site)
    client = signed_in(site, role, name, app)
    with WebServer(app, site.settings) as server, chromium(folder / "profile") as browser:
        browser._call("Network.setCookie", name=SESSION, value=client.cookies[SESSION], url=server.url)
        yield Looking(browser, server.url)
