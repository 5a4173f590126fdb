"""The desk by HTTPS: five small addresses, everything bounded, and no answer that tells more than it should.

Bodies are decoded by the contract's own types, and whatever is refused is told as a problem (RFC 9457) in words of
ours: nothing of what was sent is repeated, since it may be a token.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final, TypeVar

import msgspec
from fastapi import FastAPI, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from walt_edge.contract.enrolment import (
    MAX_BODY_BYTES,
    PREFIX,
    Credentials,
    EnrolRequest,
    Nonce,
    Problem,
    RenewRequest,
)
from walt_edge.contract.errors import UsageError, WaltError
from walt_edge.contract.topics import TopicError
from walt_train.loop.identity.authority import RequestError
from walt_train.loop.identity.desk import Desk
from walt_train.loop.identity.registry import RefusedError, WrongTokenError
from walt_train.loop.store.database import UNAVAILABLE, StoreError

LOGGER = logging.getLogger(__name__)

_BODY_S: Final = 10.0
_PEM: Final = "application/x-pem-file"
_PROBLEM: Final = "application/problem+json"
# What each error of ours means to whoever asked; the first that fits.
_STATUS: Final[tuple[tuple[type[WaltError], HTTPStatus], ...]] = (
    (WrongTokenError, HTTPStatus.FORBIDDEN),
    (RefusedError, HTTPStatus.FORBIDDEN),
    (RequestError, HTTPStatus.BAD_REQUEST),
    (TopicError, HTTPStatus.BAD_REQUEST),
    (UsageError, HTTPStatus.BAD_REQUEST),
    (StoreError, HTTPStatus.SERVICE_UNAVAILABLE),
)

_T = TypeVar("_T", bound=msgspec.Struct)


class Attempts:
    """Slows down who shows wrong tokens: so many in a while from one address, then nothing until the while is over.

    Args:
        most: Wrong tokens in a while.
        window_s: How long it is.
        clock: Seconds that only grow.
    """

    _ADDRESSES = 10_000

    def __init__(self, most: int = 10, window_s: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._window_s = window_s
        self._clock = clock
        self._seen: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def wait_s(self, address: str) -> float:
        """How long an address is not listened to; 0 = it is."""
        since, count = self._seen.get(address, (0.0, 0))
        left = since + self._window_s - self._clock()
        return left if count >= self._most and left > 0 else 0.0

    def failed(self, address: str) -> None:
        """Notes a wrong token."""
        since, count = self._seen.pop(address, (self._clock(), 0))
        fresh = self._clock() - since > self._window_s
        self._seen[address] = (self._clock(), 1) if fresh else (since, count + 1)
        if len(self._seen) > self._ADDRESSES:
            self._seen.popitem(last=False)


def make_app(desk: Desk, attempts: Attempts | None = None) -> FastAPI:
    """The application; to be served by HTTPS, alone or mounted.

    Args:
        desk: Decides.
        attempts: Slows down who guesses.
    """
    app = FastAPI(title="walt-loop identity", docs_url=None, redoc_url=None, openapi_url=None)
    doors = _Doors(desk, attempts or Attempts())

    def add(path: str, door: Callable[..., Any], method: str, takes: type | None, media: str, gives: Any) -> None:
        app.add_api_route(
            PREFIX + path,
            door,
            methods=[method],
            response_class=Response,
            responses=_responses(media, gives, takes is not None),
            openapi_extra={"requestBody": _body(takes)} if takes else None,
        )

    text = {"type": "string"}
    add("/ca", doors.ca, "GET", None, _PEM, text)
    add("/crl", doors.crl, "GET", None, _PEM, text)
    add("/nonce", doors.nonce, "GET", None, "application/json", _schema(Nonce))
    add("/enroll", doors.enroll, "POST", EnrolRequest, "application/json", _schema(Credentials))
    add("/renew", doors.renew, "POST", RenewRequest, "application/json", _schema(Credentials))
    app.add_exception_handler(HTTPException, _http_problem)
    app.add_exception_handler(WaltError, _our_problem)
    for unavailable in UNAVAILABLE:
        app.add_exception_handler(unavailable, _unavailable)
    return app


class _Doors:
    """What is answered at each address."""

    def __init__(self, desk: Desk, attempts: Attempts) -> None:
        self._desk = desk
        self._attempts = attempts

    def ca(self) -> Response:
        return Response(self._desk.ca(), media_type=_PEM)

    def crl(self) -> Response:
        return Response(self._desk.crl(), media_type=_PEM, headers={"cache-control": "no-cache"})

    def nonce(self) -> Response:
        return _json(self._desk.nonce())

    async def enroll(self, request: Request) -> Response:
        address = request.client.host if request.client else ""
        wait_s = self._attempts.wait_s(address)
        if wait_s > 0:
            raise HTTPException(
                HTTPStatus.TOO_MANY_REQUESTS, "too many wrong tokens", {"retry-after": f"{int(wait_s) + 1}"}
            )
        asked = await _read(request, EnrolRequest)
        try:
            given = await run_in_threadpool(self._desk.enrol, asked)
        except WrongTokenError:
            self._attempts.failed(address)
            LOGGER.warning("a wrong token from %s", address)
            raise
        LOGGER.info("enrolled %s/%s from %s", given.site, given.device, address)
        return _json(given)

    async def renew(self, request: Request) -> Response:
        given = await run_in_threadpool(self._desk.renew, await _read(request, RenewRequest))
        LOGGER.info("renewed %s/%s", given.site, given.device)
        return _json(given)


async def _read(request: Request, kind: type[_T]) -> _T:
    """A body of bounded size that comes within bounded time, as one of the contract's types."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send application/json")
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"at most {MAX_BODY_BYTES} bytes")
    except TimeoutError as error:
        raise HTTPException(HTTPStatus.REQUEST_TIMEOUT, "the body did not come") from error
    try:
        return msgspec.json.decode(bytes(body), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, f"this is no {kind.__name__}") from error


