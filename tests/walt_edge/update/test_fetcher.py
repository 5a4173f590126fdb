"""Downloads over bad links: what has come is kept and continued, and what cannot be continued begins anew."""

from __future__ import annotations

import errno
import hashlib
import random
import re
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from unittest import mock

import pytest
from tuf.api.exceptions import DownloadHTTPError, DownloadLengthMismatchError

from tests.cutting import BadLink
from tests.updates import HASTY, Agent, running_station
from tests.waiting import wait_for
from tests.walt_edge.update.street import Street, opened
from tests.web import Web, cut_short, dripping, endless, failing
from walt_edge.contract.messages import Desired
from walt_edge.update.errors import CancelledError, NotNowError, UnreachableError
from walt_edge.update.fetcher import Fetcher, FetchLimits
from walt_edge.update.trust import Trust
from walt_train.loop.serve.http import HttpConfig, HttpServer, make_app

DATA = random.Random(1).randbytes(1_000_000)
LIMITS = FetchLimits(connect_s=5.0, silence_s=5.0, total_s=60.0)
QUICK = FetchLimits(connect_s=2.0, silence_s=2.0, total_s=0.3)


class Download:
    """One file on its way."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, f"{url.rstrip('/')}/big.walt"
        self.partial = folder / "big.part"
        self.received = 0

    def bring(
        self, limits: FetchLimits = LIMITS, is_cancelled: Callable[[], bool] = lambda: False, size: int = len(DATA)
    ) -> None:
        fetcher = Fetcher(self.folder, limits, None, is_cancelled, self._count)
        fetcher.bring(self.url, self.partial, size)

    def _count(self, size_bytes: int) -> None:
        self.received += size_bytes

    def is_right(self) -> bool:
        return self.partial.read_bytes() == DATA


@pytest.fixture
def server(tmp_path: Path) -> Iterator[HttpServer]:
    """Home's own."""
    (tmp_path / "served").mkdir()
    (tmp_path / "served/big.walt").write_bytes(DATA)
    with HttpServer(make_app(tmp_path / "served", list), HttpConfig()) as server:
        yield server


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    """A server that knows no ranges, and may be made to misbehave."""
    (tmp_path / "served").mkdir(exist_ok=True)
    (tmp_path / "served/big.walt").write_bytes(DATA)
    with Web(tmp_path / "served") as web:
        yield web


@pytest.mark.parametrize("is_rude", [False, True])
def test_a_link_that_breaks_every_few_hundred_kilobytes_brings_it_all(
    tmp_path: Path, server: HttpServer, is_rude: bool
) -> None:
    with BadLink(server.url, 200_000, is_rude) as link:
        download = Download(tmp_path, link.url)
        download.bring()
        assert download.is_right()
        assert 5 < link.connections < 10
        assert download.received < 1.3 * len(DATA)


def test_what_has_come_survives_and_is_continued(tmp_path: Path, server: HttpServer) -> None:
    download = Download(tmp_path, server.url)
    with pytest.raises(CancelledError):
        download.bring(is_cancelled=lambda: download.received > 300_000)
    had = download.partial.stat().st_size
    assert had > 200_000
    again = Download(tmp_path, server.url)
    again.bring()
    assert again.is_right()
    assert again.received == len(DATA) - had
    third = Download(tmp_path, server.url)
    third.bring()
    assert third.received == 0


def test_a_link_that_brings_next_to_nothing_is_given_up_for_now(tmp_path: Path, server: HttpServer) -> None:
    with BadLink(server.url, 1_000) as link:
        download = Download(tmp_path, link.url)
        with pytest.raises(UnreachableError, match="cannot be fetched"):
            download.bring()
        assert link.connections == 1
        assert 0 < download.partial.stat().st_size < 1_000, "it is a beginning"


def test_a_server_without_ranges_begins_anew(tmp_path: Path, web: Web) -> None:
    download = Download(tmp_path, web.url)
    download.partial.write_bytes(DATA[:1234])
    download.bring()
    assert download.is_right()
    with BadLink(web.url, 200_000) as link:
        other = Download(tmp_path, link.url)
        other.partial.unlink()
        with pytest.raises(UnreachableError):
            other.bring()
        assert link.connections == 2, "the second brings no more than the first"


def ranged(data: bytes, total: str | None = None, shift: int = 0) -> Callable[[SimpleHTTPRequestHandler], None]:
    """Answers a range of other data than was asked for."""

    def answer(handler: SimpleHTTPRequestHandler) -> None:
        found = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        start = min(int(found[1]) + shift if found else 0, len(data))
        handler.send_response(206 if found else 200)
        if found:
            handler.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{total or len(data)}")
        handler.send_header("Content-Length", str(len(data) - start))
        handler.end_headers()
        handler.wfile.write(data[start:])

    return answer


def unsatisfiable(handler: SimpleHTTPRequestHandler) -> None:
    if "Range" in handler.headers:
        handler.send_error(416)
    else:
        ranged(DATA)(handler)


@pytest.mark.parametrize(
    "answer",
    [
        ranged(DATA, total="1234567"),
        ranged(DATA, shift=1),
        ranged(DATA, total="9" * 5000),
        ranged(DATA, total="*/x"),
        unsatisfiable,
    ],
    ids=["another length", "another place", "an absurd length", "no length", "416"],
)
def test_what_does_not_fit_what_has_come_begins_anew(
    tmp_path: Path, web: Web, answer: Callable[[SimpleHTTPRequestHandler], None]
) -> None:
    web.answers["big.walt"] = answer
    download = Download(tmp_path, web.url)
    download.partial.write_bytes(DATA[:5000])
    download.bring()
    assert download.is_right()
    assert len(web.asked) == 2


