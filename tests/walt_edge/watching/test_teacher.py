from __future__ import annotations

import numpy as np
import pytest

from walt_edge.contract.labels import Label
from walt_edge.contract.masks import PatchMask
from walt_edge.runtimes import Detections
from walt_edge.vision.sightings import Reason
from walt_edge.watching.teacher import teach

PATCH = PatchMask(100, 50, np.ones((80, 30), bool))
OWN = (100.0, 50.0, 130.0, 130.0)


def seen(*rows: tuple[tuple[float, float, float, float], float, Label | None]) -> Detections:
    boxes = np.array([row[0] for row in rows], float).reshape(-1, 4)
    return Detections(boxes, np.array([row[1] for row in rows]), tuple(row[2] for row in rows))


@pytest.mark.parametrize(
    ("detections", "label", "reasons"),
    [
        (seen((OWN, 0.8, Label.PERSON)), Label.PERSON, set()),
        (seen(), None, {Reason.FRAGMENT}),
        (seen((OWN, 0.2, Label.PERSON)), None, {Reason.FRAGMENT}),
        (seen(((100, 50, 130, 90), 0.9, Label.PERSON)), None, {Reason.FRAGMENT, Reason.NEIGHBOUR}),
        (seen((OWN, 0.8, Label.PERSON), ((120, 50, 150, 130), 0.16, None)), Label.PERSON, {Reason.NEIGHBOUR}),
        (seen((OWN, 0.8, Label.PERSON), ((120, 50, 150, 130), 0.1, None)), Label.PERSON, set()),
        (seen((OWN, 0.8, Label.PERSON), ((300, 50, 330, 130), 0.9, Label.PERSON)), Label.PERSON, set()),
        (seen((OWN, 0.5, Label.PERSON), (OWN, 0.9, Label.VEHICLE)), Label.VEHICLE, set()),
    ],
)
def test_one_fitting_box_and_no_other_near(detections: Detections, label: Label | None, reasons: set[Reason]) -> None:
    lesson = teach(PATCH, detections)
    assert lesson.label is label
    assert {reason for reason, part in lesson.parts.items() if part < 0.5} == reasons
