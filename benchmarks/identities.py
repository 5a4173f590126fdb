"""How well identities are kept, on detections whose true owners are known.

Every tracker is given the same detections; each detection has an owner (an identity of the truth) or none. A tracker
answers with the track of each detection. So boxes judge nobody: trackers of amodal and of visible boxes are held
against the same owners, and who carries hidden objects gains nothing by that but their identity afterwards.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from walt_edge.contract.instances import AmodalInstances
from walt_edge.watching.tracking import iou_matrix

NOBODY = -1
HIDDEN_FRAMES = 3
_SAME_IOU = 0.5

Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """A tracker's answer to one frame.

    Attributes:
        present: Identities that can be found in the frame, or were.
        hidden: Identities that are there with hardly anything to be seen of them.
        owners: (M,) identity of each detection, or `NOBODY`.
        tracks: (M,) track of each detection, or `NOBODY`.
    """

    present: frozenset[int]
    hidden: frozenset[int]
    owners: Ids
    tracks: Ids

    def named(self) -> dict[int, int]:
        """The track of each identity that has one."""
        pairs = zip(self.owners.tolist(), self.tracks.tolist(), strict=True)
        return {owner: track for owner, track in pairs if NOBODY not in (owner, track)}


@dataclass(frozen=True, slots=True)
class Identities:
    """Counts, which add up over streets.

    Attributes:
        switches: Times that an identity was given another track than it had before (IDSW of CLEAR MOT, Bernardin and
            Stiefelhagen 2008).
        fragments: Times that an identity was tracked again after an interruption while it could be found.
        idtp: Answers that agree under the best one-to-one naming of tracks (Ristani et al. 2016).
        truths: Identities times frames.
        answers: Detections that were given a track.
        returns: Times that an identity was tracked again after it had been hidden for `HIDDEN_FRAMES` or more.
        kept: ... of these by the track that it had before.
    """

    switches: int
    fragments: int
    idtp: int
    truths: int
    answers: int
    returns: int
    kept: int

    def __add__(self, other: Identities) -> Identities:
        return Identities(*(one + two for one, two in zip(astuple(self), astuple(other), strict=True)))

    @property
    def idf1(self) -> float:
        """2 IDTP / (truths + answers), 0..1."""
        return 2 * self.idtp / max(1, self.truths + self.answers)


def judge(answers: Sequence[Answer]) -> Identities:
    """The counts of one street."""
    switches = fragments = returns = kept = 0
    last: dict[int, int] = {}
    interrupted: set[int] = set()
    unseen: Counter[int] = Counter()
    agreed: Counter[tuple[int, int]] = Counter()
    for answer in answers:
        named = answer.named()
        for owner, track in named.items():
            switches += owner in last and last[owner] != track
            fragments += owner in interrupted
            returned = owner in last and unseen[owner] >= HIDDEN_FRAMES
            returns += returned
            kept += returned and last[owner] == track
            last[owner] = track
            unseen[owner] = 0
        interrupted -= named.keys()
        interrupted |= {one for one in answer.present if one in last and one not in named}
        unseen.update(answer.hidden - named.keys())
        agreed.update(named.items())
    given = sum(int((answer.tracks != NOBODY).sum()) for answer in answers)
    truths = sum(len(answer.present) for answer in answers)
    return Identities(switches, fragments, _idtp(agreed), truths, given, returns, kept)


def _idtp(agreed: Counter[tuple[int, int]]) -> int:
    owners = {owner: row for row, owner in enumerate(sorted({owner for owner, _ in agreed}))}
    tracks = {track: column for column, track in enumerate(sorted({track for _, track in agreed}))}
    table = np.zeros((len(owners), len(tracks)), np.int64)
    for (owner, track), count in agreed.items():
        table[owners[owner], tracks[track]] = count
    rows, columns = linear_sum_assignment(table, maximize=True)
    return int(table[rows, columns].sum())


def owners_of(found: AmodalInstances, truth: AmodalInstances, ids: Ids) -> Ids:
    """(M,) whose detection each is: one to one, of the same label, amodal boxes of IoU 0.5 or more."""
    owners = np.full(len(found), NOBODY, np.int64)
    ious = iou_matrix(found.boxes_xyxy.astype(float), truth.boxes_xyxy.astype(float))
    ious[(found.labels[:, None] != truth.labels) | (ious < _SAME_IOU)] = 0
    for row, column in zip(*linear_sum_assignment(ious, maximize=True), strict=True):
        if ious[row, column] > 0:
            owners[row] = ids[column]
    return owners


def bootstrap(
    one: Sequence[Identities],
    other: Sequence[Identities],
    figure: Callable[[Sequence[Identities], Sequence[Identities]], float],
    *,
    seed: int,
    rounds: int = 2000,
) -> tuple[float, float]:
    """95% interval of a figure that compares two trackers, over streets drawn again with replacement."""
    rng = np.random.default_rng(seed)
    drawn = rng.integers(len(one), size=(rounds, len(one))).tolist()
    figures = [figure([one[i] for i in rows], [other[i] for i in rows]) for rows in drawn]
    low, high = np.percentile(figures, (2.5, 97.5))
    return float(low), float(high)


def fewer_switches(one: Sequence[Identities], other: Sequence[Identities]) -> float:
    """How many switches fewer, percent."""
    return 100 * (1 - sum(part.switches for part in one) / max(1, sum(part.switches for part in other)))


def more_kept(one: Sequence[Identities], other: Sequence[Identities]) -> float:
    """How many more of those who return keep their identity, percent points."""
    return kept_share(one) - kept_share(other)


def kept_share(parts: Sequence[Identities]) -> float:
    """Of those who return after having been hidden, percent."""
    return 100 * sum(part.kept for part in parts) / max(1, sum(part.returns for part in parts))
