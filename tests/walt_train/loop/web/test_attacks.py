"""What strangers, devices, people of home's and what lies in a folder may try on the dashboard."""

from __future__ import annotations

import json
import os
import threading
import tracemalloc
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from sqlalchemy import insert, select
from sqlalchemy.exc import DBAPIError

from tests.envelopes import image, origin, sealed
from tests.walt_train.loop.labels.frames import SIZE_WH, drawing, fill_frames
from tests.walt_train.loop.scene import fill_store
from tests.walt_train.loop.web.client import PASSWORD, Client, signed_in, site_on
from walt_edge.contract.errors import WaltError
from walt_edge.contract.masks import encode_rle
from walt_edge.contract.messages import CropHeader
from walt_edge.contract.topics import DeviceTopics
from walt_edge.privacy.anonymiser import seal
from walt_train.loop.gate.holdout import read_holdout
from walt_train.loop.labels.drawing import DrawingError, read_drawing
from walt_train.loop.labels.drawn import Drawings
from walt_train.loop.labels.export import export_labels
from walt_train.loop.labels.pictures import Pictures
from walt_train.loop.labels.tables import shown_in
from walt_train.loop.publish.repository import Release
from walt_train.loop.rollout.model import RolloutError
from walt_train.loop.rollout.rollouts import Rollouts, say
from walt_train.loop.serve.folder import Folder
from walt_train.loop.store.database import transaction
from walt_train.loop.store.store import Store, Stored
from walt_train.loop.store.tables import generations
from walt_train.loop.web.access.attempts import guessed
from walt_train.loop.web.access.people import PeopleError
from walt_train.loop.web.access.person import Person, Role
from walt_train.loop.web.access.rates import network_of
from walt_train.loop.web.access.sessions import SESSIONS_MOST
from walt_train.loop.web.access.tables import web_sessions
from walt_train.loop.web.app import make_app
from walt_train.loop.web.site import Site

HUGE = 10**30
SECRET = "what nobody may read"


def cursor(key: object) -> str:
    return urlsafe_b64encode(json.dumps(key).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "path",
    [
        f"/rollouts?before={'0' * 12}{HUGE}",
        f"/fleet?page={'0' * 12}{'9' * 5000}",
        f"/api/v1/rollouts?cursor={cursor(HUGE)}",
        f"/api/v1/runs?cursor={cursor([HUGE, 'a', 1])}",
        f"/api/v1/crops?camera=a&cursor={cursor([HUGE, 'a'])}",
        f"/api/v1/audit?cursor={cursor(HUGE)}",
        f"/api/v1/audit?cursor={cursor(-HUGE)}",
        f"/clipart?after={cursor([HUGE, 'a', 'b'])}",
        f"/runs/cam-1/-{HUGE}",
        f"/runs/cam-1/-{HUGE}/files/verdict.json",
        f"/pictures/generation/cam-1/-{HUGE}/a.jpg",
        f"/clipart?sort=least-sure&after={cursor([-HUGE, 'a', 'b'])}",
    ],
)
def test_a_number_that_no_database_holds_is_no_mistake_of_ours(any_site: Site, path: str) -> None:
    assert signed_in(any_site, Role.ADMIN).get(path).status in (200, 400, 404)


# -- people, tokens and sessions --------------------------------------------------------------------------------


def test_no_token_makes_itself_a_person(site: Site) -> None:
    signed_in(site, Role.ADMIN, "ann")
    token = site.access.tokens.make(Person("ann", Role.ADMIN), "a report", "admin", 1)
    program = Client(make_app(site))
    acts = {
        "/people": {"name": "eve", "role": "admin", "password": PASSWORD},
        "/people/ann/password": {"password": f"{PASSWORD} of eve"},
        "/people/ann/role": {"role": "viewer"},
        "/people/ann/disable": {},
        "/people/ann/enable": {},
    }
    for path, form in acts.items():
        assert program.post(path, form, authorization=f"Bearer {token}").status == 403, path
    assert [one.name for one in site.access.people.all()] == ["ann"]
    assert site.access.people.enter("ann", PASSWORD) is not None


def test_who_has_a_whole_network_to_guess_from_is_one(site: Site) -> None:
    ours = [guessed(f"2001:db8:1:2::{number:x}", f"name-{number}") for number in range(1, 12)]
    for one in ours:
        site.access.attempts.failed(one)
    assert site.access.attempts.wait_s(guessed("2001:db8:1:2:ffff::1", "somebody")) > 0
    for other in ("2001:db8:1:3::1", "::ffff:192.0.2.1"):
        assert site.access.attempts.wait_s(guessed(other, "somebody")) == 0
    assert network_of("::ffff:192.0.2.1") == "192.0.2.1"


def test_a_password_that_was_just_changed_begins_no_session(any_site: Site) -> None:
    people, sessions = any_site.access.people, any_site.access.sessions
    people.add("ann", Role.ADMIN, PASSWORD)
    entered = people.enter("ann", PASSWORD)
    assert entered is not None
    any_site.clock.pass_(1)  # type: ignore[attr-defined]
    people.set_password("ann", f"{PASSWORD} of now")
    with pytest.raises(PeopleError, match="sign in again"):
        sessions.begin("ann", "127.0.0.1", "a browser", as_of_us=entered.changed_us)
    assert sessions.of("ann") == []
    assert sessions.begin("ann", "127.0.0.1", "a browser", as_of_us=people.read("ann").changed_us)


