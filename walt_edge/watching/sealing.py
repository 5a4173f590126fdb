"""Views that were chosen, sealed with all that home has to know about them."""

from __future__ import annotations

from walt_edge.contract.masks import encode_rle
from walt_edge.contract.messages import CropHeader, Moment, Origin
from walt_edge.privacy.anonymiser import SealedEnvelope, seal
from walt_edge.selecting.sampling import is_holdout
from walt_edge.watching.tracking import Track
from walt_edge.watching.views import View


def seal_view(view: View, track: Track, origin: Origin, plate_id: str, holdout_share: float = 0.0) -> SealedEnvelope:
    """Seals one view of a track.

    Args:
        view: With a class.
        track: What it is a view of.
        origin: Where it comes from.
        plate_id: The newest plate sent.
        holdout_share: Of all blocks of time, those that judge and never train; see `walt_edge.selecting.sampling`.

    Raises:
        PrivacyError: It cannot be encoded.
    """
    sighting = view.sighting
    assert sighting.label is not None
    height, width = view.image.bgr.shape[:2]
    x, y = view.crop_xy
    header = CropHeader(
        origin=origin,
        captured=view.captured,
        box_xyxy=view.observation.box_xyxy,
        label=sighting.label,
        score=sighting.score,
        unoccluded_confidence=sighting.unoccluded_confidence,
        confidence_parts=dict(sighting.confidence_parts),
        track_id=sighting.track_id,
        stationary_us=_interval(track.stood, view.captured),
        ground_xy=sighting.ground_xy,
        crop_xy=view.crop_xy,
        mask=encode_rle(sighting.silhouette.window((x, y, x + width, y + height))),
        plate=plate_id,
        holdout=is_holdout(origin.camera, view.captured, holdout_share),
    )
    return seal(header, view.image)


def _interval(stood: tuple[float, float] | None, captured: Moment) -> tuple[int, int] | None:
    """A media-time interval as UTC microseconds, by a moment that knows both clocks."""
    if stood is None:
        return None
    start, end = (captured.utc_us + round((time_s - captured.media_time_s) * 1e6) for time_s in stood)
    return max(0, start), max(0, end)
