"""Pictures and layers agree, and the labels say what the geometry does."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from walt_edge.contract.masks import Rle, decode_rle
from walt_train.data.layers import split_layers
from walt_train.rwalt.annotate import annotation_records, categories
from walt_train.rwalt.dataset import render
from walt_train.rwalt.renderer import MIN_AREA_PX, Renderer
from walt_train.rwalt.street import Street, StreetConfig

FRAMES = range(0, 200, 20)


def decoded(record: dict[str, object]) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    size, counts = record["size"], record["counts"]
    assert isinstance(size, list)
    assert isinstance(counts, str)
    return decode_rle(Rle(size=(size[0], size[1]), counts=counts))


@pytest.fixture(params=["busy", "calm"])
def renderer(request: pytest.FixtureRequest) -> Renderer:
    found: Renderer = request.getfixturevalue(request.param)
    return found


def test_layers_are_what_the_picture_shows(renderer: Renderer) -> None:
    width, height = renderer.street.config.size_wh
    labelled = wrong = unphysical = 0
    for index in FRAMES:
        drawn = renderer.draw(index)
        by_layers = np.zeros((height, width), dtype=np.uint16)
        for place, layer in enumerate(split_layers(drawn.amodal, drawn.ranks, drawn.static, (width, height))):
            by_layers[layer.visible.full(height, width)] = place + 1
        labelled += int((by_layers > 0).sum())
        wrong += int((by_layers != renderer.id_map(drawn, sliced=True)).sum())
        unphysical += int((by_layers != renderer.id_map(drawn, sliced=False)).sum())
    assert labelled > 20_000
    assert wrong / labelled < 2e-4, "rounding at edges only"
    assert unphysical / labelled < 2e-3, "the depth order is the geometry's"


def test_annotations_hold_together(renderer: Renderer) -> None:
    street = renderer.street
    ids = set()
    for index in FRAMES:
        drawn = renderer.draw(index)
        static = np.any([mask.full(*drawn.bgr.shape[:2]) for _, mask in drawn.static], axis=0)
        records = annotation_records(street, index, drawn)
        assert [record["depth_order"] for record in records] == list(range(len(records)))
        masks = [decoded(record["segmentation"]) for record in records]
        for i, record in enumerate(records):
            amodal, visible = masks[i], decoded(record["visible_segmentation"])
            occluder, occluded = decoded(record["occluder_segmentation"]), decoded(record["occluded_segmentation"])
            x, y, w, h = record["bbox"]
            box = np.zeros_like(amodal)
            box[y : y + h, x : x + w] = True
            nearer = np.any([np.zeros_like(box), *masks[:i]], axis=0)
            assert np.array_equal(visible, amodal & ~occluder)
            assert not (nearer & box & ~occluder).any()
            assert not (occluder & ~(nearer | static)).any()
            assert np.array_equal(occluded, np.any([np.zeros_like(box), *masks[i + 1 :]], axis=0) & box)
            assert record["area"] == amodal.sum() >= MIN_AREA_PX
            assert record["occlusion_fraction"] == pytest.approx(1 - visible.sum() / amodal.sum(), abs=1e-5)
            assert record["truncated"] == (x == 0 or y == 0 or x + w == box.shape[1] or y + h == box.shape[0])
            ids.add(record["id"])
        assert len({record["track_id"] for record in records}) == len(records)
    assert len(ids) == sum(len(renderer.draw(index).objects) for index in FRAMES)


def test_keypoints_and_boxes_fit_the_masks(renderer: Renderer) -> None:
    street = renderer.street
    names = {int(str(category["id"])): category["keypoints"] for category in categories()}
    inside = total = 0
    for index in FRAMES:
        for record in annotation_records(street, index, renderer.draw(index)):
            points = np.array(record["keypoints"]).reshape(-1, 3)
            assert len(points) == len(names[record["category_id"]])
            assert record["num_keypoints"] == (points[:, 2] > 0).sum()
            visible = decoded(record["visible_segmentation"])
            for u, v, _ in points[points[:, 2] == 2]:
                assert visible[int(v), int(u)]
            x, y, w, h = record["bbox"]
            near = (
                (points[:, 0] >= x - 3)
                & (points[:, 0] <= x + w + 3)
                & (points[:, 1] >= y - 3)
                & (points[:, 1] <= y + h + 3)
            )
            inside, total = inside + int(near[points[:, 2] > 0].sum()), total + int((points[:, 2] > 0).sum())
            if record["bbox_3d"] is not None and not record["truncated"]:
                corners = np.array(record["bbox_3d"]["corners_camera"])
                camera = street.layout.camera
                u, v = (corners[:, :2] / corners[:, 2:] * camera.focal_px + np.array(camera.size_wh) / 2).T
                assert u.min() - 3 <= x
                assert x + w <= u.max() + 3
                assert v.min() - 3 <= y
                assert y + h <= v.max() + 3
    assert total > 200
    assert inside / total > 0.99


def test_busy_hides_and_the_street_shows(busy: Renderer, calm: Renderer) -> None:
    fractions = {
        name: np.array([r["occlusion_fraction"] for i in FRAMES for r in annotation_records(x.street, i, x.draw(i))])
        for name, x in (("busy", busy), ("calm", calm))
    }
    assert (fractions["busy"] >= 0.5).mean() >= 0.2
    assert (fractions["calm"] == 0).mean() >= 0.3


def test_frames_are_a_function_of_their_number(busy: Renderer) -> None:
    def digest(index: int) -> tuple[str, object]:
        drawn = busy.draw(index)
        return hashlib.sha256(drawn.bgr.tobytes()).hexdigest(), annotation_records(busy.street, index, drawn)

    first = digest(40)
    assert digest(41) != first
    assert digest(40) == first
    again = Renderer(Street(busy.street.config))
    drawn = again.draw(40)
    assert (hashlib.sha256(drawn.bgr.tobytes()).hexdigest(), annotation_records(again.street, 40, drawn)) == first
    again.close()


def test_pictures_are_plausible(renderer: Renderer) -> None:
    first, second = (renderer.draw(index).bgr.astype(float) for index in (100, 101))
    assert 25 < first.mean() < 190
    assert first.std() > 20
    still = np.abs(first - second).mean(axis=2)
    assert 0.5 < np.median(still) < 8, "noise, but not more"


def test_day_is_brighter_than_dusk() -> None:
    def brightness(light: str) -> float:
        street = Street(StreetConfig(seed=9, frames=1, size_wh=(160, 120), light=light))
        return float(next(render(street)).bgr.mean())

    assert brightness("day") > 1.3 * brightness("dusk")


def test_light_drifts_slowly(calm: Renderer) -> None:
    light = calm.street.layout.light
    suns = np.array([light.at(step / 10)[0] for step in range(6000)])
    assert np.ptp(suns) > 0.08
    assert np.abs(np.diff(suns)).max() < 0.003


def test_a_later_part_is_the_same_street_later() -> None:
    def frames(config: StreetConfig, index: int) -> tuple[bytes, list[object], str]:
        [frame] = render(Street(config), range(index, index + 1))
        same = ("track_id", "segmentation", "stationary", "keypoints")
        return frame.bgr.tobytes(), [[one[key] for key in same] for one in frame.annotations], frame.image["time"]

    whole = StreetConfig(seed=3, frames=60, size_wh=(320, 180))
    later = StreetConfig(seed=3, frames=20, size_wh=(320, 180), skip=40)
    assert frames(later, 5) == frames(whole, 45)
    assert frames(later, 5) != frames(whole, 5)
