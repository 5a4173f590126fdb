"""A camera's page: its figures over time, its pictures, its models, and what is said where nothing is known."""

from __future__ import annotations

import random
import re
from dataclasses import replace

import pytest
from sqlalchemy import insert

from benchmarks.fleet_filling import put, sample_rows
from benchmarks.fleet_sizes import Size, camera_name, who
from tests.walt_train.loop.web.client import Client, signed_in
from tests.walt_train.loop.web.filled import SMALL
from walt_edge.contract.topics import Kind
from walt_train.loop.fleet.state import camera_key
from walt_train.loop.fleet.tables import fleet_samples
from walt_train.loop.serve.folder import Folder
from walt_train.loop.serve.triggers.tables import waits
from walt_train.loop.store.database import transaction
from walt_train.loop.store.store import Store
from walt_train.loop.web.access.person import Role
from walt_train.loop.web.queries import camera as asked
from walt_train.loop.web.queries import runs
from walt_train.loop.web.site import Site

HOUR_US = 3_600_000_000


@pytest.fixture(scope="module")
def viewer(filled: Site) -> Client:
    return signed_in(filled, Role.VIEWER)


def test_the_page_shows_all_that_is_known(viewer: Client) -> None:
    page = viewer.get(f"/cameras/{camera_name(0)}").text
    for heading in ("Until the next generation", "Over time", "Drift", "Newest crops", "Background by hour"):
        assert f"<h2>{heading}</h2>" in page
    for heading in ("Generations", "Rollouts"):
        assert f"<h2>{heading}</h2>" in page
    # Crops of the filling are a minute apart: the newest came now.
    assert page.count('class="thumb"') == 24
    assert page.count('<img src="/pictures/plate/') == 24
    assert page.count('class="chart-dot') == 12
    assert "/runs/harbour-0000/12" in page


