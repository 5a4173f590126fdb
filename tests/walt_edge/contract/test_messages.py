"""Envelopes: what is sent is what is read, and nothing that cannot be is accepted."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from walt_edge.contract.labels import Label
from walt_edge.contract.masks import Rle, encode_rle
from walt_edge.contract.messages import (
    MAX_ENVELOPE_BYTES,
    Ack,
    AckState,
    Clock,
    CropHeader,
    Envelope,
    EnvelopeError,
    FrameHeader,
    Moment,
    Origin,
    PlateHeader,
    decode_ack,
    decode_envelope,
    encode_envelope,
    encode_json,
    envelope_id,
)
from walt_edge.contract.topics import Kind

JPEG = b"\xff\xd8\xff\xe0" + bytes(20)
ORIGIN = Origin(
    site="home", device="walt-1", camera="cam-1", model="motion-1", anonymiser="1 faces=head-only", frame_wh=(64, 48)
)
MOMENT = Moment(utc_us=1, boot_id="b", monotonic_ns=2, clock=Clock.SYNCHRONISED, media_time_s=0.5)
CROP = CropHeader(
    origin=ORIGIN,
    captured=MOMENT,
    box_xyxy=(10.0, 10.0, 18.0, 16.0),
    label=Label.VEHICLE,
    score=0.9,
    unoccluded_confidence=0.8,
    confidence_parts={"neighbour": 1.0},
    track_id=3,
    stationary_us=None,
    ground_xy=(14.0, 16.0),
    crop_xy=(8, 8),
    mask=encode_rle(np.ones((10, 12), dtype=bool)),
    plate="",
    holdout=False,
)
PLATE = PlateHeader(
    origin=ORIGIN, captured=MOMENT, hour=12, known=encode_rle(np.ones((48, 64), dtype=bool)), samples=25
)


def envelope(header: Any = CROP, image: bytes = JPEG, image_wh: tuple[int, int] = (12, 10)) -> Envelope:
    return Envelope(schema=1, header=header, media_type="image/jpeg", image_wh=image_wh, image=image)


@pytest.mark.parametrize(
    ("header", "image_wh", "kind"),
    [
        (CROP, (12, 10), Kind.CROP),
        (msgspec.structs.replace(CROP, filled=encode_rle(np.eye(10, 12, dtype=bool))), (12, 10), Kind.CROP),
        (PLATE, (64, 48), Kind.PLATE),
        (FrameHeader(origin=ORIGIN, captured=MOMENT, holdout=True), (64, 48), Kind.FRAME),
    ],
)
def test_what_is_sent_is_read(header: Any, image_wh: tuple[int, int], kind: Kind) -> None:
    sent = envelope(header, image_wh=image_wh)
    data = encode_envelope(sent)
    assert decode_envelope(data) == sent
    assert sent.kind is kind
    assert len(envelope_id(data)) == 64


def test_the_same_content_has_the_same_id() -> None:
    assert envelope_id(encode_envelope(envelope())) == envelope_id(encode_envelope(envelope()))


def changed(**fields: Any) -> Envelope:
    return envelope(msgspec.structs.replace(CROP, **fields))


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (changed(score=1.5), "score"),
        (changed(box_xyxy=(18.0, 10.0, 10.0, 16.0)), "inside the frame"),
        (changed(box_xyxy=(10.0, 10.0, 65.0, 16.0)), "inside the frame"),
        (changed(box_xyxy=(float("nan"), 10.0, 18.0, 16.0)), "finite"),
        (changed(ground_xy=(float("inf"), 0.0)), "finite"),
        (changed(crop_xy=(60, 8)), "leaves the frame"),
        (changed(mask=Rle((10, 12), "00")), "mask is empty|cover"),
        (changed(mask=encode_rle(np.zeros((10, 12), dtype=bool))), "mask is empty"),
        (changed(mask=encode_rle(np.ones((4, 4), dtype=bool))), "mask of size"),
        (changed(mask=Rle((10, 12), "\x00")), "no digit"),
        (changed(filled=encode_rle(np.ones((4, 4), dtype=bool))), "mask of size"),
        (changed(filled=Rle((10, 12), "00")), "cover"),
        (changed(stationary_us=(5, 4)), "stationary"),
        (changed(track_id=-1), "track_id"),
        (changed(label=7), "label"),
        (changed(origin=msgspec.structs.replace(ORIGIN, site="../etc")), "site"),
        (envelope(image=b"GIF89a"), "not image/jpeg"),
        (envelope(image_wh=(0, 0)), "0x0"),
        (envelope(PLATE, image_wh=(12, 10)), "for a frame of"),
    ],
)
def test_what_cannot_be_is_refused(broken: Envelope, says: str) -> None:
    with pytest.raises(EnvelopeError, match=says):
        decode_envelope(encode_envelope(broken))


def test_too_large_is_refused_before_it_is_read() -> None:
    with pytest.raises(EnvelopeError, match="limit"):
        decode_envelope(bytes(MAX_ENVELOPE_BYTES + 1))


@given(st.binary(max_size=300))
def test_hostile_bytes_are_refused_and_never_crash(data: bytes) -> None:
    with pytest.raises(EnvelopeError):
        decode_envelope(data)


@given(st.data())
def test_a_flipped_byte_is_refused_or_changes_the_id(data: st.DataObject) -> None:
    good = encode_envelope(envelope())
    at = data.draw(st.integers(0, len(good) - 1))
    bad = bytearray(good)
    bad[at] ^= data.draw(st.integers(1, 255))
    try:
        decode_envelope(bytes(bad))
    except EnvelopeError:
        return
    assert envelope_id(bytes(bad)) != envelope_id(good)


def test_acknowledgements_round_trip_and_junk_is_refused() -> None:
    ack = Ack(AckState.REJECTED, "box leaves the frame")
    assert decode_ack(encode_json(ack)) == ack
    for junk in (b"", b"{}", b'{"state":"lost"}', b"\xff"):
        with pytest.raises(EnvelopeError):
            decode_ack(junk)
