"""Home by compose: by the specification's schema, and by what each part may do; no container engine is needed."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError

from tests import s3
from tests.deploy.composed import load, parse, variables, words
from tests.deploy.deployed import DEPLOY
from tests.deploy.test_docker import instructions, is_in_context
from tests.deploy.test_prometheus import QUERIES
from tests.material import ROOT
from tests.postgres import Postgres
from walt_train.loop.store.config import StoreConfig
from walt_train.loop.store.objects import ObjectBlobs

FOLDER = DEPLOY / "compose"
ENVIRONMENT = variables(FOLDER / ".env.example")
HOME = load(FOLDER / "compose.yaml", ENVIRONMENT)
SERVICES: dict[str, dict[str, Any]] = HOME["services"]
ONCE = {"folders", "init", "grants", "backup"}
OURS = ("identity", "ingest", "serve", "web")
HOME_IMAGE = "Dockerfile.home"


@pytest.mark.parametrize("path", ["compose/compose.yaml", "compose/compose.gpu.yaml", "docker/compose.yaml"])
def test_it_is_what_the_specification_says(path: str) -> None:
    pytest.importorskip("check_jsonschema", reason="pip install check-jsonschema, which brings the schema")
    schema = json.loads((files("check_jsonschema") / "builtin_schemas/vendor/compose-spec.json").read_text())
    validator = jsonschema.validators.validator_for(schema)(schema)
    faults = [
        f"{list(fault.path)}: {fault.message}"
        for fault in validator.iter_errors(yaml.safe_load((DEPLOY / path).read_text()))
    ]
    assert faults == []


def test_what_is_named_is_there() -> None:
    for name, service in SERVICES.items():
        assert set(service.get("networks", [])) <= set(HOME["networks"]), name
        assert set(service.get("secrets", [])) <= set(HOME["secrets"]), name
        assert set(service.get("depends_on", {})) <= set(SERVICES), name
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (FOLDER / source).exists() or source == "./truth", (name, source)
            elif not source.startswith("/"):
                assert source in HOME["volumes"], (name, source)
        if "build" in service:
            assert (FOLDER / service["build"]["context"]).resolve() == ROOT
            assert service["build"]["target"] in {
                one.words.split()[-1] for one in instructions(HOME_IMAGE) if one.name == "FROM"
            }


def test_every_variable_is_explained_and_none_is_too_many() -> None:
    used = set(
        re.findall(r"\$\{(\w+)", (FOLDER / "compose.yaml").read_text() + (FOLDER / "compose.gpu.yaml").read_text())
    )
    assert used == set(ENVIRONMENT)
    assert not [name for name in ENVIRONMENT if re.search("PASSWORD|SECRET|TOKEN|KEY", name)]


@pytest.mark.parametrize("name", SERVICES)
def test_every_part_is_confined(name: str) -> None:
    service = SERVICES[name]
    assert int(service["user"].split(":")[0]) > 0
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["ulimits"]["core"] == 0
    assert service["mem_limit"]
    assert service["pids_limit"] > 0
    assert not {"privileged", "cap_add", "pid", "ipc", "devices"} & set(service)
    assert "/var/run/docker.sock" not in str(service.get("volumes"))
    if name not in ONCE and name != "sql":  # sql's image has nothing that could ask it
        assert {"test", "interval", "timeout", "retries"} <= set(service["healthcheck"])
    assert service["restart"] == ("no" if name in ONCE else "unless-stopped")


@pytest.mark.parametrize("name", SERVICES)
def test_images_are_pinned(name: str) -> None:
    image = SERVICES[name]["image"]
    _, _, tag = image.partition(":")
    assert re.fullmatch(r"v?\d+\.\d+(\.\d+)?(-\w+)?", tag), image


def test_the_database_is_away_from_whoever_comes_from_outside() -> None:
    published = {name for name, service in SERVICES.items() if service.get("ports")}
    assert published == {"broker", "identity", "serve", "web", "grafana"}
    assert SERVICES["broker"]["networks"] == ["devices", "broker"]
    assert SERVICES["database"]["networks"] == SERVICES["blobs"]["networks"] == ["data"]
    for name in ("data", "broker", "watch"):
        assert HOME["networks"][name]["internal"] is True
    assert "data" not in SERVICES["grafana"]["networks"]
    assert SERVICES["broker"]["ports"] == ["8883:8883"]  # the workers' door is not published
    for name in ("web", "grafana"):
        assert SERVICES[name]["ports"][0].startswith("127.0.0.1:")


def test_only_identity_has_the_authorities() -> None:
    holders = {
        name
        for name, service in SERVICES.items()
        if any(v.startswith("identity:") for v in service.get("volumes", []))
    }
    assert holders == {"init", "identity"}
    assert "workers:/var/lib/walt/workers:ro" in SERVICES["ingest"]["volumes"]


def test_secrets_are_files() -> None:
    for name, service in SERVICES.items():
        for variable, value in service.get("environment", {}).items():
            if re.search("PASSWORD|PASSFILE|CREDENTIALS", variable):
                assert str(value).removeprefix("/run/secrets/") in service["secrets"], name
            assert "AWS_SECRET_ACCESS_KEY" not in variable
    store = StoreConfig(
        SERVICES["ingest"]["environment"]["WALT_DATABASE_URL"], SERVICES["ingest"]["environment"]["WALT_BLOB_URL"]
    )
    assert not store.database.password
    assert store.s3_options == {"endpoint": "http://blobs:8333", "region": "us-east-1"}
    assert store.database.host in SERVICES


@pytest.mark.parametrize("name", OURS)
def test_commands_are_understood_by_the_program(name: str) -> None:
    parse(["walt-loop", *words(SERVICES[name]["command"])])


def test_with_a_gpu_it_is_the_same_but_for_that() -> None:
    gpu = load(FOLDER / "compose.gpu.yaml", ENVIRONMENT)["services"]["serve"]
    line = words(gpu["command"])
    assert parse(["walt-loop", *line]).gpus == 1
    line.remove("--gpus")
    line.remove("1")
    assert line == words(SERVICES["serve"]["command"])


def test_the_backup_takes_two_folders_in_turn() -> None:
    program, option, line = SERVICES["backup"]["entrypoint"]
    said = subprocess.run(
        [program, option, line.replace("exec walt-loop", "echo walt-loop")],
        capture_output=True,
        text=True,
        check=True,
    )
    args = parse(said.stdout.split())
    assert args.folder in (Path("/var/lib/walt/backup/0"), Path("/var/lib/walt/backup/1"))


@pytest.mark.parametrize("name", ["ingest", "serve", "web"])
def test_who_does_not_answer_is_not_healthy(name: str) -> None:
    test = SERVICES[name]["healthcheck"]["test"]
    assert test[:2] == ["CMD", "python"]
    ended = subprocess.run([sys.executable, *test[2:]], capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 1
    assert "refused" in ended.stderr


# -- the scripts, for real ----------------------------------------------------------------------------------------


def make_secrets(folder: Path) -> dict[str, str]:
    ended = subprocess.run([FOLDER / "secrets.sh", folder], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_secrets_are_made_once_and_for_one_user_each(tmp_path: Path) -> None:
    subprocess.run(["bash", "-n", FOLDER / "secrets.sh"], check=True)
    made = make_secrets(tmp_path / "secrets")
    assert set(made) == set(HOME["secrets"])
    for name in made:
        status = (tmp_path / "secrets" / name).stat()
        assert stat.S_IMODE(status.st_mode) == 0o400, name
        users = {
            int(service["user"].split(":")[0]) for service in SERVICES.values() if name in service.get("secrets", [])
        }
        if os.geteuid() == 0:
            assert users == {status.st_uid}, name
    assert made["postgres_password"] in made["pgpass"]
    assert made["watch_password"] in made["watch_pgpass"]
    assert len(made["postgres_password"]) >= 32
    keys = json.loads(made["s3_config"])["identities"][0]["credentials"][0]
    assert keys["accessKey"] in made["s3_credentials"]
    assert keys["secretKey"] in made["s3_credentials"]
    assert make_secrets(tmp_path / "secrets") == made
    (tmp_path / "secrets" / "pgpass").unlink()
    refused = subprocess.run(
        [FOLDER / "secrets.sh", tmp_path / "secrets"], capture_output=True, text=True, check=False
    )
    assert refused.returncode == 1
    assert "restore it" in refused.stderr


def test_init_makes_bucket_tables_and_certificates_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    s3.set_keys(monkeypatch)
    with s3.S3.start(tmp_path) as blobs, Postgres.start() as postgres:
        url, where = postgres.database(), f"s3://made/store?endpoint={blobs.endpoint}&region=us-east-1"
        monkeypatch.setenv("WALT_DATABASE_URL", url)
        monkeypatch.setenv("WALT_BLOB_URL", where)
        line = [sys.executable, str(DEPLOY / "pki" / "init.py"), *words(SERVICES["init"]["command"])]
        line[line.index("/var/lib/walt")] = str(tmp_path / "home")
        for _ in range(2):
            ended = subprocess.run(line, capture_output=True, text=True, check=False, timeout=120)
            assert ended.returncode == 0, ended.stderr
        config = StoreConfig(url, where)
        ObjectBlobs(config, "envelopes").close()
        for path in ("identity/server.pem", "mosquitto/broker.pem", "workers/walt-ingest.pem", "tls/web.pem"):
            assert (tmp_path / "home" / path).is_file()
        assert (tmp_path / "home/workers/broker").read_text() == "home.example:8884\n"
        _the_watch_reads_what_it_counts_and_no_more(config, tmp_path)


def _the_watch_reads_what_it_counts_and_no_more(config: StoreConfig, tmp_path: Path) -> None:
    if shutil.which("psql") is None:
        pytest.skip("psql is not here: apt-get install postgresql-client")
    (tmp_path / "password").write_text("the watch's own")
    owner = config.database
    environment = os.environ | {"PGPASSWORD": str(owner.password), "WATCH_PASSWORD_FILE": str(tmp_path / "password")}
    script = ["psql", "-X", "-q", "-h", str(owner.host), "-p", str(owner.port), "-U", str(owner.username)]
    script += ["-d", str(owner.database), "-f", str(DEPLOY / "prometheus/watch.sql")]
    for _ in range(2):
        ended = subprocess.run(script, env=environment, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr
    watch = create_engine(owner.set(username="watch", password="the watch's own"))
    with watch.connect() as connection:
        for query in QUERIES:
            connection.execute(text(query["query"]))
        for denied in (
            "SELECT * FROM certificates",
            "SELECT * FROM envelopes",
            "SELECT * FROM devices",
            "DELETE FROM backups",
        ):
            connection.rollback()
            with pytest.raises(DBAPIError, match=r"permission denied|read-only"):
                connection.execute(text(denied))
    watch.dispose()


# -- the images ---------------------------------------------------------------------------------------------------


def test_the_images_are_made_of_what_is_here_and_pinned() -> None:
    for one in instructions(HOME_IMAGE):
        if one.name == "COPY" and "--from" not in one.words:
            for source in one.words.split()[:-1]:
                assert (ROOT / source).exists(), source
                assert is_in_context(source), source
        if one.name == "FROM":
            image, _, stage = one.words.split()
            assert image.islower() or image == "python"
            assert ":" not in image or re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", image), image
            assert stage
        if one.name == "RUN" and "pip install" in one.words:
            assert "-c constraints.txt" in one.words
        assert one.name != "ADD"


@pytest.mark.parametrize("target", ["loop", "trainer"])
def test_what_runs_is_nobody_and_has_no_tools(target: str) -> None:
    every = instructions(HOME_IMAGE)
    (stage,) = {one.stage for one in every if one.name == "FROM" and one.words.endswith(f"AS {target}")}
    own = [one for one in every if one.stage == stage]
    assert [one.words for one in own if one.name == "USER"] == ["10001:10001"]
    assert json.loads(next(one.words for one in own if one.name == "ENTRYPOINT")) == ["walt-loop"]
    assert f"--from=build-{target} /opt/walt /opt/walt" in [one.words for one in own if one.name == "COPY"]
    assert not re.search(r"pip install|curl|wget|gcc", " ".join(one.words for one in own))
    installs = next(
        one.words for one in every if "pip install" in one.words and one.stage == _stage(f"build-{target}")
    )
    extras = re.search(r"\.\[([^]]*)\]", installs)
    assert extras is not None
    assert ("train" in extras[1].split(",")) == (target == "trainer")


def _stage(name: str) -> int:
    return next(
        one.stage for one in instructions(HOME_IMAGE) if one.name == "FROM" and one.words.endswith(f"AS {name}")
    )


def test_volumes_find_folders_of_the_right_owner_in_the_image() -> None:
    made = next(one.words for one in instructions(HOME_IMAGE) if "install -d" in one.words)
    for name in ("folders", "init", *OURS, "backup"):
        for volume in SERVICES[name]["volumes"]:
            source, place = volume.split(":")[:2]
            if source in HOME["volumes"]:
                assert f" /{Path(place).name}" in made, place
                assert Path(place).parent == Path("/var/lib/walt")
