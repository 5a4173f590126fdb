from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.clipart import FRAME_WH, Thing, draw, plate_image, some_things, write_scene
from walt_edge.contract.clipart import read_clipart, write_clipart
from walt_edge.contract.errors import UsageError
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import Mask, PatchMask
from walt_train.clipart.arrange import Spot, arrange
from walt_train.clipart.chance import Chance, Purpose
from walt_train.clipart.compose import compose
from walt_train.clipart.material import Material, load_material
from walt_train.clipart.pieces import Post, soft_edge
from walt_train.clipart.settings import TRAINING, ComposeSettings, Order, Placement
from walt_train.clipart.stack import cut_sticker
from walt_train.data.composites import CompositeSamples
from walt_train.data.layers import Layers, sample_layers
from walt_train.data.sample import AmodalSample
from walt_train.data.write import annotation_records

PLAIN = ComposeSettings(placement="original", shadow=0.0, light_jitter=0.0, clip_jitter=0.0, harmonise=False)
FRAME = (0, 0, *FRAME_WH)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scene(tmp_path_factory.mktemp("clipart"), some_things(14, 14), hours=(12, 15))


@pytest.fixture(scope="module")
def material(folder: Path) -> Material:
    return load_material(folder)


def digest(material: Material, settings: ComposeSettings, count: int) -> str:
    """Names pixels and layers of some composites."""
    sha256 = hashlib.sha256()
    for index in range(count):
        sample = compose(material, settings, 11, 2, index)
        sha256.update(sample.image_bgr.tobytes())
        for thing in sample.objects:
            sha256.update(repr((thing.label, thing.track_id, thing.amodal.box_xyxy)).encode())
            sha256.update(np.packbits(thing.amodal.mask).tobytes())
    return sha256.hexdigest()


ELSEWHERE = """
import sys
from pathlib import Path
from tests.walt_train.clipart.test_compose import TRAINING, digest, load_material
sys.stdout.write(digest(load_material(Path(sys.argv[1])), TRAINING, 12))
"""


def test_another_process_makes_the_same(folder: Path, material: Material) -> None:
    here = digest(material, TRAINING, 12)
    root = Path(__file__).parents[3]
    there = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, str(folder)], cwd=root, check=True, capture_output=True, text=True
    )
    assert there.stdout == here


def test_composites_are_what_they_always_were(material: Material) -> None:
    """Drawn clip art, whole numbers and Philox: the same on every machine. A change needs a new name for the data."""
    assert digest(material, TRAINING, 12) == "95ec9d0a2ef0eae67d0705b3039d61464da952eac02c8c2d9ad2667d00ad743d"


def test_what_no_plate_knows_shows_pieces_of_the_scene(material: Material) -> None:
    """The camera will show something there; only there the background changes from composite to composite."""
    hole = np.zeros(FRAME_WH[::-1], bool)
    hole[20:60, 100:180] = True
    backdrops = tuple(replace(one, guessed=np.flatnonzero(hole)) for one in material.backdrops[:1])
    holed = replace(material, backdrops=backdrops)
    always, never = (replace(PLAIN, hole_chance=chance) for chance in (1.0, 0.0))
    shown = []
    for index in range(6):
        sample, plain = compose(holed, always, 1, 0, index), compose(holed, never, 1, 0, index)
        free = np.ones_like(hole)
        for thing in sample.objects:
            free &= ~PatchMask.full(thing.amodal, *hole.shape)
        free[:, :2] = free[:, -2:] = False
        changed = (sample.image_bgr != plain.image_bgr).any(axis=2)
        assert not changed[~hole].any(), "soft edges let nothing of it out of the hole"
        shown.append(sample.image_bgr[30, 110])
        assert (changed[hole & free].mean() if (hole & free).any() else 1) > 0.5
    assert len({bytes(pixel) for pixel in shown}) > 2


