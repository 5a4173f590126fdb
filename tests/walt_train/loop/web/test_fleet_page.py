"""The fleet's page: what is wrong first, and any camera found among many."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec
import pytest
from sqlalchemy import event

from benchmarks.fleet_filling import telemetry
from benchmarks.fleet_sizes import camera_name, who
from tests.walt_train.loop.web.client import Client, Clock, signed_in, site_on
from tests.walt_train.loop.web.filled import SMALL
from walt_edge.contract.topics import DeviceTopics
from walt_train.loop.fleet.fleet import Fleet, Outcome
from walt_train.loop.fleet.keeping import Keeper, load
from walt_train.loop.store.store import Store
from walt_train.loop.web.access.person import Role
from walt_train.loop.web.app import make_app
from walt_train.loop.web.queries.board import Board
from walt_train.loop.web.site import Site


@pytest.fixture(scope="module")
def viewer(filled: Site) -> Client:
    return signed_in(filled, Role.VIEWER)


def cameras_in(page: str) -> list[str]:
    return re.findall(r'<th scope="row"[^>]*><a id="row-\d+" href="/cameras/([^"?]+)', page)


def test_strangers_are_sent_to_sign_in(filled: Site) -> None:
    answer = Client(make_app(filled)).get("/fleet?q=north")
    assert answer.status == 303
    assert answer.headers["location"] == "/sign-in?next=%2Ffleet%3Fq%3Dnorth"


def test_what_is_wrong_comes_first_with_its_remedy(viewer: Client) -> None:
    page = viewer.get("/fleet").text
    assert "<b>120</b> devices" in page
    assert page.index("the device is away") < page.index("<table")
    assert "Check its power and network" in page
    # Every fiftieth device is away, and its camera's row stands above those that are well.
    first = cameras_in(page)[:2]
    assert set(first) <= {camera_name(number) for number in (0, 40, 50, 80, 100)}


@pytest.mark.parametrize(
    ("asked", "count"),
    [
        ("", 120),
        ("q=north", 30),
        ("q=NORTH-0001", 1),
        ("q=walt-0000000000000011", 1),
        ("q=nothing+like+that", 0),
        ("state=offline", 3),
        ("state=online", 117),
        ("kind=offline", 3),
        ("kind=no-such-kind", 0),
        ("release=11", 40),
        ("release=11&q=north", 10),
    ],
)
def test_a_camera_is_found(viewer: Client, asked: str, count: int) -> None:
    page = viewer.get(f"/fleet?{asked}").text
    found = re.search(r'<p class="note">(\S+) camera', page)
    assert found
    assert found.group(1) == str(count)


def test_pages_hold_everybody_once(viewer: Client) -> None:
    found = [name for page in (1, 2, 3) for name in cameras_in(viewer.get(f"/fleet?sort=name&page={page}").text)]
    assert sorted(found) == sorted(camera_name(number) for number in range(SMALL.devices))
    assert cameras_in(viewer.get("/fleet?sort=name&page=99").text) == found[100:]


@pytest.mark.parametrize("order", ["", "&order=reverse"])
def test_rows_are_sorted_both_ways(viewer: Client, order: str) -> None:
    page = viewer.get(f"/fleet?sort=crops{order}").text
    counts = [int(re.sub(r"\D", "", one)) for one in re.findall(r'data-head="Crops" class="num">([^<]*)<', page)]
    assert len(counts) == 50
    assert counts == sorted(counts, reverse=not order)


@pytest.mark.parametrize(
    "asked",
    [
        "page=-1",
        "page=0",
        "page=99999999999999999999",
        "page=x",
        "sort=no",
        "release=-5",
        "kind=" + "k" * 500,
    ],
)
def test_nonsense_gives_a_page_all_the_same(viewer: Client, asked: str) -> None:
    assert viewer.get(f"/fleet?{asked}").status == 200


def test_what_was_searched_for_is_escaped(viewer: Client) -> None:
    page = viewer.get("/fleet?q=%22%3E%3Cscript%3Ealert(1)%3C/script%3E").text
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_the_live_part_is_the_page_s_own_and_no_page(viewer: Client) -> None:
    page, part = viewer.get("/fleet?q=north&sort=crops").text, viewer.get("/fleet/part?q=north&sort=crops").text
    assert "<html" not in part
    assert part.strip() in page
    assert 'data-live="/fleet/part?q=north&amp;sort=crops"' in page


def test_a_day_is_drawn_for_each_camera(viewer: Client) -> None:
    page = viewer.get("/fleet").text
    assert page.count('<svg class="spark"') == 50


class Heard:
    """A fleet's listener, and how many states a board reads."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self.keeper, self.fleet, self.clock = Keeper(store.engine, "test", 60), Fleet(), clock
        assert self.keeper.acquire(clock())
        self.states = 0
        event.listen(store.engine, "before_cursor_execute", self._count)

    def tell(self, *numbers: int) -> None:
        for number in numbers:
            topics = DeviceTopics(*who(number)[:2])
            told = msgspec.json.encode(telemetry(number, self.clock()))
            assert self.fleet.take(topics.telemetry, told, self.clock()) is Outcome.TAKEN
        for part in self.fleet.batch.parts():
            self.keeper.write(part, self.clock())
        self.fleet.next_batch()

    def _count(self, connection: object, cursor: object, statement: str, *_: object) -> None:
        self.states += "fleet_cameras.state" in statement or "fleet_devices.state" in statement


