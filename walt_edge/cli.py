"""`walt-edge`: what runs beside a camera.

Until passwords are out of the command line, which everybody on the machine may read, nothing is imported that takes
time: the commands (`walt_edge.script`) come after that.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from walt_edge.agent.hidden_argv import hide_passwords

if TYPE_CHECKING:
    from walt_edge.script import SCRIPT as SCRIPT


def main() -> None:
    """Entry point of the console script."""
    words = sys.argv[1:]
    hide_passwords()
    from walt_edge.script import SCRIPT

    sys.exit(SCRIPT.main(words))


def __getattr__(name: str) -> Any:
    if name != "SCRIPT":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from walt_edge.script import SCRIPT

    return SCRIPT
