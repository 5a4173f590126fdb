"""`walt-loop store`: what a store holds, and clip art out of it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from walt_edge.contract.errors import UsageError
from walt_edge.contract.topics import Kind
from walt_train.loop.admission.share import DEFAULT_SHARE
from walt_train.loop.store.arguments import add_store_arguments, open_store
from walt_train.loop.store.export import export_group
from walt_train.loop.store.store import Store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's options."""
    add = parser.add_argument
    add_store_arguments(parser)
    add("--export", type=Path, metavar="DIR", help="write a camera's clip art there, for walt-train mine")
    add(
        "--camera",
        action="append",
        default=[],
        metavar="NAME",
        help="of --export (default: the store's only camera); may be repeated: a group, each in DIR/NAME",
    )
    add(
        "--share",
        type=float,
        metavar="PART",
        help="of a group's crops, at most from one camera or device, above 0 to 1 "
        f"({DEFAULT_SHARE:g}; where there are too few devices to keep it, an equal part)",
    )
    add("--collect", action="store_true", help="remove files that a crash left and no row names")


def run(args: argparse.Namespace) -> int:
    """Prints the counts; exports or collects if asked to."""
    with open_store(args) as store:
        if args.collect:
            sys.stdout.write(f"removed {store.collect_orphans()} files that no row names\n")
        cameras = list(dict.fromkeys(args.camera))
        if args.share is not None and len(cameras) < 2:
            raise UsageError("--share is of a group: give --camera twice or more")
        if args.export and len(cameras) > 1:
            sys.stdout.write(_export_group(store, args.export, cameras, args.share))
        elif args.export:
            camera = cameras[0] if cameras else _only(store.cameras())
            clipart = store.export_clipart(args.export, camera)
            line = f"{args.export}: {len(clipart.clips)} clips and {len(clipart.plates)} plates of camera {camera}"
            sys.stdout.write(f"{line}\n")
        else:
            sys.stdout.write(_summary(store))
    return 0


def _export_group(store: Store, folder: Path, cameras: list[str], share: float | None) -> str:
    share = DEFAULT_SHARE if share is None else share
    if not 0 < share <= 1:
        raise UsageError(f"--share {share:g} is not above 0 and at most 1")
    given = export_group(store, folder, cameras, share=share)
    total = sum(len(one.clipart.clips) for one in given)
    lines = []
    for one in given:
        clips, plates = len(one.clipart.clips), len(one.clipart.plates)
        part = f"{100 * clips / max(1, total):.0f} % of the group; {one.cut} left out by its share"
        lines.append(f"{folder / one.camera}: {clips} clips and {plates} plates of camera {one.camera}, {part}")
    return "\n".join(lines) + "\n"


def _summary(store: Store) -> str:
    counts = store.counts()
    lines = [
        f"database {store.config.database_place}, blobs {store.config.blob_place}",
        f"{counts.crops} crops, {counts.plates} plates, {counts.frames} frames; {counts.bytes / 1e6:.1f} MB; "
        f"{counts.held} may not train yet",
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
