"""What every page works on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import Request
from sqlalchemy import Engine

from walt_train.loop.serve.jobs import Jobs, now_us, worker_name
from walt_train.loop.store.store import Store
from walt_train.loop.web.access.access import Access
from walt_train.loop.web.access.first import FirstAdmin
from walt_train.loop.web.access.passwords import Passwords
from walt_train.loop.web.settings import WebSettings

if TYPE_CHECKING:
    from walt_train.loop.rollout.rollouts import Rollouts


@dataclass(frozen=True, slots=True)
class Site:
    """What every page works on; `Site.of` makes one.

    Attributes:
        store: Envelopes and the database.
        home: Generations, repository and keys; None = the pages show what the store knows.
        jobs: The table of generations.
        rollouts: The table of rollouts; None = this home has none.
        access: People, sessions, tokens and the record.
        first: Lets the first admin in.
        settings: Where it is served.
        clock: Microseconds UTC.
    """

    store: Store
    home: Path | None
    jobs: Jobs
    rollouts: Rollouts | None
    access: Access
    first: FirstAdmin
    settings: WebSettings
    clock: Callable[[], int]

    @classmethod
    def of(
        cls,
        store: Store,
        *,
        home: Path | None = None,
        rollouts: Rollouts | None = None,
        settings: WebSettings | None = None,
        clock: Callable[[], int] = now_us,
        passwords: Passwords | None = None,
    ) -> Site:
        """A site on a store; see the attributes."""
        access = Access.on(store.engine, clock, passwords)
        return cls(
            store=store,
            home=home,
            jobs=Jobs(store.engine, owner=worker_name(), clock=clock),
            rollouts=rollouts,
            access=access,
            first=FirstAdmin(access.people),
            settings=settings or WebSettings(),
            clock=clock,
        )

    @property
    def engine(self) -> Engine:
        """The store's database."""
        return self.store.engine


def site_of(request: Request) -> Site:
    """The site that a request came to."""
    found: Site = request.scope["state"]["site"]
    return found
