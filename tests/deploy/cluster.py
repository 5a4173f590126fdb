"""Kubernetes' manifests as objects: as the files say them, and as kustomize builds an overlay."""

from __future__ import annotations

import functools
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.deploy.deployed import DEPLOY

FOLDER = DEPLOY / "kubernetes"
OVERLAYS = ("small", "large")
Object = dict[str, Any]


@functools.cache
def written() -> tuple[Object, ...]:
    """Every object of base and components, without kustomize."""
    paths = [*(FOLDER / "base").glob("*.yaml"), *FOLDER.glob("components/*/*.yaml")]
    return tuple(
        one
        for path in sorted(paths)
        if path.name != "kustomization.yaml"
        for one in yaml.load_all(path.read_text(), yaml.CSafeLoader)
    )


@functools.cache
def built(overlay: str) -> tuple[Object, ...]:
    """What `kubectl kustomize` makes of an overlay; skips the test where kubectl is not."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not here: apt-get install kubernetes-client")
    words = ["kubectl", "kustomize", str(FOLDER / "overlays" / overlay)]
    ended = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    assert ended.returncode == 0, ended.stderr
    return tuple(yaml.load_all(ended.stdout, yaml.CSafeLoader))


def objects(source: str) -> tuple[Object, ...]:
    """`files`, or an overlay."""
    return written() if source == "files" else built(source)


def of_kind(found: tuple[Object, ...], *kinds: str) -> dict[str, Object]:
    """By name."""
    return {one["metadata"]["name"]: one for one in found if one["kind"] in kinds}


def pods(found: tuple[Object, ...]) -> dict[str, Object]:
    """Pod templates by the name of what makes them."""
    made = of_kind(found, "Deployment", "StatefulSet", "Job")
    templates = {name: one["spec"]["template"] for name, one in made.items()}
    for name, one in of_kind(found, "CronJob").items():
        templates[name] = one["spec"]["jobTemplate"]["spec"]["template"]
    return templates


def containers(pod: Object) -> Iterator[Object]:
    """All of them, those that run first as well."""
    yield from pod["spec"].get("initContainers", [])
    yield from pod["spec"]["containers"]


def selects(selector: Object, labels: dict[str, str]) -> bool:
    """Whether a label selector takes a pod."""
    for expression in selector.get("matchExpressions", []):
        assert expression["operator"] == "In"
        if labels.get(expression["key"]) not in expression["values"]:
            return False
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())


def may_reach(found: tuple[Object, ...], client: str, server: str, port: int) -> bool:
    """Whether the policies let one part speak to another: the client may leave, and the server takes it."""
    labels = {name: pod["metadata"]["labels"] for name, pod in pods(found).items()}
    policies = [one["spec"] for one in of_kind(found, "NetworkPolicy").values()]
    leaves = _allowed(policies, "Egress", labels[client], labels[server], port)
    return leaves and _allowed(policies, "Ingress", labels[server], labels[client], port)


def from_anywhere(found: tuple[Object, ...], server: str) -> set[int]:
    """Ports of a part that whoever is outside may reach."""
    labels = pods(found)[server]["metadata"]["labels"]
    return {
        port["port"]
        for policy in of_kind(found, "NetworkPolicy").values()
        if selects(policy["spec"]["podSelector"], labels)
        for rule in policy["spec"].get("ingress", [])
        if "from" not in rule
        for port in rule["ports"]
    }


def _allowed(policies: list[Object], way: str, own: dict[str, str], other: dict[str, str], port: int) -> bool:
    mine = [one for one in policies if way in one["policyTypes"] and selects(one["podSelector"], own)]
    if not mine:
        return True
    peers = "to" if way == "Egress" else "from"
    return any(
        any(one["port"] == port for one in rule.get("ports", []))
        and (
            peers not in rule
            or any("podSelector" in one and selects(one["podSelector"], other) for one in rule[peers])
        )
        for policy in mine
        for rule in policy.get(way.lower(), [])
    )
