"""What Prometheus and Grafana are given: rules that fire when they should, and names that somebody really shows."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from prometheus_client.parser import text_string_to_metric_families as families
from sqlalchemy import text

from tests.broker import HOST, free_port
from tests.deploy.deployed import DEPLOY, running, set_up
from tests.material import ROOT
from tests.postgres import Postgres
from tests.waiting import wait_for
from tests.walt_train.loop.fleet.test_metrics import figures_of, street
from walt_train.loop.fleet.conditions import KINDS, Home
from walt_train.loop.store.config import StoreConfig
from walt_train.loop.store.database import open_database

FOLDER = DEPLOY / "prometheus"
RULES = [rule for group in yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"] for rule in group["rules"]]
BOARD = json.loads((DEPLOY / "grafana" / "walt.json").read_text())
SQL = yaml.safe_load((FOLDER / "sql.yml").read_text())
QUERIES = [metric for one in SQL["collectors"] for metric in one["metrics"]]
# Prometheus's own, the blackbox exporter's (asked below) and the node exporter's.
OTHERS = {"up", "ALERTS", "probe_success", "probe_ssl_earliest_cert_expiry"}
OTHERS |= {"node_filesystem_avail_bytes", "node_filesystem_size_bytes"}
_WORDS = {"by", "or", "and", "on", "ignoring", "time", "sum", "max", "min", "count", "absent", "rate", "increase"}
_WORDS |= {"topk", "bottomk", "quantile", "abs", "predict_linear", "count_values", "release"}

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not here: apt-get install prometheus"
)


def panels() -> Iterator[dict[str, Any]]:
    for panel in BOARD["panels"]:
        if panel["type"] != "row":
            yield panel


def expressions() -> list[str]:
    found = [rule["expr"] for rule in RULES]
    found += [target["expr"] for panel in panels() for target in panel["targets"]]
    return found + [one["expr"] for one in BOARD["annotations"]["list"]]


def names_in(expression: str) -> set[str]:
    """Metrics of an expression; label names stand in braces or brackets behind `by`."""
    bare = re.sub(r"by \([^)]*\)|\{[^}]*\}|\[[^\]]*\]|\"[^\"]*\"", " ", expression)
    return set(re.findall(r"[A-Za-z_][A-Za-z0-9_]*", bare)) - _WORDS


def labels_in(expression: str) -> Iterator[tuple[str, str]]:
    """Metric and label, for each selector."""
    for name, inside in re.findall(r"([A-Za-z_]\w*)\{([^}]*)\}", expression):
        for label in re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", inside):
            yield name, label


@pytest.fixture(scope="module")
def shown() -> dict[str, dict[str, set[str]]]:
    """What the fleet's exporter shows: for each name its labels, and their values."""
    fleet, court = street()
    court.home = Home(court.home.listening_us, free_bytes=1)
    page, _ = figures_of(fleet, court).render("")
    found: dict[str, dict[str, set[str]]] = {}
    for family in families(page.decode()):
        for sample in family.samples:
            labels = found.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                labels.setdefault(label, set()).add(value)
    return found


@pytest.mark.parametrize("expression", sorted(set(expressions())))
def test_every_metric_is_one_that_somebody_shows(expression: str, shown: dict[str, dict[str, set[str]]]) -> None:
    known = set(shown) | {query["metric_name"] for query in QUERIES} | OTHERS
    assert names_in(expression), expression
    assert names_in(expression) <= known, names_in(expression) - known
    for name, label in labels_in(expression):
        if name in shown:
            assert label in {*shown[name], "instance", "job"}, (name, label)


