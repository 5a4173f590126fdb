"""What ended generations do not need any more: what a training goes on from, half-made things, and old logs.

Clip art, weights, bundles, reports, verdicts, curves and manifests stay: by them a model is traced, judged again and
returned to. How long pictures of clip art stay is `walt_train.loop.lineage.thin`'s.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from walt_train.loop.serve.folder import Folder
from walt_train.loop.serve.jobs import ENDED, Generation, Jobs, State

LOG_DAYS = 30.0
_DAY_US = 86_400_000_000


def tidy(jobs: Jobs, home: Path, now_us: int, log_days: float = LOG_DAYS) -> int:
    """Removes it; may be killed and repeated.

    Args:
        jobs: The table.
        home: Where generations lie.
        now_us: Home's clock.
        log_days: How long logs stay after a generation's end.

    Returns:
        From how many generations something was removed.

    Raises:
        OSError: Something cannot be removed.
    """
    newest = {generation.camera: generation.number for generation in jobs.all()}
    count = 0
    for one in jobs.all():
        if one.state not in ENDED or one.until_us > now_us:
            continue
        gone = [path for path in _unneeded(one, home, newest[one.camera], now_us, log_days) if path.exists()]
        for path in gone:
            shutil.rmtree(path)
        count += bool(gone)
    return count


def _unneeded(one: Generation, home: Path, newest: int, now_us: int, log_days: float) -> list[Path]:
    folder = Folder.of(home, one)
    found = [folder.drawing, folder.partial]
    # The newest one that failed may be told to go on where it was.
    if one.state is not State.FAILED or one.number != newest:
        found.append(folder.resume)
    if now_us - (one.ended_us or now_us) > log_days * _DAY_US:
        found.append(folder.logs)
    return found
