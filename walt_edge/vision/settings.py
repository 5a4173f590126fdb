"""Every number that the eyes go by, with its unit in its name and its reason beside it."""

from __future__ import annotations

from dataclasses import dataclass

from walt_edge.contract.labels import Label


@dataclass(frozen=True, slots=True)
class WatchSettings:
    """How a camera is watched. The defaults are meant for any fixed camera; nothing here is tuned to one place.

    Lengths that scale with an object are fractions of it; lengths in pixels are those of the sensor's blur.
    """

    # --- plate -------------------------------------------------------------------------------------------
    warm_up_s: float = 12.0
    """Media time that the first median spans: long enough for a walking person to leave most of their pixels."""
    plate_samples: int = 40
    """Frames in the median. More buys little: its error falls with the square root."""
    plate_samples_min: int = 8
    """Below this a passing object is no outlier among the samples, so there is no plate."""
    plate_memory_bytes: int = 96 * 2**20
    """Bound on all frames kept for medians; large frames get fewer samples."""
    relearn_s: float = 8.0
    """How often pixels that were too busy are tried again, with samples from a longer time."""
    busy_level: float = 7.0
    """A pixel whose quarter-quantile of |difference| is above this many grey levels was never seen at rest."""
    drift_time_s: float = 25.0
    """Time constant with which the plate follows the light where nothing moves."""
    update_s: float = 0.4
    """The plate follows the light this often, not every frame: light is slow and memory traffic costs."""
    publish_s: float = 3600.0
    """A plate is sent hourly."""
    publish_change_level: float = 12.0
    """... or when its median level has changed by this many grey levels."""
    publish_change_fraction: float = 0.03
    """... or when this fraction of it has changed visibly (a parked car that stayed)."""
    publish_better_fraction: float = 0.01
    """... or when this much more of it is known."""
    parked_s: float = 180.0
    """A silhouette that stood this long becomes part of the plate: queues at lights and talkers leave earlier."""
    ghost_s: float = 1.5
    """A silhouette that stood this long is tested for being a hole that something left in the plate."""

    # --- motion ------------------------------------------------------------------------------------------
    floor_level: float = 8.0
    """Least difference, grey levels, that counts: compression and sensor noise of an ordinary camera."""
    noise_gain: float = 3.0
    """Threshold per grey level of the quarter-quantile of |difference| (0.32 sigma): about 9.5 sigma of 0.1 px."""
    gradient_gain: float = 0.10
    """Threshold per grey level of plate gradient: the camera trembles by about a tenth of a pixel."""
    ceiling_level: float = 60.0
    """Highest threshold, so that an edge or a flickering sign is never entirely blind."""
    strong_ratio: float = 1.7
    """A silhouette needs a core whose difference is this many thresholds (hysteresis)."""
    strong_fraction: float = 0.12
    """... and the core is at least this part of it."""
    shadow_ratio: tuple[float, float] = (0.45, 0.985)
    """A shadow darkens the plate to this part of its luminance."""
    shadow_deviation: float = 0.045
    """... evenly: the ratio's local standard deviation stays below this."""
    shadow_chroma: float = 0.18
    """... and keeps its colour: the channels' ratios agree this closely."""
    contact_ratio: tuple[float, float] = (0.2, 0.985)
    """Under an object a shadow is darker; what looks like it counts as shadow only at the object's foot ..."""
    contact_chroma: float = 0.10
    """... with hardly any colour of its own, since trousers and shoes are there too ..."""
    contact_deviation: float = 0.055
    """... and even."""
    foot_fraction: float = 0.22
    """The foot: this part of an upright object's height, from below ..."""
    foot_fraction_wide: float = 0.14
    """... and of a wide one's: what looks like a shadow higher up is a panel of it."""
    flood_fraction: float = 0.6
    """More of the frame than this differing at once is another light or another view, not objects ..."""
    flood_s: float = 3.0
    """... if it lasts: a truck before the lens drives on."""

    # --- what fidgets in the plate -----------------------------------------------------------------------
    restless_level: float = 4.0
    """Least difference, grey levels, beside the sensor's noise: who sways in a dark coat differs by little."""
    restless_share: float = 0.15
    """A pixel on the edge of somebody who sways shows the other side of it in a third to a half of all moments; a
    sixth leaves room for edges a little aside."""
    restless_explained: float = 0.8
    """Where less than this part of what is shown is found nearby in the plate, traffic passes ..."""
    restless_near: float = 0.04
    """... and nobody stands; on average over a square of this part of the frame's height, about a head."""
    restless_reach: float = 0.008
    """How far, of the frame's height, one sways: some 3 cm, where people are a quarter of the frame high."""
    restless_time_s: float = 30.0
    """Memory: a few of the slowest periods (weight is shifted every ten seconds or so)."""
    restless_find_s: float = 2.0
    """How often the patches are renewed."""
    restless_hold_s: float = 300.0
    """A head found once is held this long, found again or not: people pause, and others step before them."""
    restless_px_min: float = 20.0
    """Lower patches are noise, and too low to show a face ..."""
    restless_heights: tuple[float, float] = (0.05, 0.6)
    """... and these parts of the frame's height bound people where their size is not known yet."""

    # --- silhouettes -------------------------------------------------------------------------------------
    speck_px: int = 40
    """Components below this area are noise."""
    close_fraction: float = 0.09
    """Gaps up to this part of an object's smaller side are closed inside it (windows, low contrast)."""
    hole_fraction: float = 0.12
    """Holes up to this part of an upright object's area are filled: between arm and body ground shows."""
    hole_fraction_wide: float = 0.6
    """... and of one that is wider than high: a vehicle's panel in the colour of the road."""
    see_through_level: int = 30
    """A plate gradient above this, seen unchanged inside an object, is the plate or something before the object."""
    halo_px: int = 2
    """Width of the rim in which pixels must show the object at least half."""
    halo_alpha: float = 0.45
    """A pixel belongs to a mask at alpha >= 0.5 (walt.md); the largest difference nearby is a little high."""

    # --- tracks ------------------------------------------------------------------------------------------
    match_iou: float = 0.15
    """Least IoU of a predicted and a seen box; people at 10 frames a second move half their width."""
    coast_s: float = 1.2
    """A track without a silhouette is carried on this long: a walk behind a lamp post."""
    track_sightings_min: int = 4
    """Fewer sightings are a flicker."""
    track_s_min: float = 0.25
    """... at 25 frames a second four sightings are too short a time to know a class."""
    still_speed_per_s: float = 0.06
    """Below this many of its own heights a second an object stands."""
    stationary_s: float = 3.0
    """Standing this long makes a stationary interval."""
    track_budget_s: float = 20.0
    """A track's chosen views are released at the latest after this time, so that standing objects are sent too."""

    # --- seen whole --------------------------------------------------------------------------------------
    clear_px: int = 3
    """Any other silhouette this near disqualifies (mining-notes.md)."""
    border_px: int = 2
    """A silhouette this near to the frame's edge may be cut by it."""
    area_min_px: int = 700
    """Scores count from 1,024 px on; a smaller clip still teaches what is far away. On two rendered streets (1,500
    frames each) 700 gave 103 clips for 79, as many of them truly whole; below 500 hardly more come."""
    area_margin: float = 0.12
    """An outline is a little larger than the object: its contact shadow."""
    side_min_px: int = 14
    """A side below this is too thin for a 28 x 28 mask."""
    size_tolerance: float = 0.30
    """Height off the height line by more than this is a fragment or a merger (mining-notes.md)."""
    sharpness_min: float = 0.35
    """Gradient of the rim compared with what its contrast allows; below it is motion blur."""
    crown_max: float = 0.12
    """Above an object lies background. Where more than this part of its upper outline borders on something else that
    moves, even something taken for shadow, a piece of it was cut off, or it touches another."""
    cut_max: float = 0.35
    """A side of the outline that runs upright along an edge of the plate for this part of its height is a cut."""
    edge_min: float = 0.75
    """A whole object's outline is an edge in the picture, nearly everywhere; where it fades out it is a shadow's."""
    whole_confidence: float = 0.5
    """A part of the confidence below this is a reason."""

    occluder_tracks: int = 3
    """So many objects must have vanished at a place before something is taken to stand in front of it."""
    occluder_share: float = 0.6
    """... and this part of all that passed there: where others were seen, nothing stands."""
    occluder_contact: float = 0.08
    """An outline that runs along a static occluder for more than this part of its height may be cut by it."""
    confidence_min: float = 0.3
    """Many small doubts together are one."""
    settle_s: float = 3.0
    """So long after the first look everybody is doubted, less and less, for who was there already was not seen to
    come: on rendered streets three of the four surest mistakes were groups in the first second."""
    keep_doubtful: bool = False
    """Hand on views that some reason speaks against as well, with their parts: where a calibrated confidence decides
    later, at home, or is being learned."""
    filled_max: float = 0.6
    """A person of whom the anonymiser had to fill more than head and shoulders teaches nothing ..."""
    filled_max_vehicle: float = 0.06
    """... and of a vehicle it fills only what may be somebody else."""

    # --- selection ---------------------------------------------------------------------------------------
    views_per_track: int = 6
    """Crops of one physical object: few, or those who stay long dominate the clip art."""
    view_gap_s: float = 1.0
    """Two chosen views of a track are this far apart in time ..."""
    view_gap_heights: float = 0.4
    """... and this many of the object's heights in place."""
    holdout_share: float = 0.0
    """Of all blocks of time, those whose crops judge and never train (`walt_edge.selecting.sampling`): 0 where the
    crops are split at home, as of a recording that is mined."""
    margin_fraction: float = 0.2
    """Context around a crop, as part of the object's larger side."""
    margin_min_px: int = 8
    """... and at least this."""

    # --- camera ------------------------------------------------------------------------------------------
    drift_check_s: float = 1.0
    """How often the frame is compared with the plate for a moved camera."""
    drift_px: float = 2.5
    """A shift above this spoils difference images along every edge."""
    drift_votes: int = 3
    """So many checks in a row, so that one truck across the view is no moved camera."""
    moving_epochs: int = 3
    """A camera that spoils this many warm-ups one after another is not fixed."""

    def filled_most(self, label: Label | None) -> float:
        """The most of an object of a class that the anonymiser may have filled, 0..1."""
        return self.filled_max_vehicle if label is Label.VEHICLE else self.filled_max
