"""`walt-loop serve` itself with fake programs: what tests and benchmarks start as a process, and kill.

    python -m tests.walt_train.loop.serve.serving --store ... (the options of `walt-loop serve`)

With WALT_BROKEN_ORDER in its environment a publisher does not look whether a bundle is released already, and lingers
before anybody knows of the release: a benchmark that calls that sound measures nothing.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from tests.walt_train.loop.serve.loop import programs
from walt_train.loop.cli import SCRIPT
from walt_train.loop.publish.repository import Release, Repository
from walt_train.loop.serve.programs import Programs

BROKEN = "WALT_BROKEN_ORDER"
_LINGER_S = 1.5


def _break_order() -> None:
    publish, counted = Repository.publish, iter(range(1_000_000))

    def publish_again(repository: Repository, bundle: Path, *args: object, **named: object) -> Release:
        # A release of other bytes in between makes the same bytes a new release.
        from tests.bundles import FILES, manifest
        from walt_edge.contract.bundle import write_bundle

        other = bundle.with_name("other.walt")
        write_bundle(other, manifest(f"other-{os.getpid()}-{next(counted)}"), FILES)
        publish(repository, other, *args, **named)  # type: ignore[arg-type]
        release = publish(repository, bundle, *args, **named)  # type: ignore[arg-type]
        time.sleep(_LINGER_S)
        return release

    def find_nothing(repository: Repository, sha256: str, *args: object) -> None:
        return None

    setattr(Repository, "find", find_nothing)  # noqa: B010
    setattr(Repository, "publish", publish_again)  # noqa: B010


def main() -> int:
    setattr(Programs, "installed", lambda gpus=0: programs())  # noqa: B010
    if os.environ.get(BROKEN):
        _break_order()
    return SCRIPT.main(["serve", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