def _json(content: msgspec.Struct) -> Response:
    return Response(
        msgspec.json.encode(content), media_type="application/json", headers={"cache-control": "no-store"}
    )


# -- problems ---------------------------------------------------------------------------------------------------


def _problem(status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
    problem = Problem(title=HTTPStatus(status).phrase, status=status, detail=detail)
    return Response(msgspec.json.encode(problem), status, headers, media_type=_PROBLEM)


async def _http_problem(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _problem(error.status_code, error.detail, dict(error.headers or {}))


async def _our_problem(_: Request, error: Exception) -> Response:
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), HTTPStatus.INTERNAL_SERVER_ERROR)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return await _unavailable(_, error)
    return _problem(status, str(error))


async def _unavailable(_: Request, error: Exception) -> Response:
    # Where the database is, and why it is not, is told to home's log alone.
    LOGGER.error("cannot answer: %s", error)
    return _problem(HTTPStatus.SERVICE_UNAVAILABLE, "home cannot answer now: try again", {"retry-after": "30"})


# -- what it is, for machines -----------------------------------------------------------------------------------


def _schema(kind: type) -> dict[str, Any]:
    (schema,), components = msgspec.json.schema_components([kind])
    found: dict[str, Any] = components[kind.__name__] if "$ref" in schema else schema
    return found


def _body(kind: type) -> dict[str, Any]:
    return {"required": True, "content": {"application/json": {"schema": _schema(kind)}}}


def _responses(media: str, gives: Any, takes: bool) -> dict[int | str, dict[str, Any]]:
    problem = {_PROBLEM: {"schema": _schema(Problem)}}
    statuses = [400, 403, 408, 413, 415, 422, 429] if takes else []
    told: dict[int | str, dict[str, Any]] = {
        status: {"description": HTTPStatus(status).phrase, "content": problem} for status in (*statuses, 503)
    }
    return {200: {"description": "OK", "content": {media: {"schema": gives}}}, **told}
