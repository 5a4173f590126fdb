"""A home that is filled with a small fleet, for tests of what shows it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.fleet_filling import fill
from benchmarks.fleet_sizes import Size
from tests.walt_train.loop.web.client import Client, Clock, signed_in, site_on
from walt_train.loop.rollout.rollouts import Rollouts
from walt_train.loop.store.store import Store
from walt_train.loop.web.access.person import Person, Role
from walt_train.loop.web.app import make_app
from walt_train.loop.web.server import WebServer
from walt_train.loop.web.settings import WebSettings
from walt_train.loop.web.site import Site

SMALL = Size(devices=120, crops=2_000, pictured=3, envelopes=12, watched=2, generations=60, rollouts=9)


def fill_site(store: Store, home: Path, size: Size = SMALL) -> Site:
    """Fills a store and a home folder, and gives a site on them whose clock stands still."""
    clock = Clock()
    fill(store, home, size, clock())
    settings = WebSettings(port=0, rate_per_s=1e6, burst=1_000_000)
    return site_on(store, home=home, clock=clock, settings=settings, rollouts=Rollouts(store.engine, clock))


@dataclass(frozen=True)
class Served:
    """A site that is served over loopback, and tokens for each role."""

    site: Site
    url: str
    tokens: dict[str, str]


@contextmanager
def served(site: Site) -> Iterator[Served]:
    """Serves it with the real server."""
    tokens = {}
    for role, scope in ((Role.VIEWER, "read"), (Role.OPERATOR, "operate"), (Role.ADMIN, "admin")):
        clients_of(site, role)
        tokens[role.word] = site.access.tokens.make(Person(f"some-{role.word}", role), "a test", scope, 30)
    with WebServer(make_app(site), site.settings) as server:
        yield Served(site, server.url, tokens)


def clients_of(site: Site, role: Role = Role.VIEWER) -> Client:
    """Somebody of that role, signed in."""
    return signed_in(site, role)