def test_one_person_has_so_many_sessions(site: Site) -> None:
    site.access.people.add("ann", Role.VIEWER, PASSWORD)
    for number in range(SESSIONS_MOST + 20):
        site.access.sessions.begin("ann", "127.0.0.1", f"browser {number}")
        site.clock.pass_(1)  # type: ignore[attr-defined]
    with site.engine.connect() as connection:
        left = connection.scalars(select(web_sessions.c.agent).where(web_sessions.c.person == "ann")).all()
    assert len(left) == SESSIONS_MOST
    assert f"browser {SESSIONS_MOST + 19}" in left


# -- what devices send ------------------------------------------------------------------------------------------


def store_crop(store: Store, pixels: int = 64, **values: object) -> str:
    """Stores a crop that says so; returns its id."""
    made = sealed(1, side_px=pixels)
    assert isinstance(made.envelope.header, CropHeader)
    header = msgspec.structs.replace(made.envelope.header, **values)
    noise = np.random.default_rng(1).integers(0, 256, (pixels, pixels, 3), dtype=np.uint8)
    one = seal(header, image(noise))
    fill_store(store, [one])
    return one.id


@pytest.fixture
def pictures() -> Iterator[Pictures]:
    with Pictures() as made:
        yield made


def test_a_frame_that_is_said_to_be_huge_costs_no_memory(empty: Store, pictures: Pictures) -> None:
    where = msgspec.structs.replace(origin(), frame_wh=(16_384, 16_384))
    sha256 = store_crop(empty, origin=where)
    tracemalloc.start()
    try:
        pictures.place(empty, sha256, 640)
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()


def test_an_outline_of_dust_is_drawn_as_quickly_as_any(empty: Store, pictures: Pictures) -> None:
    dust = np.zeros((1024, 1024), dtype=bool)
    dust[::2, ::2] = True
    sha256 = store_crop(
        empty, 1024, mask=encode_rle(dust), origin=msgspec.structs.replace(origin(), frame_wh=(2048, 2048))
    )
    tracemalloc.start()
    try:
        pictures.crop(empty, sha256)
        # Contours of the dust alone took 150 MB, and seconds.
        assert tracemalloc.get_traced_memory()[1] < 60e6
    finally:
        tracemalloc.stop()


def test_a_crop_of_the_far_future_and_of_many_words_has_a_page(empty: Store) -> None:
    words = {f"<b>{number}": 0.5 for number in range(5000)}
    captured = msgspec.structs.replace(sealed(1).envelope.header.captured, utc_us=2**62)
    sha256 = store_crop(empty, confidence_parts=words, captured=captured)
    page = signed_in(site_on(empty), Role.OPERATOR).get(f"/clipart/{sha256}")
    assert page.status == 200
    assert len(page.body) < 50_000
    assert "<b>4999" not in page.text


# -- what people draw -------------------------------------------------------------------------------------------


def test_outlines_around_everything_again_and_again_are_refused() -> None:
    width, height = SIZE_WH
    whole = [[0, 0], [width, 0], [width, height], [0, height]]
    things = [{"label": "person", "track": n, "amodal": whole, "visible": [whole] * 16} for n in range(1, 201)]
    with pytest.raises(DrawingError, match="times the frame"):
        read_drawing(json.dumps({"size_wh": SIZE_WH, "things": things}), SIZE_WH)


