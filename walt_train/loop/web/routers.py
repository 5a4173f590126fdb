"""The list of all pages."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter

from walt_train.loop.web.pages import login

ROUTERS: Final[tuple[APIRouter, ...]] = (login.router,)