@pytest.fixture
def heard(empty: Store, clock: Clock) -> Iterator[Heard]:
    heard = Heard(empty, clock)
    yield heard
    event.remove(empty.engine, "before_cursor_execute", heard._count)


def test_the_board_reads_what_changed_and_nothing_twice(empty: Store, heard: Heard) -> None:
    seconds = [0.0]
    board = Board(empty.engine, lambda: seconds[0])
    assert board.view().rows == ()
    heard.tell(*range(10))
    assert board.view().rows == (), "a second is not over"
    seconds[0] += 1.1
    assert [row.camera for row in board.view().rows] == sorted(
        (camera_name(n) for n in range(10)), key=lambda name: next(who(n) for n in range(10) if who(n)[2] == name)
    )
    read = heard.states
    seconds[0] += 1.1
    before = board.view()
    assert heard.states == read, "nothing was told, so nothing is read"
    heard.clock.pass_(30)
    heard.tell(3)
    seconds[0] += 1.1
    after = board.view()
    changed = [one for one, other in zip(after.rows, before.rows, strict=True) if one != other]
    assert [row.camera for row in changed] == [camera_name(3)]
    assert changed[0].heard_us == heard.clock()


def test_the_board_tells_the_same_as_the_listener_wrote(filled: Site) -> None:
    snapshot = load(filled.engine)
    rows = Board(filled.engine).view().rows
    assert [row.name for row in rows] == sorted(snapshot.cameras)
    for row in rows:
        state = snapshot.cameras[row.name]
        assert (row.key, row.heard_us, row.crops) == (state.key, state.heard_us, state.told.crops_chosen)
        assert row.status == snapshot.devices[row.site, row.device].status


def test_who_is_gone_leaves_the_board(empty: Store, heard: Heard) -> None:
    seconds = [0.0]
    board = Board(empty.engine, lambda: seconds[0])
    heard.tell(1, 2)
    assert len(board.view().rows) == 2
    heard.keeper.tidy(heard.clock(), 0, [who(1)[:2]])
    heard.clock.pass_(60)
    heard.tell(1)
    seconds[0] += 1.1
    assert [row.camera for row in board.view().rows] == [camera_name(1)]


def test_an_empty_home_says_what_to_start(empty: Store) -> None:
    page = signed_in(site_on(empty), Role.VIEWER).get("/fleet").text
    assert "No device was heard yet" in page
    assert "Nobody has listened yet" in page
