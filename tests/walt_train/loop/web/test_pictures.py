"""Pictures of what strangers sent are decoded elsewhere, drawn on, bounded and kept; nothing else is to be had."""

from __future__ import annotations

import threading
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.envelopes import sealed
from tests.walt_train.loop.labels.frames import fill_frames
from tests.walt_train.loop.scene import CAR, HEIGHT, WIDTH, crop, fill_store, plate
from tests.walt_train.loop.serve.loop import Loop
from tests.walt_train.loop.web.client import Client, signed_in, site_on
from walt_edge.contract.messages import encode_envelope, envelope_id
from walt_edge.contract.topics import Kind
from walt_train.loop.labels.pictures import Pictures
from walt_train.loop.store.store import Accepted, Store
from walt_train.loop.web.access.person import Role


def picture(data: bytes) -> NDArray[np.uint8]:
    found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert found is not None
    return np.asarray(found, dtype=np.uint8)


@pytest.fixture
def own(empty: Store) -> Store:
    fill_store(empty, [plate(), crop(CAR, 3)])
    fill_frames(empty, 1)
    return empty


@pytest.fixture
def viewer(own: Store) -> Client:
    return signed_in(site_on(own), Role.VIEWER)


def test_a_crop_with_its_outline_in_a_square(own: Store, viewer: Client) -> None:
    [sha256] = own.ids(Kind.CROP)
    answer = viewer.get(f"/pictures/crop/{sha256}.jpg?w=200")
    assert (answer.status, answer.headers["content-type"]) == (200, "image/jpeg")
    shown = picture(answer.body)
    assert max(shown.shape[:2]) == 240
    plain = picture(viewer.get(f"/pictures/crop/{sha256}.jpg?w=200&outline=0").body)
    assert np.abs(shown.astype(int) - plain).max() > 60
    assert not np.array_equal(shown, plain)


def test_frames_plates_and_places(own: Store, viewer: Client) -> None:
    [sha256], [ground], [frame] = (own.ids(kind) for kind in (Kind.CROP, Kind.PLATE, Kind.FRAME))
    assert picture(viewer.get(f"/pictures/plate/{ground}.jpg?w=320").body).shape == (180, 320, 3)
    assert picture(viewer.get(f"/pictures/plate/{ground}").body).shape == (HEIGHT, WIDTH, 3)
    assert picture(viewer.get(f"/pictures/frame/{frame}.jpg").body).shape == (HEIGHT, WIDTH, 3)
    on_plate = picture(viewer.get(f"/pictures/place/{sha256}.jpg?w=640").body)
    x, y = 40 + 20 * 3 + CAR.width // 2, CAR.top + CAR.height // 2
    own, empty = on_plate[y, x].astype(int), picture(viewer.get(f"/pictures/plate/{ground}").body)[y, x].astype(int)
    assert np.abs(own - empty).max() > 40


def test_it_is_kept_as_long_as_it_is_stored(own: Store, viewer: Client) -> None:
    [sha256] = own.ids(Kind.CROP)
    path = f"/pictures/crop/{sha256}.jpg"
    answer = viewer.get(path)
    assert answer.headers["cache-control"] == "private, max-age=86400, immutable"
    again = viewer.get(path, if_none_match=answer.headers["etag"])
    assert (again.status, again.body) == (304, b"")
    own.delete([sha256], "unwanted")
    assert viewer.get(path).status == 404
    assert viewer.get(path, if_none_match=answer.headers["etag"]).status == 404


@pytest.mark.parametrize(
    "path",
    [
        "crop/xyz.jpg",
        "crop/" + "0" * 64 + ".jpg",
        "frame/..%2f..%2fetc",
        "generation/cam-1/1/../../../store.sqlite3",
        "generation/cam-1/1/%2e%2e/%2e%2e/x.jpg",
        "generation/..%2fcam/1/x.jpg",
        "generation/cam-1/0/x.jpg",
        "generation/cam-1/99999999999999/x.jpg",
    ],
)
def test_what_is_none(viewer: Client, path: str) -> None:
    assert viewer.get(f"/pictures/{path}").status in (400, 404, 422)


@pytest.mark.parametrize("width", ["0", "-5", "100000", "x"])
def test_how_large_it_may_be(own: Store, viewer: Client, width: str) -> None:
    [sha256] = own.ids(Kind.CROP)
    assert viewer.get(f"/pictures/crop/{sha256}.jpg?w={width}").status in (400, 422)


def test_a_kind_is_no_other_and_strangers_see_nothing(own: Store, viewer: Client) -> None:
    [sha256], [frame] = own.ids(Kind.CROP), own.ids(Kind.FRAME)
    assert viewer.get(f"/pictures/crop/{frame}.jpg").status == 404
    assert viewer.get(f"/pictures/frame/{sha256}.jpg").status == 404
    stranger = Client(viewer._app)
    assert stranger.get(f"/pictures/crop/{sha256}.jpg").status in (303, 401)


def test_a_hostile_picture_is_told_and_harms_nothing(own: Store, viewer: Client) -> None:
    whole = sealed(3).envelope
    broken = msgspec.structs.replace(whole, image=whole.image[:40] + b"\x00" * 4000)
    data = encode_envelope(broken)
    own.add_group([Accepted(envelope_id(data), broken, data)])
    answer = viewer.get(f"/pictures/crop/{envelope_id(data)}.jpg")
    assert answer.status == 422
    assert "cannot be shown" in answer.text
    [sha256] = [one for one in own.ids(Kind.CROP) if one != envelope_id(data)]
    assert viewer.get(f"/pictures/crop/{sha256}.jpg").status == 200


def test_the_memory_has_a_bound(own: Store) -> None:
    [sha256] = own.ids(Kind.CROP)
    with Pictures(decoders=1, cache_bytes=20_000) as pictures:
        for width in (160, 240, 320, 480, 640):
            pictures.crop(own, sha256, width)
        assert pictures._cache._size <= 20_000
        assert sum(map(len, pictures._cache._items.values())) == pictures._cache._size
        pictures.drop(sha256)
        assert pictures._cache._size == 0


def test_the_decoder_outlives_who_asked_first(own: Store) -> None:
    [sha256] = own.ids(Kind.CROP)
    with Pictures(decoders=1) as pictures:
        for width in (160, 240, 320):
            asks = threading.Thread(target=pictures.crop, args=(own, sha256, width))
            asks.start()
            asks.join()
        [decoder] = pictures._decoders
        assert decoder._child is not None
        assert decoder._child.poll() is None


def test_what_a_generation_left(tmp_path: Path) -> None:
    with Loop(tmp_path) as loop:
        folder = loop.home / "generations" / "cam-1" / "1"
        for name in ("composites.jpg", "reports/pictures/candidate/000001.png", "clipart/crops/1.png", "secret.txt"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(name.encode())
        (folder / "reports" / "out.png").symlink_to(tmp_path / "store" / "store.sqlite3")
        client = signed_in(site_on(loop.store, home=loop.home), Role.VIEWER)
        root = "/pictures/generation/cam-1/1"
        answer = client.get(f"{root}/composites.jpg")
        assert (answer.body, answer.headers["content-type"]) == (b"composites.jpg", "image/jpeg")
        assert client.get(f"{root}/composites.jpg", if_none_match=answer.headers["etag"]).status == 304
        assert client.get(f"{root}/reports/pictures/candidate/000001.png").headers["content-type"] == "image/png"
        for name in ("clipart/crops/1.png", "secret.txt", "reports/out.png", "nothing.jpg"):
            assert client.get(f"{root}/{name}").status == 404
