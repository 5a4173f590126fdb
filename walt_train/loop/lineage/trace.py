"""`walt-loop trace`: a tree up to what something was made of, and down to what was made of it and where that runs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from sqlalchemy import Connection

from walt_edge.contract.bundle import Bundle
from walt_edge.contract.errors import UsageError, WaltError
from walt_train.engine.learned import FILE_NAME as LEARNED
from walt_train.engine.learned import Learned, read_learned
from walt_train.loop.lineage import graph
from walt_train.loop.lineage.record import release_id, run_id

_HEX = re.compile(r"[0-9a-f]{4,64}")
_RUN = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]{0,63})/([1-9][0-9]{0,8})")
_RELEASE = re.compile(r"[1-9][0-9]{0,18}")
_TITLES = {"clipart": "clip art", "run": "generation"}
_ROLES = {
    "train": "train",
    "validate": "choose the threshold",
    "clip": "clips",
    "plate": "plates",
    "left": "left out by mining",
}
_CAMERAS_SHOWN = 8


class TraceError(WaltError):
    """Nothing is known of what was asked for, or too much."""


class Node(msgspec.Struct, omit_defaults=True):
    """A line of the tree.

    Attributes:
        id: What is meant.
        kind: Its kind.
        line: For people.
        made_of: What it was made of.
        made: What was made of it.
        crops: Of clip art: counts by role, camera and day.
        ids: Of clip art, if all were asked for: ids by role.
        devices: Of a release: who was last told to run it.
    """

    id: str
    kind: str
    line: str
    made_of: list[Node] = []
    made: list[Node] = []
    crops: dict[str, dict[str, dict[str, int]]] = {}
    ids: dict[str, list[str]] = {}
    devices: list[str] = []


def trace(connection: Connection, asked: str, *, every: bool = False) -> Node:
    """What is known of something.

    Args:
        connection: To the store's database.
        asked: The id or the beginning of the id of a crop or of a file; CAMERA/GENERATION; a release's number; the
            path of a bundle, of a `learned.json`, or of a folder that holds one.
        every: Whether every crop is named.

    Raises:
        TraceError: Nothing is known of it, or it can mean several things.
        WaltError: The file cannot be read.
    """
    if "/" not in asked and _HEX.fullmatch(asked) and not (_RELEASE.fullmatch(asked) and len(asked) < 8):
        return _of_prefix(connection, asked, every)
    if _RELEASE.fullmatch(asked):
        return _of(connection, release_id(int(asked)), f"release {asked}", every)
    path = Path(asked)
    if path.is_file() or (path / LEARNED).is_file():
        return of_file(path, connection, every=every)
    run = _RUN.fullmatch(asked)
    if run:
        return _of(connection, run_id(run[1], int(run[2])), asked, every)
    raise UsageError(
        f"'{asked}' is neither a file nor an id: give 4 or more digits of a sha256, CAMERA/GENERATION, "
        "a release's number, or a bundle"
    )


def of_file(path: Path, connection: Connection | None = None, *, every: bool = False) -> Node:
    """What a file says of itself, and what the store knows of it.

    Raises:
        WaltError: It is no bundle and no `learned.json`.
    """
    if path.is_dir() or path.name == LEARNED:
        return _of_learned(path / LEARNED if path.is_dir() else path, connection, every)
    bundle = Bundle.read(path)
    if connection is not None and graph.artifact(connection, bundle.sha256) is not None:
        return _of(connection, bundle.sha256, str(path), every)
    lineage = bundle.manifest.lineage
    made_of = None
    if connection is not None and graph.artifact(connection, lineage.checkpoint_sha256) is not None:
        made_of = _up(connection, lineage.checkpoint_sha256, every)
    data = [Node(one, "data", f"data {one[:12]}, as its manifest says") for one in lineage.trained]
    sha256 = lineage.checkpoint_sha256
    words = f"checkpoint {sha256[:12]}: recipe {lineage.recipe}, seed {lineage.seed}, {lineage.steps} steps"
    source = made_of or Node(sha256, "checkpoint", f"{words}; unknown to this store", made_of=data)
    return Node(bundle.sha256, "bundle", f"bundle {bundle.manifest.name} {bundle.sha256[:12]}", made_of=[source])


def lines(node: Node) -> Iterator[str]:
    """The tree for a terminal: what it was made of above the thing itself would be upside down, so it comes first."""
    yield node.line
    yield from _details(node, "  ")
    for title, nodes in (("made of", node.made_of), ("made of it", node.made)):
        if nodes:
            yield f"{title}:"
            yield from _branches(nodes, "")


def _branches(nodes: Iterable[Node], indent: str) -> Iterator[str]:
    every = list(nodes)
    for place, node in enumerate(every):
        is_last = place == len(every) - 1
        yield f"{indent}{'└─' if is_last else '├─'} {node.line}"
        below = indent + ("   " if is_last else "│  ")
        yield from _details(node, below)
        yield from _branches([*node.made_of, *node.made], below)


def _details(node: Node, indent: str) -> Iterator[str]:
    for role, cameras in node.crops.items():
        for camera, by_day in list(cameras.items())[:_CAMERAS_SHOWN]:
            told = ", ".join(f"{day}: {count}" for day, count in sorted(by_day.items()))
            yield f"{indent}{sum(by_day.values())} {_ROLES.get(role, role)}, {camera} ({told})"
    for role, ids in node.ids.items():
        for one in ids:
            yield f"{indent}{_ROLES.get(role, role)} {one}"
    for device in node.devices:
        yield f"{indent}{device}"


def _of_prefix(connection: Connection, prefix: str, every: bool) -> Node:
    found = graph.find(connection, prefix)
    if not found:
        raise TraceError(f"nothing in this store has an id that begins with {prefix}")
    if len(found) > 1 and prefix not in found:
        some = "; ".join(f"{kind} {one[:16]}" for one, kind in list(found.items())[:8])
        raise TraceError(
            f"{prefix} can mean {len(found)}{'+' * (len(found) >= 20)} things ({some}): give more digits"
        )
    one = prefix if prefix in found else next(iter(found))
    if graph.artifact(connection, one) is not None:
        return _of(connection, one, one, every)
    return _of_crop(connection, one, every)


def _of_crop(connection: Connection, sha256: str, every: bool) -> Node:
    known = graph.crop(connection, sha256)
    seen = f" of {known.camera}, {known.device}, {_time(known.captured_us)}" if known.kind else ""
    node = Node(sha256, known.kind or "crop", f"{known.kind or 'crop'} {sha256[:12]}{seen}: {known.fate}")
    for clipart, role in graph.frozen_in(connection, sha256):
        below = _down(connection, clipart, every)
        node.made.append(msgspec.structs.replace(below, line=f"{below.line}, {_as(role)}"))
    return node


def _as(role: str) -> str:
    return {"train": "it trains", "validate": "it judges", "left": "mining left it out"}.get(role, "in it")


def _of(connection: Connection, key: str, asked: str, every: bool) -> Node:
    if graph.artifact(connection, key) is None:
        raise TraceError(f"this store knows nothing of {asked}")
    node = _node(connection, key, every)
    node.made_of = [_up(connection, one, every) for one in _plain(connection, graph.parents(connection, key))]
    node.made = [_down(connection, one, every) for one in graph.children(connection, key)]
    return node


def _up(connection: Connection, key: str, every: bool) -> Node:
    node = _node(connection, key, every)
    node.made_of = [_up(connection, one, every) for one in _plain(connection, graph.parents(connection, key))]
    return node


def _plain(connection: Connection, keys: list[str]) -> list[str]:
    """Without the run where files tell the same: it stands beside them."""
    files = [key for key in keys if not key.startswith("run:")]
    return files or keys


def _down(connection: Connection, key: str, every: bool) -> Node:
    node = _node(connection, key, False)
    node.crops = {}
    runs = [one for one in graph.children(connection, key) if one.startswith("run:")]
    below = [one for one in graph.children(connection, key) if one not in runs]
    node.made = [_down(connection, one, every) for one in below or runs]
    return node


def _node(connection: Connection, key: str, every: bool) -> Node:
    found = graph.artifact(connection, key)
    if found is None:
        return Node(key, "unknown", f"{key}: unknown to this store")
    at = f", {found.place}" if found.place else ""
    if found.kind == "release":
        return _release(connection, int(key.partition(":")[2]), found.name)
    if found.kind == "run":
        gone = graph.taints(connection).get((found.camera, int(key.rpartition("/")[2])), 0)
        taint = f"; learned from {gone} crops that were forgotten" if gone else ""
        return Node(key, "run", f"{found.name} of {_time(found.created_us)}{at}{taint}")
    node = Node(key, found.kind, f"{_TITLES.get(found.kind, found.kind)} {key[:12]}: {found.name}{at}")
    if found.kind == "verdict":
        others = (graph.artifact(connection, one) for one in graph.parents(connection, key))
        truths = [one.id[:12] for one in others if one is not None and one.kind == "truth"]
        node.line += f", by truth {truths[0]}" if truths else ", unjudged"
    if found.kind == "clipart":
        node.crops = graph.days(connection, key)
        node.ids = graph.roles(connection, key) if every else {}
    return node


def _release(connection: Connection, number: int, target: str) -> Node:
    told = graph.runs(connection, number)
    fates = {True: "was told to run it", False: "has been told another one since"}
    devices = [f"{run.device} {fates[run.is_newest]}, {_time(run.told_us)}" for run in told]
    return Node(release_id(number), "release", f"release {number}: {target}", devices=devices)


def _of_learned(path: Path, connection: Connection | None, every: bool) -> Node:
    learned, sha256 = read_learned(path)
    if connection is not None and graph.artifact(connection, sha256) is not None:
        return _of(connection, sha256, str(path), every)
    node = Node(sha256, "manifest", f"data {learned.data_sha256[:12]} of {path}, made by hand")
    node.ids = _ids(learned) if every else {}
    node.crops = _counts(learned, connection)
    return node


def _ids(learned: Learned) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for part in learned.parts:
        found.setdefault(part.role, []).extend(part.crops)
        found.setdefault("plate", []).extend(part.plates)
    return {role: sorted(set(ids)) for role, ids in found.items()}


def _counts(learned: Learned, connection: Connection | None) -> dict[str, dict[str, dict[str, int]]]:
    """By role, camera, and whether the store has them: days are known to the store alone."""
    found: dict[str, dict[str, dict[str, int]]] = {}
    for part in learned.parts:
        counts: dict[str, int] = {}
        for one in part.crops:
            fate = "not looked up" if connection is None else graph.crop(connection, one).fate.partition(":")[0]
            counts[fate] = counts.get(fate, 0) + 1
        if part.unnamed:
            counts["without an id"] = part.unnamed
        if not part.clipart_sha256:
            counts["annotated pictures"] = 1
        found.setdefault(part.role, {}).setdefault(part.camera or part.data_sha256[:12], {}).update(counts)
    return found


def _time(us: int) -> str:
    return f"{datetime.fromtimestamp(us / 1e6, tz=UTC):%Y-%m-%d %H:%M} UTC"


def as_json(node: Node) -> bytes:
    """The tree for programs."""
    return msgspec.json.format(msgspec.json.encode(node), indent=1)


def counted(crops: Mapping[str, Mapping[str, Mapping[str, int]]]) -> int:
    """How many there are in all."""
    return sum(count for cameras in crops.values() for by_day in cameras.values() for count in by_day.values())
