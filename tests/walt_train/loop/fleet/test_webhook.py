"""Alerts reach whoever waits for them: in order, once for each that is taken, with no secret in any log."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from tests.broker import free_port
from tests.waiting import wait_for
from walt_edge.contract.errors import UsageError
from walt_train.loop.fleet.conditions import Home
from walt_train.loop.fleet.judging import Alert, History, Subject, judge
from walt_train.loop.fleet.keeping import Keeper, recent_events
from walt_train.loop.fleet.rules import Rules, Webhook
from walt_train.loop.fleet.webhook import Messenger

WAIT_S = 30.0


class Receiver:
    """Somebody's server; answers as `answers` says, one after another, then 200."""

    def __init__(self, answers: list[int]) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.answers = answers
        self.hold = threading.Event()
        self.hold.set()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.hold.wait(WAIT_S)
                status = receiver.answers.pop(0) if receiver.answers else 200
                if status == 200:
                    receiver.bodies.append(json.loads(body))
                receiver.headers.append(dict(self.headers))
                self.send_response(status)
                self.send_header("Location", "http://127.0.0.1:1/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hook/s3cret-path?key=s3cret-key"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver([])
    yield receiver
    receiver.hold.set()
    receiver.server.shutdown()
    receiver.server.server_close()


@pytest.fixture
def keeper(engine: Engine) -> Keeper:
    keeper = Keeper(engine, "home", 3600)
    assert keeper.acquire(now_us())
    return keeper


def now_us() -> int:
    return time.time_ns() // 1000


def raise_alerts(keeper: Keeper, count: int = 3) -> None:
    before: dict[Subject, Alert] = {}
    for number in range(count):
        home = Home(1, free_bytes=1) if number % 2 == 0 else Home(1, free_bytes=1 << 50)
        at_us = now_us() + number
        rules = Rules(home_disk=Rules().home_disk.__class__(for_s=0, clear_s=0))
        judgement = judge(History({}, {}, home), before, at_us, rules)
        keeper.note(judgement, before, at_us, 1)
        before = dict(judgement.alerts)


def test_alerts_are_posted_in_order_and_again_until_they_are_taken(
    receiver: Receiver, keeper: Keeper, engine: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    token = tmp_path / "token"
    token.write_text("s3cret-token\n")
    receiver.answers = [500, 302, 404]
    raise_alerts(keeper)
    hook = Webhook(url=receiver.url, token_file=str(token), timeout_s=5)
    messenger = Messenger(keeper, hook, retry_s=(0.05, 0.1))
    with caplog.at_level(logging.DEBUG):
        messenger.start()
        wait_for(lambda: len(receiver.bodies) == 3, WAIT_S, "three alerts")
        wait_for(lambda: all(event.told_us for event in recent_events(engine, 9)), WAIT_S, "all told")
        messenger.stop()
    assert [body["what"] for body in receiver.bodies] == ["raised", "cleared", "raised"]
    assert len({body["id"] for body in receiver.bodies}) == 3
    first = receiver.bodies[0]
    assert (first["kind"], first["level"], first["site"]) == ("home_disk", "urgent", "")
    assert "free space where the store lies" in first["remedy"]
    assert receiver.headers[0]["Authorization"] == "Bearer s3cret-token"
    assert "s3cret" not in caplog.text
    assert "status 500" in caplog.text


def test_who_takes_too_long_gets_it_again_under_the_same_id(
    receiver: Receiver, keeper: Keeper, engine: Engine
) -> None:
    raise_alerts(keeper, 1)
    receiver.hold.clear()
    messenger = Messenger(keeper, Webhook(url=receiver.url, timeout_s=0.3), retry_s=(0.05, 0.1))
    messenger.start()
    wait_for(lambda: not receiver.hold.wait(0.5), WAIT_S)
    receiver.hold.set()
    wait_for(lambda: recent_events(engine, 1)[0].told_us, WAIT_S, "an answer in time")
    messenger.stop()
    assert len({body["id"] for body in receiver.bodies}) == 1


def test_nobody_there_is_waited_for_and_the_next_process_goes_on(
    keeper: Keeper, engine: Engine, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    raise_alerts(keeper)
    messenger = Messenger(keeper, Webhook(url=f"http://127.0.0.1:{free_port()}/s3cret"), retry_s=(0.01, 0.02))
    with caplog.at_level(logging.DEBUG):
        messenger.start()
        wait_for(lambda: "did not take" in caplog.text, WAIT_S)
        messenger.stop()
    assert "s3cret" not in caplog.text
    assert receiver.bodies == []
    again = Messenger(keeper, Webhook(url=receiver.url))
    again.start()
    wait_for(lambda: len(receiver.bodies) == 3, WAIT_S, "what was left")
    again.stop()


@pytest.mark.parametrize("content", [None, "", "two\nlines", "smörgås"])
def test_a_token_that_cannot_be_read_is_told_by_its_key(keeper: Keeper, tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UsageError, match="token_file") as caught:
        Messenger(keeper, Webhook(url="http://x/", token_file=str(path)))
    assert not content or content not in str(caught.value)


def test_a_certificate_authority_that_is_not_there_is_told(keeper: Keeper, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"webhook\.ca_file"):
        Messenger(keeper, Webhook(url="https://x/", ca_file=str(tmp_path / "none.pem")))
