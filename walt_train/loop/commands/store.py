"""`walt-loop store`: what a store holds, and clip art out of it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from walt_edge.contract.errors import UsageError
from walt_edge.contract.topics import Kind
from walt_train.loop.store import DATABASE_NAME, Store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's options."""
    add = parser.add_argument
    add("--store", required=True, type=Path, metavar="DIR", help="a store that walt-loop ingest made")
    add("--export", type=Path, metavar="DIR", help="write a camera's clip art there, for walt-train mine")
    add("--camera", metavar="NAME", help="of --export (default: the store's only camera)")
    add("--collect", action="store_true", help="remove files that a crash left and no row names")


def run(args: argparse.Namespace) -> int:
    """Prints the counts; exports or collects if asked to."""
    if not (args.store / DATABASE_NAME).is_file():
        raise UsageError(f"no store in {args.store}: walt-loop ingest makes one")
    with Store(args.store) as store:
        if args.collect:
            sys.stdout.write(f"removed {store.collect_orphans()} files that no row names\n")
        if args.export:
            camera = args.camera or _only(store.cameras())
            clipart = store.export_clipart(args.export, camera)
            line = f"{args.export}: {len(clipart.clips)} clips and {len(clipart.plates)} plates of camera {camera}"
            sys.stdout.write(f"{line}\n")
        else:
            sys.stdout.write(_summary(store))
    return 0


def _summary(store: Store) -> str:
    counts = store.counts()
    lines = [
        f"{counts.crops} crops, {counts.plates} plates, {counts.frames} frames; {counts.bytes / 1e6:.1f} MB",
        f"{counts.duplicates} resends absorbed, {counts.rejected} refused ({counts.quarantined} in quarantine), "
        f"{counts.tombstones} deleted for good",
    ]
    for camera in store.cameras():
        numbers = ", ".join(f"{len(store.ids(kind, camera))} {kind.value}s" for kind in Kind)
        lines.append(f"camera {camera}: {numbers}")
    return "\n".join(lines) + "\n"


def _only(cameras: list[str]) -> str:
    if len(cameras) != 1:
        raise UsageError(f"--export needs --camera, one of: {', '.join(cameras) or 'none stored yet'}")
    return cameras[0]
