"""Alerts as JSON to a URL of one's own: in order, tried again until it is taken, told once for each that is.

What is to be told lies in the store, so nothing is lost with the process. A receiver that took a message and was cut
off before it could say so gets it again: `id` tells that it is the same.
"""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec
import urllib3

from walt_edge.contract.errors import UsageError
from walt_train.loop.fleet.conditions import KINDS
from walt_train.loop.fleet.keeping import Event, Keeper
from walt_train.loop.fleet.rules import Webhook
from walt_train.loop.store.database import UNAVAILABLE
from walt_train.loop.store.errors import StoreError

LOGGER = logging.getLogger(__name__)
_RETRY_S: Final = (1.0, 300.0)
_IDLE_S: Final = 60.0
_AT_ONCE: Final = 100
# What is older than this when it could be told for the first time is history: the table has it.
_STALE_US: Final = 24 * 3600 * 1_000_000


class Messenger:
    """Posts events in a thread of its own; does nothing without a URL.

    Args:
        keeper: Where events lie.
        webhook: Where they go.
        retry_s: First and longest wait after an attempt that failed; doubled.

    Raises:
        UsageError: A file that the webhook names cannot be read.
    """

    def __init__(self, keeper: Keeper, webhook: Webhook, retry_s: tuple[float, float] = _RETRY_S) -> None:
        self._keeper = keeper
        self._webhook = webhook
        self._retry_s = retry_s
        self._headers = {"Content-Type": "application/json", "User-Agent": "walt-loop"} | _authorization(webhook)
        self._pool = _make_pool(webhook)
        self._stopping, self._awake = threading.Event(), threading.Event()
        self._said = False
        self._thread = threading.Thread(target=self._main, name="fleet-webhook", daemon=True)

    @property
    def place(self) -> str:
        """Where alerts go, for people: a path or a query may be a secret, and is left out."""
        parts = urlsplit(self._webhook.url)
        return f"{parts.scheme}://{parts.hostname}"

    def start(self) -> None:
        """Begins to post what waits."""
        if self._webhook.url:
            self._thread.start()

    def wake(self) -> None:
        """There is something new."""
        self._awake.set()

    def stop(self) -> None:
        """Ends the thread; what it had no time for waits for the next one."""
        self._stopping.set()
        self._awake.set()
        if self._thread.is_alive():
            self._thread.join(timeout=2 * self._webhook.timeout_s + 5)

    def _main(self) -> None:
        pause_s = 0.0
        while not self._stopping.is_set():
            if self._post_all():
                pause_s = 0.0
                self._awake.wait(_IDLE_S)
                self._awake.clear()
            else:
                pause_s = min(max(2 * pause_s, self._retry_s[0]), self._retry_s[1])
                self._stopping.wait(pause_s)

    def _post_all(self) -> bool:
        """Posts what waits; False if something still does."""
        try:
            while events := self._keeper.untold(_AT_ONCE):
                for event in events:
                    if self._stopping.is_set() or not self._told(event):
                        return False
                    self._keeper.mark_told(event, time.time_ns() // 1000)
        except (StoreError, *UNAVAILABLE) as error:
            LOGGER.debug("the webhook waits for the store: %s", error)
            return False
        return True

    def _told(self, event: Event) -> bool:
        if event.at_us < time.time_ns() // 1000 - _STALE_US:
            return True
        try:
            answer = self._pool.request(
                "POST", self._webhook.url, body=body_of(event), headers=self._headers, redirect=False
            )
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            # Not the error's own text: it repeats the URL.
            return self._failed(type(error).__name__)
        if 200 <= answer.status < 300:
            self._said = False
            return True
        return self._failed(f"status {answer.status}")

    def _failed(self, why: str) -> bool:
        if not self._said:
            LOGGER.warning("the webhook at %s did not take an alert (%s): trying again", self.place, why)
        self._said = True
        return False


def body_of(event: Event) -> bytes:
    """What is posted: an alert, what to do about it, and an id by which a receiver knows a repetition."""
    kind = KINDS.get(event.subject.kind)
    return msgspec.json.encode(
        {
            "id": event.id,
            "what": event.what,
            **event.subject._asdict(),
            "level": kind.level.name.lower() if kind else "",
            "title": kind.title if kind else event.subject.kind,
            "detail": event.detail,
            "remedy": kind.remedy if kind else "",
            "at_us": event.at_us,
        }
    )


def _authorization(webhook: Webhook) -> dict[str, str]:
    if not webhook.token_file:
        return {}
    try:
        token = Path(webhook.token_file).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"webhook.token_file: cannot read {webhook.token_file}") from error
    if not token or not token.isascii() or not token.isprintable():
        raise UsageError(f"webhook.token_file: {webhook.token_file} holds no token of one line")
    return {"Authorization": f"Bearer {token}"}


def _make_pool(webhook: Webhook) -> urllib3.PoolManager:
    # It writes whole URLs at DEBUG, and a webhook's path is often its secret.
    logging.getLogger(urllib3.connectionpool.__name__).setLevel(logging.INFO)
    if webhook.ca_file and not Path(webhook.ca_file).is_file():
        raise UsageError(f"webhook.ca_file: there is no {webhook.ca_file}")
    return urllib3.PoolManager(
        1,
        timeout=urllib3.Timeout(webhook.timeout_s),
        # No redirects either: a token must not follow to wherever an answer says.
        retries=False,
        ca_certs=webhook.ca_file or None,
    )