def test_every_kind_of_alert_reaches_a_person() -> None:
    selectors = [rule["expr"] for rule in RULES if "walt_fleet_alerts" in rule["expr"]]
    for name, kind in KINDS.items():
        by_name = any(f'kind="{name}"' in one for one in selectors)
        rest = [re.search(r'level="(\w+)", kind!~"([^"]*)"', one) for one in selectors]
        by_rest = any(one and one[1] == kind.level.name.lower() and name not in one[2].split("|") for one in rest)
        if name == "broker":  # WaltNobodyListens
            continue
        assert by_name != by_rest, name


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_every_alert_has_a_remedy_and_a_runbook_that_knows_it(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("urgent", "warning")
    assert set(rule["annotations"]) == {"summary", "remedy", "runbook"}
    runbook = ROOT / rule["annotations"]["runbook"]
    if runbook.parent.name == "runbooks":
        assert rule["alert"] in runbook.read_text(), runbook
    assert runbook.is_file()


@needs_promtool
@pytest.mark.parametrize(
    "words",
    [
        ("check", "rules", "alerts.yml"),
        ("check", "config", "--syntax-only", "prometheus.yml"),
        ("test", "rules", "alerts.test.yml"),
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_promtool_agrees(words: tuple[str, ...]) -> None:
    ended = subprocess.run(["promtool", *words], cwd=FOLDER, capture_output=True, text=True, check=False, timeout=120)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@needs_promtool
def test_promtool_parses_the_boards_expressions(tmp_path: Path) -> None:
    rules = [{"record": f"board:panel{n}", "expr": one} for n, one in enumerate(expressions())]
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "board", "rules": rules}]}))
    ended = subprocess.run(["promtool", "check", "rules", str(path)], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_what_is_asked_of_the_database_is_answered_by_it() -> None:
    with Postgres.start() as postgres:
        engine = open_database(StoreConfig(postgres.database(), ".").database)
        with engine.connect() as connection:
            for query in QUERIES:
                columns = list(connection.execute(text(query["query"])).keys())
                assert columns == [*query.get("key_labels", []), *query["values"]], query["metric_name"]
                assert len(query["values"]) == 1
                assert query["metric_name"].startswith("walt_home_")
        engine.dispose()


def test_the_board_is_whole() -> None:
    ids = [panel["id"] for panel in BOARD["panels"]]
    assert len(ids) == len(set(ids))
    rows = [panel["title"] for panel in BOARD["panels"] if panel["type"] == "row"]
    assert rows == ["Fleet", "Ingest", "Broker and parts", "Training", "Rollouts"]
    source = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"][
        0
    ]
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        assert panel["datasource"] == {"type": source["type"], "uid": source["uid"]}
        assert panel["title"]
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells


def test_modules_that_are_asked_for_are_there() -> None:
    modules = set(yaml.safe_load((FOLDER / "blackbox.yml").read_text())["modules"])
    for path in (DEPLOY / "compose/targets/probes.yml", DEPLOY / "kubernetes/base/targets/probes.yml"):
        groups = yaml.safe_load(path.read_text())
        assert {group["labels"]["module"] for group in groups} <= modules
        assert {"broker", "database", "blobs", "identity", "web", "serve"} == {
            one["labels"]["part"] for one in groups
        }


@pytest.mark.skipif(
    shutil.which("prometheus-blackbox-exporter") is None
    or shutil.which("mosquitto", path="/usr/sbin:/usr/bin") is None,
    reason="needs the packages prometheus-blackbox-exporter and mosquitto",
)
def test_the_probe_knows_a_broker_that_is_there_and_when_its_certificate_ends(tmp_path: Path) -> None:
    house = set_up(tmp_path / "home")
    config, port = tmp_path / "blackbox.yml", free_port()
    config.write_text((FOLDER / "blackbox.yml").read_text().replace("/run/walt", str(house.folder / "workers")))
    with running(house), (tmp_path / "log").open("wb") as log:
        words = ["prometheus-blackbox-exporter", f"--config.file={config}", f"--web.listen-address={HOST}:{port}"]
        probing = subprocess.Popen(words, stdout=log, stderr=log)
        try:
            wait_for(lambda: probed(port, house.address.workers_port, "broker").get("probe_success") == 1)
            found = probed(port, house.address.workers_port, "broker")
            assert found["probe_ssl_earliest_cert_expiry"] > 1.8e9
            assert probed(port, free_port(), "broker")["probe_success"] == 0
        finally:
            probing.terminate()
            probing.wait(30)


def probed(port: int, target: int, module: str) -> dict[str, float]:
    try:
        page = requests.get(f"http://{HOST}:{port}/probe?target={HOST}:{target}&module={module}", timeout=20)
    except OSError:
        return {}
    return {sample.name: sample.value for family in families(page.text) for sample in family.samples}
