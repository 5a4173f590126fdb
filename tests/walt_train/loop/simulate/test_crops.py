from __future__ import annotations

import cv2
import numpy as np
import pytest

from walt_edge.contract.errors import UsageError
from walt_edge.contract.messages import CropHeader, decode_envelope, envelope_id
from walt_edge.contract.topics import DeviceTopics
from walt_train.loop.simulate.crops import CropMaker

A, B = DeviceTopics("sim", "sim-a"), DeviceTopics("sim", "sim-b")


@pytest.mark.parametrize("kilobytes", [2, 8, 60, 200, 800])
def test_a_crop_is_an_envelope_of_the_wanted_size_with_a_picture_in_it(kilobytes: float) -> None:
    id_, data = CropMaker(kilobytes).crop(A, "boot", 7, 1_700_000_000_000_000)
    assert id_ == envelope_id(data)
    envelope = decode_envelope(data)
    assert len(envelope.image) == pytest.approx(kilobytes * 1000, abs=4)
    picture = cv2.imdecode(np.frombuffer(envelope.image, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    assert picture.shape[:2] == envelope.image_wh[::-1]
    assert isinstance(envelope.header, CropHeader)
    assert (envelope.header.origin.site, envelope.header.origin.device) == ("sim", "sim-a")


def test_every_crop_has_bytes_of_its_own_and_is_made_again_the_same() -> None:
    maker = CropMaker(4)
    whose = [(topics, boot, number) for topics in (A, B) for boot in ("b1", "b2") for number in range(50)]
    crops = [maker.crop(*one, 5) for one in whose]
    assert len({id_ for id_, _ in crops}) == len(crops)
    images = {decode_envelope(data).image for _, data in crops}
    assert len(images) == len(crops)
    assert CropMaker(4).crop(B, "b2", 49, 5) == crops[-1]


@pytest.mark.parametrize("kilobytes", [0, 0.1, 60_000])
def test_a_size_that_no_picture_has_is_refused(kilobytes: float) -> None:
    with pytest.raises(UsageError, match="kilobytes"):
        CropMaker(kilobytes)