def empty(handler: SimpleHTTPRequestHandler) -> None:
    handler.send_response(204)
    handler.end_headers()


@pytest.mark.parametrize(
    ("answer", "error", "line"),
    [
        (endless, DownloadLengthMismatchError, "sends more than the 1000000 bytes it may"),
        (dripping, UnreachableError, "takes longer than 0.3 s"),
        (cut_short, UnreachableError, "cannot be fetched"),
        (failing, DownloadHTTPError, "answers 503"),
        (empty, UnreachableError, "answers 204 to what was not asked"),
    ],
)
def test_a_server_that_misbehaves_is_given_up(
    tmp_path: Path,
    web: Web,
    answer: Callable[[SimpleHTTPRequestHandler], None],
    error: type[Exception],
    line: str,
) -> None:
    web.answers["big.walt"] = answer
    download = Download(tmp_path, web.url)
    with pytest.raises(error, match=line):
        download.bring(QUICK)
    assert download.partial.exists() == (answer in (dripping, cut_short))


def test_the_space_is_given_back_where_the_disk_is_full(tmp_path: Path, server: HttpServer) -> None:
    download = Download(tmp_path, server.url)
    download.partial.write_bytes(DATA[:5000])
    with (
        mock.patch.object(Path, "open", side_effect=OSError(errno.ENOSPC, "No space left on device")),
        pytest.raises(OSError, match="No space left"),
    ):
        download.bring()
    assert not download.partial.exists()


def test_more_than_there_should_be_begins_anew(tmp_path: Path, server: HttpServer) -> None:
    download = Download(tmp_path, server.url)
    download.partial.write_bytes(DATA + b"x")
    download.bring()
    assert download.is_right()


# -- as an agent does it ----------------------------------------------------------------------------------


@pytest.fixture
def street(tmp_path: Path) -> Iterator[Street]:
    with opened(tmp_path) as street:
        yield street


def interrupted(street: Street, trust: Trust, wish: Desired) -> Path:
    """Half of a bundle is fetched, and no more; the file that it lies in."""
    street.web.answers[f".{wish.target}"] = cut_short
    with pytest.raises(UnreachableError):
        trust.fetch(wish, street.folder / "got.walt")
    street.web.answers.clear()
    (partial,) = street.folder.rglob("*.part")
    return partial


def test_a_bundle_is_continued_after_a_restart_of_the_agent(street: Street) -> None:
    device = street.device("device")
    wish = street.publish(ballast="x" * 200_000)
    with (
        HttpServer(make_app(street.web.folder, list), HttpConfig()) as server,
        BadLink(server.url, 100_000) as link,
    ):
        updates, got = device.folder / "updates", device.folder / "got.walt"

        def is_half() -> bool:
            return any(path.stat().st_size > 50_000 for path in updates.glob("*.part"))

        with pytest.raises(CancelledError):
            Trust(updates, link.url).fetch(wish, got, is_half)
        assert is_half()
        again = Trust(updates, link.url)
        again.want(wish)
        again.fetch(wish, got)
        assert hashlib.sha256(got.read_bytes()).hexdigest() == wish.sha256
        assert again.fetched_bytes < 200_000, "metadata, and what was missing"
        assert not is_half()


def test_what_is_not_wanted_any_more_is_forgotten(street: Street) -> None:
    device = street.device("device")
    first, second = (street.publish() for _ in range(2))
    for later in (second, None):
        partial = interrupted(street, device.trust, first)
        device.trust.want(first)
        device.restart()
        device.trust.want(first)
        assert partial.exists()
        device.trust.want(later)
        assert not partial.exists()


def test_bytes_that_were_changed_on_their_way_are_found_at_the_end_and_begun_anew(street: Street) -> None:
    device = street.device("device")
    wish = street.publish()
    partial = interrupted(street, device.trust, wish)
    with (
        HttpServer(make_app(street.web.folder, list), HttpConfig()) as server,
        pytest.raises(NotNowError, match="changed, or damaged on its way"),
    ):
        Trust(device.folder / "updates", server.url).fetch(wish, device.folder / "got.walt")
    assert not partial.exists()
    device.take(wish)
    assert device.runs == 1


def test_an_agent_behind_a_bad_link_takes_a_release(street: Street) -> None:
    street.now = datetime.now(UTC)
    wish = street.publish(ballast="x" * 400_000)
    shutil.copy(street.web.folder / "root.json", street.folder / "root.json")
    with (
        HttpServer(make_app(street.web.folder, list), HttpConfig()) as server,
        BadLink(server.url, 100_000, is_rude=True) as link,
    ):
        agent = Agent(street.folder, link.url, HASTY)
        try:
            assert agent.take(wish).release == agent.answers() == 1
        finally:
            agent.updater.stop()
        assert link.connections > 8, "five for the metadata, and for each part of the bundle"
    assert not list(street.folder.rglob("*.part"))


def test_an_agent_forgets_half_a_release_when_home_wants_another(tmp_path: Path) -> None:
    with running_station(tmp_path) as station:
        wish = station.publish()
        station.web.answers[f".{wish.target}"] = cut_short
        station.agent.updater.desire(wish)
        station.agent.wait_for("refused", wish.release)
        assert list(tmp_path.rglob("*.part"))
        station.agent.updater.desire(None)
        wait_for(lambda: not list(tmp_path.rglob("*.part")))
