"""The list of all pages."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter

from walt_train.loop.web.api import document
from walt_train.loop.web.pages import (
    account,
    audit,
    camera,
    clipart,
    fleet,
    label,
    login,
    people,
    pictures,
    rollouts,
    runs,
    setup,
)

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
    clipart.router,
    label.router,
    pictures.router,
    document.router,
)