def test_objects_are_put_behind_static_things(material: Material) -> None:
    pole = np.zeros(FRAME_WH[::-1], bool)
    pole[60:150, 150:158] = True
    post = Post(PatchMask.from_full(pole), soft_edge(np.ones((92, 10), bool)), 150.0)
    planted = replace(material, posts=(post,))
    touched = {}
    for chance in (0.0, 1.0):
        settings = replace(PLAIN, placement="spread", behind_chance=chance, objects=(4, 4))
        samples = [compose(planted, settings, 5, 0, index) for index in range(30)]
        hidden = [
            thing.amodal.intersection(post.mask) > 0 and any(nearer <= place for nearer, _ in sample.static)
            for sample in samples
            for place, thing in enumerate(sample.objects)
        ]
        touched[chance] = sum(hidden) / len(hidden)
    assert touched[1.0] > 3 * touched[0.0]
    assert touched[1.0] > 0.6


def test_order_of_making_does_not_matter(material: Material) -> None:
    forth = [compose(material, TRAINING, 3, 0, index).image_bgr for index in range(6)]
    back = [compose(material, TRAINING, 3, 0, index).image_bgr for index in reversed(range(6))]
    assert all(np.array_equal(one, other) for one, other in zip(forth, reversed(back), strict=True))
    assert not np.array_equal(forth[0], compose(material, TRAINING, 4, 0, 0).image_bgr)
    assert not np.array_equal(forth[0], compose(material, TRAINING, 3, 1, 0).image_bgr)


@pytest.mark.parametrize("order", ["depth", "random"])
def test_pixels_are_those_of_the_nearest_object_or_of_the_plate(material: Material, order: Order) -> None:
    """Without shadow and jitter: inside a visible mask the clip's pixels, far from all objects the plate's."""
    things = {place: draw(thing) for place, thing in enumerate(some_things(14, 14))}
    plates = {plate_image(hour).tobytes() for hour in (12, 15)}
    looked = 0
    for index in range(20):
        sample = compose(material, replace(PLAIN, order=order), 1, 0, index)
        near = np.zeros(FRAME_WH[::-1], dtype=bool)
        for thing, layers in zip(sample.objects, sample_layers(sample), strict=True):
            image, mask = things[thing.track_id - 1]
            inner = _eroded(layers.visible.full(*FRAME_WH[::-1])) & _eroded(thing.amodal.full(*FRAME_WH[::-1]))
            own = PatchMask.from_full(mask)
            rows, columns = np.nonzero(inner)
            ours = image[rows - thing.amodal.y + own.y, columns - thing.amodal.x + own.x]
            near_other = _grown(layers.occluder.full(*FRAME_WH[::-1]))[rows, columns]
            assert np.array_equal(sample.image_bgr[rows, columns][~near_other], ours[~near_other])
            looked += int((~near_other).sum())
            near |= _grown(thing.amodal.full(*FRAME_WH[::-1]))
        assert any((sample.image_bgr == plate)[~near].all() for plate in map(_plate, plates))
    assert looked > 10_000


