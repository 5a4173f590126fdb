"""`walt-export verify BUNDLE`: do the golden pictures give their answers on this machine?"""

from __future__ import annotations

import argparse
from pathlib import Path

from walt_edge.detector import Detector


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="what walt-export wrote")


def run(args: argparse.Namespace) -> int:
    """Repeats the golden pictures; prints one line."""
    detector = Detector.load(args.bundle)
    detector.check_golden()
    count, where = len(detector.manifest.golden), detector.providers[0]
    print(f"{detector.manifest.name}: {count} golden pictures agree by {where}; sha256 {detector.sha256}")  # noqa: T201
    return 0
