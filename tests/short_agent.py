"""`walt-edge` whose eyes learn the background in a second and a half, for tests that start it a hundred times."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from unittest import mock

from walt_edge.cli import main
from walt_edge.vision.settings import WatchSettings
from walt_edge.watching.watcher import Watcher

_make = Watcher.__init__


def make_quick(self: Watcher, *, settings: WatchSettings, **options: Any) -> None:
    """In the place of `Watcher.__init__`."""
    _make(self, settings=replace(settings, warm_up_s=1.5, relearn_s=2.0), **options)


if __name__ == "__main__":
    with mock.patch.object(Watcher, "__init__", make_quick):
        main()
