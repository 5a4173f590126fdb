"""Home under Kubernetes: by the schemas, by the restricted profile, by who may reach whom; no cluster is needed."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.cluster import FOLDER, OVERLAYS, containers, from_anywhere, may_reach, objects, of_kind, pods
from tests.deploy.composed import parse
from tests.deploy.test_compose import SERVICES

# Each that is checked takes seconds; the newest is for what is applied.
CHECKED = [("files", "1.31"), ("small", "1.35"), ("large", "1.35")]
SECRETS = {"walt-database", "walt-blobs", "walt-grafana", "walt-workers", "walt-web-tls", "walt-updates-tls"}
SOURCES = ("files", *OVERLAYS)

every_source = pytest.mark.parametrize("source", SOURCES)
every_overlay = pytest.mark.parametrize("overlay", OVERLAYS)


@pytest.mark.parametrize(("source", "version"), CHECKED)
def test_every_object_is_what_the_schema_says(source: str, version: str) -> None:
    validator = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate")
    assert len(objects(source)) > 40
    for one in objects(source):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its own, about package data
            validator.validate(one, version, strict=True)


@every_source
def test_every_pod_is_restricted(source: str) -> None:
    for name, pod in pods(objects(source)).items():
        spec = pod["spec"]
        context = spec["securityContext"]
        assert context["runAsNonRoot"] is True, name
        assert context["runAsUser"] > 0
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
        assert not [one for one in spec.get("volumes", []) if "hostPath" in one]
        for container in containers(pod):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, (name, container["name"])
            assert container["resources"]["limits"]["memory"]
            assert {"cpu", "memory"} <= set(container["resources"]["requests"])


@every_source
def test_whoever_stays_is_probed(source: str) -> None:
    for name, pod in pods(objects(source)).items():
        if name == "backup":
            continue
        for container in pod["spec"]["containers"]:
            assert {"readinessProbe", "livenessProbe"} <= set(container), name
            names = {port["name"] for port in container["ports"]}
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                asked = container.get(probe, {})
                where = asked.get("httpGet") or asked.get("tcpSocket")
                assert where is None or where["port"] in names, name


@every_source
def test_accounts_have_no_token(source: str) -> None:
    accounts = of_kind(objects(source), "ServiceAccount")
    assert all(one["automountServiceAccountToken"] is False for one in accounts.values())
    assert {pod["spec"]["serviceAccountName"] for pod in pods(objects(source)).values()} <= set(accounts)
    assert not of_kind(objects(source), "Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding")


def references(value: Any, key: str) -> set[str]:
    """Names below every `key`, wherever it stands."""
    if isinstance(value, list):
        return set().union(*(references(one, key) for one in value))
    if not isinstance(value, dict):
        return set()
    found = set().union(*(references(one, key) for one in value.values()))
    inner = value.get(key)
    if isinstance(inner, dict) and isinstance(
        name := inner.get("name", inner.get("secretName", inner.get("claimName"))), str
    ):
        found.add(name)
    return found


@every_source
def test_secrets_are_named_and_never_there(source: str) -> None:
    found = objects(source)
    assert not of_kind(found, "Secret")
    named = references(list(found), "secret") | references(list(found), "secretKeyRef")
    named |= {tls["secretName"] for one in of_kind(found, "Ingress").values() for tls in one["spec"]["tls"]}
    assert named <= SECRETS
    for pod in pods(found).values():
        for container in containers(pod):
            for variable in container.get("env", []):
                if re.search(r"PASSWORD$|SECRET|TOKEN", variable["name"]):
                    assert "value" not in variable, variable["name"]
    settings = [one["data"] for name, one in of_kind(found, "ConfigMap").items() if name.startswith("settings")]
    assert not [key for one in settings for key in one if re.search("PASSWORD|SECRET|TOKEN", key)]


@every_overlay
def test_whatever_is_named_is_there(overlay: str) -> None:
    found = objects(overlay)
    claims = set(of_kind(found, "PersistentVolumeClaim"))
    maps = set(of_kind(found, "ConfigMap"))
    labels = [pod["metadata"]["labels"] for pod in pods(found).values()]
    assert references(list(found), "persistentVolumeClaim") <= claims
    assert references(list(found), "configMap") | references(list(found), "configMapRef") <= maps
    for name, service in of_kind(found, "Service").items():
        if service["spec"].get("type") != "ExternalName":
            assert any(service["spec"]["selector"].items() <= one.items() for one in labels), name
    for one in of_kind(found, "PodDisruptionBudget").values():
        assert any(one["spec"]["selector"]["matchLabels"].items() <= label.items() for label in labels)
    for one in of_kind(found, "HorizontalPodAutoscaler").values():
        target = one["spec"]["scaleTargetRef"]
        assert target["name"] in of_kind(found, target["kind"])
        replicas = of_kind(found, target["kind"])[target["name"]]["spec"]["replicas"]
        assert one["spec"]["minReplicas"] == replicas <= one["spec"]["maxReplicas"]
    for ingress in of_kind(found, "Ingress").values():
        hosts = {rule["host"] for rule in ingress["spec"]["rules"]}
        assert hosts == {host for tls in ingress["spec"]["tls"] for host in tls["hosts"]}


@every_overlay
def test_images_are_pinned_and_those_of_compose(overlay: str) -> None:
    for name, pod in pods(objects(overlay)).items():
        for container in containers(pod):
            assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+(\.\d+)?(-\w+)?", container["image"]), name
            assert container["image"] in {service["image"] for service in SERVICES.values()}


@every_overlay
def test_commands_are_understood_by_the_program(overlay: str) -> None:
    (settings,) = (
        one["data"] for name, one in of_kind(objects(overlay), "ConfigMap").items() if name.startswith("settings")
    )
    seen = set()
    for pod in pods(objects(overlay)).values():
        for container in containers(pod):
            if container["image"].split(":")[0] in ("walt-loop", "walt-trainer") and "args" in container:
                line = [re.sub(r"\$\((\w+)\)", lambda one: settings[one[1]], word) for word in container["args"]]
                parse(["walt-loop", *line])
                seen.add(line[0])
    assert seen == {"identity", "ingest", "serve", "web"}


@every_source
def test_the_backup_takes_two_folders_in_turn(source: str) -> None:
    (backup,) = pods(objects(source))["backup"]["spec"]["containers"]
    program, option, line = (word.replace("$$", "$") for word in backup["command"])  # as the kubelet reads it
    assert "$$" not in line
    said = subprocess.run(
        [program, option, line.replace("exec ", "echo ")], capture_output=True, text=True, check=True
    )
    args = parse(said.stdout.split())
    assert args.folder in (Path("/var/lib/walt/backup/0"), Path("/var/lib/walt/backup/1"))


@pytest.mark.parametrize("source", ["files", "small"])
def test_who_may_reach_whom(source: str) -> None:
    found = objects(source)
    reach = {
        (client, server)
        for server, port in (
            ("database", 5432),
            ("blobs", 8333),
            ("broker", 8884),
            ("ingest", 9464),
            ("prometheus", 9090),
        )
        for client in pods(found)
        if may_reach(found, client, server, port)
    }
    users = {"identity", "ingest", "serve", "web", "backup", "blackbox"}
    assert reach == {
        *((one, "database") for one in (*users, "sql")),
        *((one, "blobs") for one in users),
        *((one, "broker") for one in ("ingest", "serve", "blackbox")),
        ("prometheus", "ingest"),
        ("grafana", "prometheus"),
    }


@every_source
def test_devices_reach_two_doors_and_the_broker_reaches_nobody(source: str) -> None:
    found = objects(source)
    outside = {name: ports for name in pods(found) if (ports := from_anywhere(found, name))}
    assert outside == {"broker": {8883}, "identity": {8843}}
    for name in pods(found):
        for port in (5432, 8333, 8843, 9464, 8080):
            assert not may_reach(found, "broker", name, port), name
    doors = [one for one in of_kind(found, "Service").values() if one["spec"].get("type") == "LoadBalancer"]
    assert {port["port"] for one in doors for port in one["spec"]["ports"]} == {8883, 8843}
    nothing = of_kind(found, "NetworkPolicy")["nothing"]["spec"]
    assert nothing == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


@every_source
def test_only_identity_has_the_authorities(source: str) -> None:
    holders = {
        name
        for name, pod in pods(objects(source)).items()
        for volume in pod["spec"].get("volumes", [])
        if volume.get("persistentVolumeClaim", {}).get("claimName") == "home"
    }
    assert holders == {"identity"}


def test_sizes_differ_as_they_should() -> None:
    small, large = objects("small"), objects("large")
    assert {"database", "blobs"} <= set(of_kind(small, "StatefulSet"))
    assert not {"database", "blobs"} & set(of_kind(large, "StatefulSet"))
    (trainer,) = pods(large)["serve"]["spec"]["containers"]
    assert trainer["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert parse(["walt-loop", *trainer["args"]]).gpus == 1
    assert of_kind(large, "PersistentVolumeClaim")["loop"]["spec"]["accessModes"] == ["ReadWriteMany"]


def test_the_namespace_enforces_the_restricted_profile() -> None:
    namespace = of_kind(objects("files"), "Namespace")["walt"]
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    base = yaml.safe_load((FOLDER / "base" / "kustomization.yaml").read_text())
    named = {path for path in base["resources"] if path.endswith(".yaml")}
    assert named == {path.name for path in (FOLDER / "base").glob("*.yaml")} - {"kustomization.yaml"}


# What a cluster would answer: it knows nothing, keeps what it is told, and has identity's files.
KUBECTL = """#!/usr/bin/env bash
set -eu
echo "$*" >>"$CALLS"
case "$*" in
  *"get secret"*) [ -e "$CALLS.${*: -1}" ] ;;
  *"create secret"*"--dry-run"*) folder=$7; ls "${folder#--from-file=}" >>"$CALLS.workers" ;;
  *"create secret"*) touch "$CALLS.$6" ;;
  *" exec "*) tar -C "$WORKERS" -c . ;;
  *"apply -f -"*) cat >/dev/null ;;
