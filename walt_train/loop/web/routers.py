"""The list of all pages."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter

from walt_train.loop.web.pages import account, audit, camera, fleet, login, people, rollouts, runs, setup

ROUTERS: Final[tuple[APIRouter, ...]] = (
    login.router,
    setup.router,
    account.router,
    people.router,
    audit.router,
    fleet.router,
    camera.router,
    rollouts.router,
    runs.router,
)
