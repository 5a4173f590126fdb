"""The API answers whatever anybody asks as its document says: generated requests against the real server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from benchmarks.fleet_sizes import camera_name
from tests.walt_train.loop.web.client import Client, signed_in
from tests.walt_train.loop.web.filled import Served, served
from walt_train.loop.web.access.person import Role
from walt_train.loop.web.api.document import document
from walt_train.loop.web.app import make_app
from walt_train.loop.web.site import Site

CHECKS = [not_a_server_error, content_type_conformance, response_schema_conformance, status_code_conformance]
schema = schemathesis.openapi.from_dict(document())
FEW = settings(
    max_examples=3,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.generate),
)


@pytest.fixture(scope="module")
def home(filled: Site) -> Iterator[Served]:
    with served(filled) as served_:
        yield served_


@schema.parametrize()
@FEW
def test_generated_requests_are_answered_as_documented(case: Case[Any], home: Served) -> None:
    check(case, home)


@pytest.mark.slow
@schema.parametrize()
@settings(FEW, max_examples=60)
def test_many_generated_requests_are_answered_as_documented(case: Case[Any], home: Served) -> None:
    check(case, home)


def check(case: Case[Any], home: Served) -> None:
    headers = {"Authorization": f"Bearer {home.tokens['admin']}"}
    case.call_and_validate(base_url=home.url.rstrip("/"), headers=headers, checks=CHECKS)


@pytest.mark.parametrize("path", [path for path, methods in document()["paths"].items() if "get" in methods])
def test_nobody_reads_without_a_token(filled: Site, path: str) -> None:
    path = path.replace("{camera}", camera_name(0)).replace("{number}", "1").replace("{rollout}", "1")
    answer = Client(make_app(filled)).get(path.replace("{id}", "0" * 64), accept="application/json")
    assert answer.status == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["detail"]
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("asked", "status", "words"),
    [
        ("cameras?limit=0", 400, "limit"),
        ("cameras?state=asleep", 400, "state"),
        ("cameras?cursor=%00", 400, ""),
        ("cameras?cursor=e30", 400, "cursor is not ours"),
        ("crops", 400, "camera"),
        ("crops/abc", 400, "id"),
        ("crops/" + "0" * 64, 404, "may have been forgotten"),
        ("runs/nobody/1", 404, "look for it at /api/v1/runs"),
        ("rollouts/999999", 404, "there is no rollout 999999"),
        ("nothing", 404, ""),
    ],
)
def test_what_cannot_be_answered_is_a_problem(filled: Site, asked: str, status: int, words: str) -> None:
    answer = signed_in(filled, Role.VIEWER).get(f"/api/v1/{asked}", accept="application/json")
    assert answer.status == status
    assert answer.json["status"] == status
    assert words in answer.json["detail"]


def test_the_document_is_given_and_shown(filled: Site) -> None:
    client = signed_in(filled, Role.VIEWER)
    assert client.get("/api/v1/openapi.json").json == document()
    page = client.get("/api").text
    for path in document()["paths"]:
        assert path in page
    assert Client(make_app(filled)).get("/api").status == 303


def test_a_session_s_program_needs_its_secret_to_change_anything(filled: Site) -> None:
    client = signed_in(filled, Role.OPERATOR)
    answer = client.ask("POST", "/api/v1/rollouts/1/pause", b"{}", {"content_type": "application/json"})
    assert answer.status == 403