def test_the_newest_crops_and_a_plate_for_each_hour(filled: Site) -> None:
    found = asked.newest(filled.engine, camera_name(1), Kind.CROP, 5)
    assert [one.captured_us for one in found] == [filled.clock() - n * 60_000_000 for n in range(5)]
    plates = asked.plates_by_hour(filled.engine, camera_name(1))
    assert len(plates) == 24
    assert all(plate.captured_us // HOUR_US % 24 == hour for hour, plate in plates.items())


@pytest.mark.parametrize(
    ("span", "moments", "width_s"),
    [("hour", 60, 60), ("day", 144, 600), ("week", 168, 3600), ("year", 183, 172_800)],
)
def test_figures_over_a_span(filled: Site, span: str, moments: int, width_s: int) -> None:
    found = asked.history(filled.engine, camera_key(*who(0)), span, filled.clock())
    assert abs(len(found) - moments) <= 2
    assert [one.at_us for one in found] == sorted({one.at_us for one in found})
    assert {one.span_s for one in found} == {width_s}
    assert all(one.at_us > filled.clock() - 369 * 24 * HOUR_US for one in found)


@pytest.mark.parametrize(
    ("number", "query", "span"),
    [(0, "", "day"), (0, "?span=hour", "hour"), (SMALL.watched, "", "hour"), (SMALL.watched, "?span=day", "day")],
)
def test_a_camera_that_is_new_begins_with_its_first_hour(viewer: Client, number: int, query: str, span: str) -> None:
    page = viewer.get(f"/cameras/{camera_name(number)}{query}").text
    assert re.findall(r'aria-current="page">(\w+)</a>', page)[-1] == span


def test_a_point_is_what_its_samples_add_up_to(empty: Store) -> None:
    now_us = 1_795_000_000_000_000
    size = Size(devices=1, crops=0, pictured=0, envelopes=0, watched=1, generations=0, rollouts=0)
    rows = list(sample_rows(size, now_us, random.Random(5)))
    put(empty.engine, fleet_samples, rows)
    key = camera_key(*who(0))
    for point in asked.history(empty.engine, key, "day", now_us):
        inside = [
            row for row in rows if row["tier"] == 60 and point.at_us <= row["at_us"] < point.at_us + 600_000_000
        ]
        assert point.watched == pytest.approx(sum(row["frames_processed"] for row in inside) / 10)
        assert point.crops == sum(row["crops_chosen"] for row in inside)
        means = sum(row["frame_age_ms_p50_sum"] for row in inside) / sum(row["count"] for row in inside)
        assert point.age_ms == pytest.approx(means)
        assert point.waiting == max(row["spool_depth_max"] for row in inside)


def test_drift_compares_a_week_with_the_weeks_before(filled: Site) -> None:
    found = {one.name: one for one in asked.drift(filled.engine, camera_key(*who(0)), camera_name(0), filled.clock())}
    crops = found["Crops a week"]
    per_week = asked.weeks(filled.engine, camera_name(0), filled.clock())
    assert len(per_week) == 5
    assert crops.now == per_week[0].crops
    earlier = [week.crops for week in per_week[1:] if week.crops]
    assert crops.before == pytest.approx(sum(earlier) / len(earlier))
    lens = found["Lens, clearness at its worst"]
    assert (lens.now, lens.before) == (90.0, 90.0)
    assert lens.change == pytest.approx(0.0)
    assert found["Their mean score"].now is None, "no model looked"


def test_verdicts_are_drawn_with_their_intervals(filled: Site, viewer: Client) -> None:
    found = runs.judged(filled.engine, camera_name(2))
    assert [one.number for one in found] == list(range(1, 13))
    assert all(one.interval and one.interval[0] < (one.points or 0) < one.interval[1] for one in found)
    page = viewer.get(f"/cameras/{camera_name(2)}").text
    assert page.count('class="chart-interval') == 12


def test_what_it_waits_for_is_told(filled: Site, viewer: Client) -> None:
    name = camera_name(77)
    row = {"camera": name, "looked_us": filled.clock() - 60_000_000, "is_ready": False, "gain": 0.5}
    with transaction(filled.engine) as connection:
        connection.execute(insert(waits), row | {"line": "no model yet: 7 of 50 crops"})
    page = viewer.get(f"/cameras/{name}").text
    assert "No model yet: 7 of 50 crops." in page
    assert "1 min ago" in page
    assert "No model was trained for it yet." in page


def test_pictures_that_a_generation_left_are_shown(filled: Site, viewer: Client) -> None:
    assert filled.home is not None
    name = camera_name(1)
    last = runs.listed(filled.engine, camera=name, limit=1)[0]
    folder = Folder.of(filled.home, last).root
    for who_ in ("champion", "candidate"):
        (folder / "reports" / "pictures" / who_).mkdir(parents=True, exist_ok=True)
        (folder / "reports" / "pictures" / who_ / "000001.jpg").write_bytes(b"jpeg")
        (folder / "reports" / "pictures" / who_ / "notes.txt").write_bytes(b"none")
    (folder / "composites.jpg").write_bytes(b"jpeg")
    page = viewer.get(f"/cameras/{name}").text
    root = f"/pictures/generation/{name}/{last.number}"
    assert f'src="{root}/composites.jpg"' in page
    assert f'src="{root}/reports/pictures/champion/000001.jpg"' in page
    assert f'src="{root}/reports/pictures/candidate/000001.jpg"' in page
    assert "notes" not in page


@pytest.mark.parametrize("name", ["nobody", "..%2f..%2fetc", "a%20b", "%3Cscript%3E", "x" * 300])
def test_what_is_no_camera_is_not_found(viewer: Client, name: str) -> None:
    answer = viewer.get(f"/cameras/{name}")
    assert answer.status == 404
    assert "<script>" not in re.sub(r'<script src="[^"]*"', "", answer.text)


def test_alerts_of_a_camera_stand_on_its_page(viewer: Client) -> None:
    page = viewer.get(f"/cameras/{camera_name(50)}").text
    assert 'role="alert"><b>The device is away</b>' in page


def test_without_home_s_folder_a_camera_is_shown_as_far_as_the_store_knows(filled: Site) -> None:
    answer = signed_in(replace(filled, home=None), Role.VIEWER).get(f"/cameras/{camera_name(0)}")
    assert answer.status == 200
    assert "<h2>Newest crops</h2>" in answer.text
