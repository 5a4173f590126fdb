"""`walt-edge` as a program, without an installed script."""

from __future__ import annotations

from walt_edge.cli import main

if __name__ == "__main__":
    main()