esac
"""


def test_secrets_are_made_once_and_workers_are_brought(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "kubectl"
    program.write_text(KUBECTL)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    workers = tmp_path / "workers"
    workers.mkdir()
    for name in ("ingest-group", "walt-home.pem", "walt-ingest.pem", "home-ca.pem"):
        (workers / name).write_text("x")
    calls = tmp_path / "calls"
    environment = os.environ | {
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "CALLS": str(calls),
        "WORKERS": str(workers),
        "TMPDIR": str(tmp_path),
    }
    for _ in range(2):
        subprocess.run([FOLDER / "secrets.sh"], env=environment, check=True, capture_output=True)
    made = [line for line in calls.read_text().splitlines() if "create secret" in line]
    assert [line.split()[5] for line in made] == ["walt-database", "walt-blobs", "walt-grafana"]
    assert not re.search(r"from-literal", calls.read_text())  # nothing in the list of processes
    subprocess.run([FOLDER / "secrets.sh", "workers"], env=environment, check=True, capture_output=True)
    assert "walt-ingest.pem" in (tmp_path / "calls.workers").read_text()
    (workers / "ingest-group").unlink()
    refused = subprocess.run(
        [FOLDER / "secrets.sh", "workers"], env=environment, capture_output=True, text=True, check=False
    )
    assert refused.returncode == 1
    assert "read its log" in refused.stderr
    assert not list(tmp_path.glob("tmp.*"))
