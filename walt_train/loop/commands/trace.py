"""`walt-loop trace`: what something was made of, what was made of it, and where that runs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from walt_edge.contract.bundle import SUFFIX
from walt_train.loop.lineage.again import export_again
from walt_train.loop.lineage.trace import as_json, lines, of_file, trace
from walt_train.loop.store.arguments import add_store_arguments, open_store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's options."""
    add = parser.add_argument
    add(
        "id",
        metavar="ID",
        help="4 or more digits of a crop's or a file's sha256, CAMERA/GENERATION, a release's number, a bundle's "
        "file, or a folder of walt-train; a file needs no store",
    )
    add("--all", action="store_true", help="name every crop, and do not count them only")
    add("--export", type=Path, metavar="DIR", help="of a clip art's sha256: write what it was mined of, once more")
    add("--json", action="store_true", help="for programs")
    add_store_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Prints the tree, or exports what a clip art was mined of."""
    if args.export is not None:
        with open_store(args) as store:
            clipart = export_again(store, args.id, args.export)
        sys.stdout.write(
            f"{args.export}: {len(clipart.clips)} clips and {len(clipart.plates)} plates, as they came\n"
        )
        return 0
    path = Path(args.id)
    if args.store is None and args.database is None and (path.suffix == SUFFIX or path.is_dir()):
        node = of_file(path, every=args.all)
    else:
        with open_store(args) as store, store.engine.connect() as connection:
            node = trace(connection, args.id, every=args.all)
    if args.json:
        sys.stdout.write(as_json(node).decode() + "\n")
    else:
        sys.stdout.writelines(f"{line}\n" for line in lines(node))
    return 0
