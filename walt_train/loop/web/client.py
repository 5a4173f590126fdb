"""A typed client of the dashboard's API: one method for each operation of its OpenAPI document.

from walt_train.loop.web.client import HomeClient

with HomeClient("https://home.example:8443", token="walt_...") as home:
    print(home.fleet().online)
    for camera in home.each(home.cameras, state="trouble"):
        print(camera.site, camera.device, camera.camera, camera.level)
    for rollout in home.rollouts(state="running").items:
        home.pause(rollout.id, "the street is closed today")
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, TypeVar
from urllib.parse import quote, urlencode

import urllib3
from pydantic import BaseModel, ValidationError

from walt_edge.contract.errors import WaltError
from walt_train.loop.web.api import models

_PREFIX: Final = "/api/v1"
_MOST_BYTES: Final = 32 << 20
_Model = TypeVar("_Model", bound=BaseModel)
_Item = TypeVar("_Item", covariant=True)


class HomeError(WaltError):
    """Home did not do what was asked; the text has cause and remedy.

    Attributes:
        status: Of the answer; 0 where there was none.
    """

    def __init__(self, text: str, status: int = 0) -> None:
        super().__init__(text)
        self.status = status


class Page(Protocol[_Item]):
    """What every list gives: some items, and what asks for the next ones."""

    @property
    def items(self) -> tuple[_Item, ...]:
        """Of this page."""

    @property
    def next(self) -> str | None:
        """The cursor of the next page; None: this is the last."""


class HomeClient:
    """Asks one home; a context manager, and safe to share between threads.

    Args:
        url: Where the dashboard is.
        token: Made on its page `Account`: what it may do is what this client may.
        ca_file: The authority of home's certificate; None: those that the system trusts.
        timeout_s: For one answer.
    """

    def __init__(self, url: str, token: str, *, ca_file: Path | None = None, timeout_s: float = 30.0) -> None:
        self._url = url.rstrip("/") + _PREFIX
        self._http = urllib3.PoolManager(
            headers={"authorization": f"Bearer {token}", "accept": "application/json"},
            timeout=timeout_s,
            # What changes something is asked once: whoever asks decides whether to ask again.
            retries=urllib3.Retry(2, redirect=False, backoff_factor=0.2, raise_on_status=False),
            ca_certs=str(ca_file) if ca_file is not None else None,
        )

    def __enter__(self) -> HomeClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.clear()

    def each(self, pages: Callable[..., Page[_Item]], **wish: Any) -> Iterator[_Item]:
        """Every item of a list, page by page.

        Args:
            pages: A method of this client that gives pages.
            wish: Its arguments but for `cursor`.
        """
        cursor: str | None = None
        while True:
            page = pages(**wish, cursor=cursor)
            yield from page.items
            cursor = page.next
            if cursor is None:
                return

    # -- the fleet ----------------------------------------------------------------------------------------------

    def me(self) -> models.Me:
        """Who asks, and what that one may do."""
        return self._get(models.Me, "/me")

    def fleet(self) -> models.Fleet:
        """The fleet in a few figures."""
        return self._get(models.Fleet, "/fleet")

    def alerts(self, *, kind: str = "", limit: int = 100, cursor: str | None = None) -> models.Alerts:
        """What is wrong now, the most urgent first."""
        return self._get(models.Alerts, "/alerts", kind=kind, limit=limit, cursor=cursor)

    def cameras(
        self,
        *,
        search: str = "",
        state: str = "",
        kind: str = "",
        release: int = -1,
        limit: int = 100,
        cursor: str | None = None,
    ) -> models.Cameras:
        """Cameras as they were heard last; `state` is `online`, `offline` or `trouble`."""
        wish = {"search": search, "state": state, "kind": kind, "release": release}
        return self._get(models.Cameras, "/cameras", **wish, limit=limit, cursor=cursor)

    def camera(self, camera: str, *, device: str = "") -> models.CameraDetail:
        """One camera."""
        return self._get(models.CameraDetail, f"/cameras/{_part(camera)}", device=device)

    def camera_history(self, camera: str, *, span: str = "day", device: str = "") -> models.History:
        """A camera's figures over a `day`, a `week` or a `year`."""
        return self._get(models.History, f"/cameras/{_part(camera)}/history", span=span, device=device)

    def camera_verdicts(self, camera: str) -> models.Verdicts:
        """What the gate said of a camera's generations."""
        return self._get(models.Verdicts, f"/cameras/{_part(camera)}/verdicts")

    def crops(self, camera: str, *, kind: str = "crop", limit: int = 100, cursor: str | None = None) -> models.Crops:
        """What is stored of a camera, the newest first; `kind` is `crop`, `plate` or `frame`."""
        return self._get(models.Crops, "/crops", camera=camera, kind=kind, limit=limit, cursor=cursor)

    def crop(self, id: str) -> models.Crop:  # noqa: A002 (as the model names it)
        """One crop, plate or frame."""
        return self._get(models.Crop, f"/crops/{_part(id)}")

    # -- trainings and rollouts ---------------------------------------------------------------------------------

    def runs(self, *, camera: str = "", state: str = "", limit: int = 50, cursor: str | None = None) -> models.Runs:
        """Trainings, the newest first."""
        return self._get(models.Runs, "/runs", camera=camera, state=state, limit=limit, cursor=cursor)

    def run(self, camera: str, number: int) -> models.Run:
        """One training."""
        return self._get(models.Run, f"/runs/{_part(camera)}/{number}")

    def retry(self, camera: str, number: int) -> models.Run:
        """Lets a training that failed go on where it failed; needs the scope `operate`."""
        return self._post(models.Run, f"/runs/{_part(camera)}/{number}/retry")

    def rollouts(
        self, *, camera: str = "", state: str = "", limit: int = 50, cursor: str | None = None
    ) -> models.Rollouts:
        """Rollouts, the newest first."""
        return self._get(models.Rollouts, "/rollouts", camera=camera, state=state, limit=limit, cursor=cursor)

    def rollout(self, rollout: int) -> models.Rollout:
        """One rollout."""
        return self._get(models.Rollout, f"/rollouts/{rollout}")

    def rollout_members(self, rollout: int, *, limit: int = 100, cursor: str | None = None) -> models.Members:
        """A rollout's devices."""
        return self._get(models.Members, f"/rollouts/{rollout}/members", limit=limit, cursor=cursor)

    def pause(self, rollout: int, reason: str = "") -> models.Rollout:
        """Nobody further is told until it is resumed; needs the scope `operate`, as do the next three."""
        return self._post(models.Rollout, f"/rollouts/{rollout}/pause", models.Reason(reason=reason))

    def resume(self, rollout: int, reason: str = "") -> models.Rollout:
        """It goes on with the stage that was at work."""
        return self._post(models.Rollout, f"/rollouts/{rollout}/resume", models.Reason(reason=reason))

    def abort(self, rollout: int, reason: str) -> models.Rollout:
        """It ends, and every device that was told returns to what it ran before."""
        return self._post(models.Rollout, f"/rollouts/{rollout}/abort", models.Reason(reason=reason))

    def rollback(self, rollout: int, reason: str) -> models.Rollout:
        """The same of a rollout that is done."""
        return self._post(models.Rollout, f"/rollouts/{rollout}/rollback", models.Reason(reason=reason))

    def audit(
        self,
        *,
        who: str = "",
        what: str = "",
        outcome: str = "",
        since_us: int | None = None,
        until_us: int | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> models.Audit:
        """The record of what was done, the newest first; needs the scope `admin`."""
        wish = {"who": who, "what": what, "outcome": outcome, "since_us": since_us, "until_us": until_us}
        return self._get(models.Audit, "/audit", **wish, limit=limit, cursor=cursor)

    # -- how it is asked ----------------------------------------------------------------------------------------

    def _get(self, model: type[_Model], path: str, /, **wish: object) -> _Model:
        given = {name: value for name, value in wish.items() if value not in ("", None)}
        return self._ask(model, "GET", f"{path}?{urlencode(given)}" if given else path)

    def _post(self, kind: type[_Model], path: str, body: BaseModel | None = None) -> _Model:
        return self._ask(kind, "POST", path, b"" if body is None else body.model_dump_json().encode())

    def _ask(self, kind: type[_Model], method: str, path: str, body: bytes | None = None) -> _Model:
        headers = dict(self._http.headers) | ({"content-type": "application/json"} if body else {})
        try:
            answer = self._http.request(method, self._url + path, body=body, headers=headers, preload_content=False)
            data = answer.read(_MOST_BYTES + 1)
            answer.release_conn()
        except urllib3.exceptions.HTTPError as error:
            raise HomeError(f"{self._url} does not answer ({error}): is walt-loop web there?") from error
        if answer.status >= 300:
            raise HomeError(_cause(data, answer.status), answer.status)
        if len(data) > _MOST_BYTES:
            raise HomeError(f"{path} gave more than {_MOST_BYTES} bytes: ask with a smaller limit")
        try:
            return kind.model_validate_json(data)
        except ValidationError as error:
            raise HomeError(f"{path} gave what this client does not know ({error}): update walt-amodal") from error


def _part(word: str) -> str:
    return quote(word, safe="")


def _cause(data: bytes, status: int) -> str:
    """What the server says of an error."""
    try:
        problem = models.Problem.model_validate(json.loads(data))
    except (ValueError, ValidationError):
        return f"status {status}, and no word of why: is this the address of walt-loop web?"
    return f"{problem.title.lower()}: {problem.detail}"
