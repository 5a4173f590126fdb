"""A process that stores numbered crops in groups, as an ingest would, and says what became of each."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

from tests.envelopes import sealed
from walt_train.loop.store.config import StoreConfig
from walt_train.loop.store.store import Accepted, Store

ROOT = Path(__file__).parents[4]
_GROUP = 6


def start(config: StoreConfig, count: int, seed: int) -> subprocess.Popen[str]:
    """Stores crops 0 ... count - 1 in an order of its own."""
    words = [sys.executable, "-m", "tests.walt_train.loop.store.worker", str(count), str(seed)]
    places = {"DATABASE": config.database_url, "BLOBS": config.blob_url}
    return subprocess.Popen(words, cwd=ROOT, env=os.environ | places, stdout=subprocess.PIPE, text=True)


def main() -> None:
    count, seed = map(int, sys.argv[1:])
    items = [Accepted(one.id, one.envelope, one.data) for one in map(sealed, range(count))]
    random.Random(seed).shuffle(items)
    states: list[str] = []
    with Store(StoreConfig(os.environ["DATABASE"], os.environ["BLOBS"])) as store:
        for at in range(0, count, _GROUP):
            states += [state.value for state in store.add_group(items[at : at + _GROUP])]
    json.dump(states, sys.stdout)


if __name__ == "__main__":
    main()