def _plate(data: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(data, np.uint8).reshape(*FRAME_WH[::-1], 3)


def _eroded(mask: Mask) -> Mask:
    return ~_grown(~mask)


def _grown(mask: Mask) -> Mask:
    padded = np.pad(mask, 1, mode="edge")
    height, width = mask.shape
    shifted = [padded[dy : dy + height, dx : dx + width] for dy in range(3) for dx in range(3)]
    return np.asarray(np.any(shifted, axis=0))


@pytest.mark.parametrize("placement", ["original", "spread", "mixed"])
@pytest.mark.parametrize("order", ["depth", "random"])
def test_rules_hold(material: Material, placement: Placement, order: Order) -> None:
    settings = ComposeSettings(placement=placement, order=order, crop_chance=0.5)
    for index in range(40):
        sample = compose(material, settings, 5, 0, index)
        tracks = [thing.track_id for thing in sample.objects]
        assert len(tracks) == len(set(tracks)), "one physical object once"
        assert len(tracks) <= settings.objects[1]
        height, width = sample.image_bgr.shape[:2]
        assert 0.6 * FRAME_WH[0] - 1 <= width <= FRAME_WH[0]
        assert abs(width * FRAME_WH[1] - height * FRAME_WH[0]) <= FRAME_WH[0], "the frame's shape"
        for layers in sample_layers(sample):
            x0, y0, x1, y1 = layers.amodal.box_xyxy
            assert 0 <= x0 < x1 <= width
            assert 0 <= y0 < y1 <= height
            assert PatchMask.from_full(layers.amodal.mask).mask.shape == layers.amodal.mask.shape, "tight"
            assert layers.visible.area >= 16
            assert layers.occlusion_fraction <= 0.9


def test_original_places_and_depth_order(material: Material) -> None:
    for index in range(30):
        spots = _spots(material, PLAIN, index)
        assert all(spot.box_xyxy == spot.cutout.box_xyxy for spot in spots)
        rows = [spot.box_xyxy[3] for spot in spots]
        assert rows == sorted(rows, reverse=True), "the lower on the picture, the nearer"
        for spot in spots:
            x0, y0, x1, y1 = spot.footprint
            for other in spots:
                if other is not spot:
                    left, top, right, bottom = other.footprint
                    assert x1 <= left or right <= x0 or y1 <= top or bottom <= y0, "they stand in one another"


def _spots(material: Material, settings: ComposeSettings, index: int) -> list[Spot]:
    return arrange(
        material, settings, 0, Chance(1, 0, index, Purpose.ARRANGEMENT), Chance(1, 0, index, Purpose.ORDER)
    )


def test_moved_objects_have_the_size_of_their_new_place(material: Material) -> None:
    settings = replace(PLAIN, placement="spread")
    moved = [spot for index in range(40) for spot in _spots(material, settings, index)]
    rows = [spot.box_xyxy[3] for spot in moved]
    assert min(rows) < 105
    assert max(rows) > 150, "they stand everywhere"
    for spot in moved:
        share = 3 if spot.cutout.label is Label.PERSON else 5
        height = spot.box_xyxy[3] - spot.box_xyxy[1]
        assert height == pytest.approx(spot.box_xyxy[3] / share, abs=3)
        sticker = cut_sticker(spot, (-500, -500, 1000, 1000))
        assert sticker is not None
        seen = np.array(sticker.mask.box_xyxy) - 500
        assert np.abs(seen - spot.box_xyxy).max() <= 2, "the mask lies in the box"


def test_enough_is_hidden_and_cut(material: Material) -> None:
    samples = [compose(material, TRAINING, 2, 0, index) for index in range(200)]
    layers = [one for sample in samples for one in sample_layers(sample)]
    hidden = np.array([one.occlusion_fraction for one in layers])
    assert (hidden >= 0.01).mean() >= 0.3
    assert (hidden >= 0.5).mean() >= 0.08
    assert np.mean([_is_cut(sample, one) for sample in samples for one in sample_layers(sample)]) >= 0.15


def _is_cut(sample: AmodalSample, layers: Layers) -> bool:
    height, width = sample.image_bgr.shape[:2]
    x0, y0, x1, y1 = layers.amodal.box_xyxy
    return x0 == 0 or y0 == 0 or x1 == width or y1 == height


def test_clips_of_the_plates_hour_are_preferred(tmp_path: Path) -> None:
    day = [replace(thing, hour=12) for thing in some_things(15, 15)]
    night = [replace(thing, hour=23, track=thing.track + 100) for thing in some_things(15, 15)]
    material = load_material(write_scene(tmp_path, day + night, hours=(12, 23)))
    matching = total = 0
    for index in range(60):
        sample = compose(material, PLAIN, 1, 0, index)
        by_day = sample.time.startswith("1970-01-01T12")
        matching += sum((thing.track_id <= 30) == by_day for thing in sample.objects)
        total += len(sample.objects)
    assert matching / total > 0.75


def test_a_rare_class_is_not_lost(tmp_path: Path) -> None:
    material = load_material(write_scene(tmp_path, some_things(40, 2)))
    samples = [compose(material, PLAIN, 1, 0, index) for index in range(40)]
    assert sum(any(thing.label is Label.VEHICLE for thing in sample.objects) for sample in samples) > 12


def test_one_clip_is_enough(tmp_path: Path) -> None:
    material = load_material(write_scene(tmp_path, [Thing(Label.PERSON, 100, 120, 1)]))
    counts = [len(compose(material, TRAINING, 1, 0, index).objects) for index in range(20)]
    assert max(counts) == 1


def test_sure_clips_are_drawn_more_often(tmp_path: Path) -> None:
    folder = write_scene(tmp_path, some_things(8, 8))
    clipart = read_clipart(folder)
    clips = [
        msgspec.structs.replace(clip, confidence=0.8 if place % 2 else 0.2)
        for place, clip in enumerate(clipart.clips)
    ]
    write_clipart(folder, msgspec.structs.replace(clipart, clips=clips))
    material = load_material(folder)
    one = replace(PLAIN, objects=(1, 1))
    for by_confidence, low, high in ((True, 0.74, 0.86), (False, 0.42, 0.58)):
        settings = replace(one, by_confidence=by_confidence)
        drawn = [compose(material, settings, 1, 0, index).objects[0].track_id for index in range(400)]
        assert low < np.mean([number % 2 == 0 for number in drawn]) < high


def test_half_of_the_backgrounds_are_real_frames(tmp_path: Path) -> None:
    folder = write_scene(tmp_path, some_things(), hours=(12, 15))
    clipart = read_clipart(folder)
    frames = [msgspec.structs.replace(clipart.plates[1], id=f"f{n}", source="frame") for n in range(5)]
    write_clipart(folder, msgspec.structs.replace(clipart, plates=[clipart.plates[0], *frames]))
    material = load_material(folder)
    assert len(material.backdrops) == 6, "every frame is kept"
    for chance, low, high in ((0.5, 0.4, 0.6), (0.0, 0, 0), (1.0, 1, 1)):
        settings = replace(PLAIN, frame_chance=chance)
        real = [compose(material, settings, 1, 0, index).time.startswith("1970-01-01T15") for index in range(100)]
        assert low <= np.mean(real) <= high


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_any_number_of_workers_makes_the_same(folder: Path) -> None:
    data = pytest.importorskip("torch.utils.data")
    made = []
    for workers in (0, 1, 8):
        items = Digests(CompositeSamples(folder, split="all", per_epoch=24, seed=5, settings=TRAINING))
        loader = data.DataLoader(
            items, batch_size=None, num_workers=workers, multiprocessing_context=context(workers)
        )
        made.append(list(loader))
    assert made[0] == made[1] == made[2]
    assert len(set(made[0])) == 24


def context(workers: int) -> str | None:
    return "fork" if workers else None


class Digests:
    """Names pixels and run-length encoded layers of each composite."""

    def __init__(self, samples: CompositeSamples) -> None:
        self._samples = samples

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> str:
        sample = self._samples.sample(0, index)
        layers = repr([list(record.items()) for record in annotation_records(sample, 1)])
        return hashlib.sha256(sample.image_bgr.tobytes() + layers.encode()).hexdigest()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"order": "far"}, "order 'far' is none of depth, random"),
        ({"placement": "up"}, "placement 'up' is none of"),
        ({"objects": (5, 2)}, "5 to 2 objects"),
        ({"objects": (0, 2)}, "0 to 2 objects"),
        ({"crop_chance": 1.5}, "crop_chance 1.5 is not between"),
        ({"frame_chance": -0.1}, "frame_chance -0.1 is not between"),
        ({"crop_chance": float("nan")}, "crop_chance nan is not between"),
        ({"light_jitter": 0.9}, "light_jitter 0.9 is not between"),
    ],
)
def test_settings_out_of_range(changes: dict[str, object], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        ComposeSettings(**changes)  # type: ignore[arg-type]
