"""The client and the document tell of the same operations, and what the client reads is what home says."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.fleet_sizes import camera_name
from tests.walt_train.loop.web.filled import SMALL, Served, served
from tests.web import Web, failing
from walt_edge.contract.topics import DeviceTopics
from walt_train.loop.publish.repository import Release
from walt_train.loop.rollout.rollouts import Rollouts
from walt_train.loop.web.api import models
from walt_train.loop.web.api.document import document
from walt_train.loop.web.client import HomeClient, HomeError
from walt_train.loop.web.site import Site

METHODS = {
    name: method
    for name, method in inspect.getmembers(HomeClient, inspect.isfunction)
    if not name.startswith("_") and name != "each"
}
OPERATIONS = {
    operation["operationId"]: (path, method, operation)
    for path, methods in document()["paths"].items()
    for method, operation in methods.items()
}


def test_every_operation_has_a_method_and_every_method_an_operation() -> None:
    assert set(METHODS) == set(OPERATIONS)


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_a_method_takes_what_its_operation_takes_and_gives_what_it_gives(name: str) -> None:
    _, _, operation = OPERATIONS[name]
    taken = inspect.signature(METHODS[name]).parameters.keys() - {"self"}
    documented = {one["name"] for one in operation.get("parameters", ())}
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    if body is not None:
        documented |= set(document()["components"]["schemas"][body["$ref"].rpartition("/")[2]]["properties"])
    assert taken == documented
    given = operation["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    assert inspect.get_annotations(METHODS[name], eval_str=True)["return"] is getattr(models, given)


@pytest.fixture(scope="module")
def home(filled: Site) -> Iterator[Served]:
    with served(filled) as served_:
        yield served_


@pytest.fixture(scope="module")
def client(home: Served) -> Iterator[HomeClient]:
    with HomeClient(home.url, home.tokens["admin"]) as client:
        yield client


@pytest.fixture
def rollout(filled: Site, request: pytest.FixtureRequest) -> int:
    number = 50_000 + abs(hash((request.node.name, id(filled)))) % 1_000_000
    release = Release(number, f"{number}.walt", f"{number:064x}")
    return Rollouts(filled.engine, filled.clock).create(release, [DeviceTopics("north", "walt-client")], "test").id


def test_the_fleet_in_figures(client: HomeClient) -> None:
    assert client.me() == models.Me(name="some-admin", role="admin", token=client.me().token)
    fleet = client.fleet()
    assert (fleet.devices, fleet.cameras, fleet.online) == (SMALL.devices, SMALL.devices, 117)
    alerts = client.alerts(limit=500).items
    assert fleet.alerts == len(alerts)
    assert all(one.remedy for one in alerts)


@pytest.mark.parametrize("limit", [1, 7, 50, 500])
def test_lists_hold_everything_once_whatever_a_page_holds(client: HomeClient, limit: int) -> None:
    if limit > 1:
        names = [(one.site, one.device, one.camera) for one in client.each(client.cameras, limit=limit)]
        assert len(set(names)) == len(names) == SMALL.devices
        assert names == sorted(names)
    crops = [one.id for one in client.each(client.crops, camera=camera_name(1), limit=limit)]
    assert len(set(crops)) == len(crops) > 12
    alerts = list(client.each(client.alerts, limit=limit))
    assert len(alerts) == client.fleet().alerts
    runs = [
        (one.camera, one.number) for one in client.each(client.runs, camera=camera_name(0), limit=min(limit, 200))
    ]
    assert runs == [(camera_name(0), number) for number in range(12, 0, -1)]


def test_a_camera_with_its_figures_verdicts_and_crops(client: HomeClient) -> None:
    camera = client.camera(camera_name(0))
    assert camera.now is not None
    assert camera.now.camera == camera_name(0)
    assert camera.generations == 12
    assert len(client.camera_history(camera_name(0), span="week").items) >= 160
    assert [one.number for one in client.camera_verdicts(camera_name(0)).items] == list(range(1, 13))
    newest = client.crops(camera_name(0), limit=2).items
    assert newest[0].captured_us > newest[1].captured_us
    assert client.crop(newest[0].id) == newest[0]
    assert newest[0].label in ("person", "vehicle")
    assert client.crops(camera_name(0), kind="plate").items[0].box_xyxy is None


def test_a_rollout_is_paused_resumed_and_aborted(client: HomeClient, rollout: int) -> None:
    assert client.rollout(rollout).state == "waiting"
    assert client.pause(rollout, "the street is closed").state == "paused"
    assert client.rollout(rollout).events[-1].detail.endswith("the street is closed")
    assert client.resume(rollout).state == "waiting"
    assert client.abort(rollout, "a mistake").state == "rolling-back"
    with pytest.raises(HomeError, match=f"conflict: rollout {rollout} is rolling-back: expected waiting") as caught:
        client.rollback(rollout, "once more")
    assert caught.value.status == 409
    entry = client.audit(what="rollout.abort", limit=1).items[0]
    assert (entry.who, entry.subject, entry.detail) == ("some-admin", f"rollout {rollout}", "a mistake")
    assert entry.token
    assert [one.device for one in client.each(client.rollout_members, rollout=rollout, limit=1)][-1:] != []


def test_retry_says_why_it_cannot(client: HomeClient) -> None:
    with pytest.raises(HomeError, match="generation 12 has come after it") as caught:
        client.retry(camera_name(0), 1)
    assert caught.value.status == 409


@pytest.mark.parametrize(("role", "status"), [("viewer", 403), ("operator", 200)])
def test_a_token_does_what_its_scope_allows(home: Served, rollout: int, role: str, status: int) -> None:
    with HomeClient(home.url, home.tokens[role]) as client:
        assert client.me().role == role
        if status == 200:
            assert client.pause(rollout).state == "paused"
            return
        with pytest.raises(HomeError, match="needs the role operator") as caught:
            client.pause(rollout)
        assert caught.value.status == status
        with pytest.raises(HomeError, match="needs the role admin"):
            client.audit()


def test_errors_name_cause_and_remedy(home: Served, tmp_path: Path) -> None:
    with (
        HomeClient(home.url, "walt_no_token") as stranger,
        pytest.raises(HomeError, match="wrong, expired or revoked"),
    ):
        stranger.fleet()
    with HomeClient(home.url, home.tokens["viewer"]) as client:
        with pytest.raises(HomeError, match="nothing is known of a camera nobody: look for it") as caught:
            client.camera("nobody")
        assert caught.value.status == 404
        with pytest.raises(HomeError, match="this cursor is not ours: begin without one"):
            client.runs(cursor="bm8")
        with pytest.raises(HomeError, match="limit"):
            client.runs(limit=501)
    with HomeClient("http://127.0.0.1:9", "x") as nowhere, pytest.raises(HomeError, match="does not answer"):
        nowhere.me()
    with Web(tmp_path, answers={"/fleet": failing}) as web, HomeClient(web.url, "x") as elsewhere:
        with pytest.raises(HomeError, match="status 503, and no word of why"):
            elsewhere.fleet()
        (tmp_path / "api" / "v1").mkdir(parents=True)
        (tmp_path / "api" / "v1" / "me").write_text('{"name": 1}')
        with pytest.raises(HomeError, match="update walt-amodal"):
            elsewhere.me()