def at_once(acts: list[Callable[[], object]]) -> list[Exception]:
    """Runs all at the same time; returns what they raised."""
    raised: list[Exception] = []
    gate = threading.Barrier(len(acts))

    def run(act: Callable[[], object]) -> None:
        gate.wait()
        try:
            act()
        except (WaltError, DBAPIError, OSError) as error:
            raised.append(error)

    threads = [threading.Thread(target=run, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised


def test_one_who_saves_twice_at_once_loses_nothing(any_store: Store) -> None:
    [frame] = fill_frames(any_store, 1)
    drawings = Drawings(any_store.engine)
    for _ in range(5):
        assert not at_once([lambda: drawings.save(frame, "ann", drawing(0), SIZE_WH)] * 4)
        assert not at_once([lambda: drawings.finish(frame, "ann", drawing(0), SIZE_WH)] * 2)
    assert sorted(one.number for one in drawings.history(frame)) == list(range(1, 11))


def test_one_who_exports_twice_at_once_has_it_once(empty: Store, tmp_path: Path) -> None:
    [frame] = fill_frames(empty, 1)
    Drawings(empty.engine).finish(frame, "ann", drawing(0), SIZE_WH)
    folder = tmp_path / "truth" / "one"
    folder.parent.mkdir()
    raised = at_once([lambda: export_labels(empty, "cam-1", folder)] * 2)
    assert len(raised) <= 1
    assert read_holdout(folder).frames
    assert [one.name for one in folder.parent.iterdir()] == ["one"]
    with empty.engine.connect() as connection:
        assert shown_in(connection, [frame]) == {str(folder): 1}


def test_what_is_forgotten_while_it_is_exported_is_known(
    empty: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [frame] = fill_frames(empty, 1)
    Drawings(empty.engine).finish(frame, "ann", drawing(0), SIZE_WH)
    real, told = Store.get, []

    def forgetting(store: Store, sha256: str) -> Stored:
        with store.engine.connect() as connection:
            told.append(shown_in(connection, [frame]))
        return real(store, sha256)

    monkeypatch.setattr(Store, "get", forgetting)
    export_labels(empty, "cam-1", tmp_path / "one")
    assert told[0] == {str(tmp_path / "one"): 1}


def test_an_export_that_fails_leaves_no_word_of_itself(empty: Store, tmp_path: Path) -> None:
    [frame] = fill_frames(empty, 1)
    Drawings(empty.engine).finish(frame, "ann", drawing(0), SIZE_WH)
    (tmp_path / "file").write_text("")
    with pytest.raises((WaltError, OSError)):
        export_labels(empty, "cam-1", tmp_path / "file" / "one")
    with empty.engine.connect() as connection:
        assert shown_in(connection, [frame]) == {}


# -- rollouts ---------------------------------------------------------------------------------------------------


def test_a_person_and_the_engine_say_something_at_once(any_store: Store) -> None:
    table = Rollouts(any_store.engine)
    device = DeviceTopics("north", "walt-1")
    made = table.create(Release(9001, "one.walt", "a" * 64), [device], "ann")

    def engine_says() -> None:
        with transaction(any_store.engine) as connection:
            say(connection, made.id, 1, "rollout", "told", "canary")

    for _ in range(5):
        acts = [lambda: table.pause(made.id, "ann"), lambda: table.resume(made.id, "ann"), engine_says]
        raised = at_once([*acts, engine_says])
        assert not [one for one in raised if not isinstance(one, RolloutError)]
    assert len(table.read(made.id).events) >= 11


# -- what lies in a folder --------------------------------------------------------------------------------------


@pytest.fixture
def trained(empty: Store, tmp_path: Path) -> tuple[Client, Folder]:
    """Somebody who looks, and the folder of a generation that anything may lie in."""
    site = site_on(empty, home=tmp_path / "home")
    row = {"camera": "cam-1", "number": 1, "state": "done", "created_us": 1}
    blank = {
        one.name: "" if one.type.python_type is str else 0
        for one in generations.columns
        if not one.nullable and one.name not in row
    }
    with site.engine.begin() as connection:
        connection.execute(insert(generations), {**blank, **row})
    assert site.home is not None
    folder = Folder(Folder.path(site.home, "cam-1", 1))
    for part in (folder.logs, folder.train, folder.root / "reports" / "pictures" / "candidate"):
        part.mkdir(parents=True)
    return signed_in(site, Role.VIEWER), folder


def test_links_out_of_a_folder_lead_nowhere(trained: tuple[Client, Folder], tmp_path: Path) -> None:
    viewer, folder = trained
    outside = tmp_path / "key.pem"
    outside.write_text(SECRET)
    for place in (folder.bundle, folder.verdict, folder.composites, folder.logs / "train-1.log", folder.curves):
        place.symlink_to(outside)
        name = place.relative_to(folder.root)
        assert viewer.get(f"/runs/cam-1/1/files/{name}").status == 404, name
    page = viewer.get("/runs/cam-1/1")
    assert page.status == 200
    assert SECRET not in page.text


def test_what_is_no_file_holds_nobody_up(trained: tuple[Client, Folder]) -> None:
    viewer, folder = trained
    os.mkfifo(folder.logs / "pipe-1.log")
    os.mkfifo(folder.verdict)
    os.mkfifo(folder.curves)
    (folder.logs / "folder-1.log").mkdir()
    (folder.logs / "gone-1.log").symlink_to("nowhere")
    assert viewer.get("/runs/cam-1/1").status == 200


@pytest.mark.parametrize(
    "told",
    [
        {"slices": 5, "findings": 5},
        {"slices": [{"name": 1, "cases": "many", "candidate": "good", "interval": [1]}], "findings": [{"line": {}}]},
        {"bands": [{"band": {"low": "a"}, "mask_interval": "ab"}], "differences": [{"interval": {"a": 1}}]},
        {"slices": [{"name": "all", "cases": 1e400, "points": [1]}]},
    ],
)
def test_a_verdict_of_anything_has_a_page(trained: tuple[Client, Folder], told: dict[str, object]) -> None:
    viewer, folder = trained
    folder.verdict.write_text(json.dumps(told))
    folder.curves.write_text("[" * 100_000)
    assert viewer.get("/runs/cam-1/1").status == 200


def test_a_verdict_without_a_bottom_has_a_page(trained: tuple[Client, Folder]) -> None:
    viewer, folder = trained
    folder.verdict.write_text('{"slices":' + "[" * 1_000_000)
    folder.progress.write_text("[" * 1_000_000)
    assert viewer.get("/runs/cam-1/1").status == 200
