"""What the API's operations share: pages by cursor, answers, and errors with cause and remedy."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from typing import Annotated, Any, Final, TypeVar

import msgspec
from fastapi import HTTPException, Path, Query
from fastapi.responses import Response
from pydantic import BaseModel

from walt_edge.contract.topics import TopicError, check_name
from walt_train.loop.web.api.models import Problem

MOST: Final = 500
_CURSOR_MOST: Final = 400
# Databases hold signed 64-bit numbers.
_NUMBER_MOST: Final = 2**62
_CURSOR: Final = re.compile(r"[A-Za-z0-9_-]+={0,2}")
_Row = TypeVar("_Row")
_Key = TypeVar("_Key")

Limit = Annotated[int, Query(ge=1, le=MOST, description="items of a page at most")]
After = Annotated[
    str | None, Query(max_length=_CURSOR_MOST, description="`next` of the page before; none: the first page")
]
Name = Annotated[str, Path(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
NameWish = Annotated[str, Query(max_length=64)]
Number = Annotated[int, Path(ge=1, lt=2**31)]

_TITLES: Final = {
    400: "Something in the request cannot be read",
    401: "Nobody is signed in, or the token is wrong, expired or revoked",
    403: "The role or the token's scope does not reach so far",
    404: "There is no such thing",
    409: "It is in no state for that",
    413: "The request is too large",
    429: "Too many requests at once",
    503: "The store does not answer now",
}


def problems(*codes: int) -> dict[int | str, dict[str, Any]]:
    """How errors of these kinds look, for the document; those that any operation may answer are among them."""
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    every = sorted({400, 401, 403, 429, 503, *codes})
    return {code: {"description": _TITLES[code], "content": content, "model": Problem} for code in every}


def answer(model: BaseModel) -> Response:
    """A model as JSON: it was checked as it was made, and need not be again."""
    return Response(model.model_dump_json(), media_type="application/json", headers={"cache-control": "no-store"})


def cursor_of(key: object) -> str:
    """What a client sends back to go on after `key`."""
    return urlsafe_b64encode(msgspec.json.encode(key)).decode().rstrip("=")


def read_cursor(text: str | None, kind: type[_Key]) -> _Key | None:
    """Reads that back.

    Raises:
        HTTPException: It is none of ours.
    """
    if text is None:
        return None
    try:
        if len(text) > _CURSOR_MOST or not _CURSOR.fullmatch(text):
            raise ValueError
        key = msgspec.json.decode(urlsafe_b64decode(text + "=" * (-len(text) % 4)), type=kind)
        if any(
            abs(one) > _NUMBER_MOST for one in (key if isinstance(key, tuple) else (key,)) if isinstance(one, int)
        ):
            raise ValueError
        return key
    except (ValueError, msgspec.DecodeError) as error:
        raise HTTPException(400, "this cursor is not ours: begin without one") from error


def cut(rows: Sequence[_Row], limit: int) -> tuple[Sequence[_Row], _Row | None]:
    """A page of rows of which one more than `limit` was asked for, and its last one if another page follows."""
    return rows[:limit], rows[limit - 1] if len(rows) > limit else None


def camera_name(name: str) -> str:
    """A camera's name.

    Raises:
        HTTPException: It can be none.
    """
    try:
        return check_name(name, "camera")
    except TopicError as error:
        raise HTTPException(404, f"{error}: look for it at /api/v1/cameras") from error
