"""`walt-loop label`: what people drew on frames that judge, and a folder of truth out of it."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from pathlib import Path

from walt_edge.contract.errors import UsageError
from walt_train.loop.labels.agreement import agreement_of
from walt_train.loop.labels.drawn import Drawings
from walt_train.loop.labels.export import export_labels
from walt_train.loop.store.arguments import add_store_arguments, open_store
from walt_train.loop.store.store import Store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's options."""
    add = parser.add_argument
    add("action", nargs="?", default="list", choices=("list", "export"), help="what to do (default: %(default)s)")
    add_store_arguments(parser)
    add("--camera", metavar="NAME", help="of export: whose frames (default: the only camera that has some)")
    add("--out", type=Path, metavar="DIR", help="of export: a folder that is not there yet")


def run(args: argparse.Namespace) -> int:
    """Lists how far cameras are, or writes one's frames as truth."""
    if (args.out is not None) != (args.action == "export"):
        raise UsageError("give --out with export, and only with it: walt-loop label export --camera NAME --out DIR")
    with open_store(args) as store:
        sys.stdout.write(_export(store, args.camera, args.out) if args.action == "export" else _list(store))
    return 0


def _list(store: Store) -> str:
    drawings = Drawings(store.engine)
    lines = []
    for camera in drawings.cameras():
        found = drawings.progress(camera)
        lines.append(
            f"camera {camera}: {found.done} of {found.frames} frames drawn, {found.skipped} skipped; "
            f"{agreement_of(drawings.newest(camera)).line}"
        )
    return "\n".join(lines or ["no camera has sent frames that judge"]) + "\n"


def _export(store: Store, camera: str | None, folder: Path) -> str:
    cameras = Drawings(store.engine).cameras()
    if camera is None and len(cameras) != 1:
        raise UsageError(f"give --camera, one of: {', '.join(cameras) or 'none has sent frames that judge yet'}")
    done = export_labels(store, camera or cameras[0], folder, by=_who())
    return (
        f"{folder}: {len(done.holdout.frames)} frames with {done.objects} objects, {done.skipped} skipped, "
        f"frozen as {done.holdout.source} truth {done.holdout.content_sha256[:12]}\n{done.agreement.line}\n"
        f"judge with it: walt-loop serve --truth {done.holdout.cameras[0]}={folder}\n"
    )


def _who() -> str:
    """Whose account this is; a container may have none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
