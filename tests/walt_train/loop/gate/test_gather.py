"""What a generation's folder tells of its candidate."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import msgspec
import pytest

from tests.bundles import FILES, manifest
from tests.walt_train.loop.gate.test_holdout import RWALT, truth
from tests.walt_train.loop.serve.loop import Loop, fill
from walt_edge.contract.bundle import Bundle, Limits, write_bundle
from walt_edge.contract.errors import WaltError
from walt_train.engine.learned import Learned, Part, write_learned
from walt_train.loop.gate.gather import answer_in, entrant_of, parity_of, provenance_of
from walt_train.loop.gate.provenance import Provenance
from walt_train.loop.gate.verdict import Cost
from walt_train.loop.lineage.made import write_came

OWN = ["test/walt-test"]


@pytest.fixture
def clipart(tmp_path: Path) -> Path:
    """Six crops and a plate, as a store gives them."""
    with Loop(tmp_path) as loop:
        fill(loop.store)
        write_came(tmp_path / "clipart", loop.store.export_clipart(tmp_path / "clipart", "cam-1", holdout=False))
    return tmp_path / "clipart"


def gathered(clipart: Path, train: Path) -> Provenance:
    return provenance_of(clipart, train, camera="cam-1", devices=OWN)


def trained(folder: Path, *parts: Part, data: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "manifest.json").write_text(json.dumps({"data": data, "recipe": {}}))
    write_learned(folder, Learned(data_sha256="4" * 64, seed=0, parts=parts, started=("5" * 64,)))
    return folder


def test_every_crop_and_plate_with_where_and_when(clipart: Path, tmp_path: Path) -> None:
    part = Part(role="train", data_sha256="1" * 64, clipart_sha256="2" * 64)
    found = gathered(clipart, trained(tmp_path / "train", part))
    assert (found.camera, found.devices) == ("cam-1", ("test/walt-test",))
    crops = [one for one in found.learnt if one.track]
    assert (len(found.learnt), len(crops)) == (7, 6)
    assert all(one.camera == "cam-1" and one.captured_us and len(one.id) == 64 and not one.holdout for one in crops)
    assert {one.track.rpartition("/")[2] for one in crops} == set("012345")
    hashes = {hashlib.sha256(path.read_bytes()).hexdigest() for path in clipart.glob("*.[jp][pn]g")}
    assert {one.image_sha256 for one in found.learnt} == hashes
    assert set(found.given) == {one.id for one in found.learnt}
    assert found.data == ("4" * 64, "1" * 64, "5" * 64)
    assert (found.scenes, found.unknown) == ((), ())


def test_rendered_streets_that_trained_are_known_by_their_seed(clipart: Path, tmp_path: Path) -> None:
    streets = tmp_path / "streets"
    truth(streets / "one", RWALT)
    truth(streets / "two", RWALT | {"seed": 9})
    parts = [Part(role=role, data_sha256="1" * 64) for role in ("train", "train", "validation")]
    found = gathered(clipart, trained(tmp_path / "train", *parts, data=f"{clipart}, {streets}"))
    assert (found.scenes, found.unknown) == ((7, 9), ())


def test_pictures_that_nobody_can_name(clipart: Path, tmp_path: Path) -> None:
    photos = truth(tmp_path / "photos", {})
    part = Part(role="train", data_sha256="1" * 64)
    found = gathered(clipart, trained(tmp_path / "train", part, data=str(photos)))
    assert found.unknown == ("photos",)
    gone = gathered(clipart, trained(tmp_path / "train", part, data=str(tmp_path / "gone")))
    assert gone.unknown == ("1" * 64,)
    street = truth(tmp_path / "street", RWALT)
    half = gathered(clipart, trained(tmp_path / "train", part, part, data=f"{street}, {tmp_path / 'gone'}"))
    assert (half.scenes, half.unknown) == ((7,), ("1" * 64, "1" * 64))


def test_a_training_that_left_nothing(clipart: Path, tmp_path: Path) -> None:
    assert gathered(clipart, tmp_path / "train").data == ()
    with pytest.raises(WaltError):
        gathered(tmp_path / "elsewhere", tmp_path / "train")


def bundle_in(folder: Path) -> Bundle:
    made = msgspec.structs.replace(manifest(), limits=Limits(latency_ms=40.0))
    write_bundle(folder / "b.walt", made, FILES)
    return Bundle.read(folder / "b.walt")


def test_how_a_bundle_fits_its_training(tmp_path: Path) -> None:
    bundle = bundle_in(tmp_path)
    (tmp_path / "golden").mkdir()
    (tmp_path / "golden" / "many.png").write_bytes(FILES["golden/0.png"])
    found = parity_of(bundle, tmp_path, "1" * 64)
    assert (found.checkpoint_sha256, found.trained_sha256, found.foreign_golden) == ("1" * 64, "1" * 64, ())
    (tmp_path / "golden" / "many.png").write_bytes(b"other")
    assert parity_of(bundle, tmp_path, "1" * 64).foreign_golden == ("golden/0.png",)


def test_what_a_bundle_promises(tmp_path: Path) -> None:
    bundle = bundle_in(tmp_path)
    cost = Cost(latency_ms_p50=1, latency_ms_p99=2, memory_mb=3)
    found = entrant_of(bundle, cost)
    assert (found.name, found.sha256, found.limit_ms, found.limit_mb) == ("demo-1", bundle.sha256, 40.0, None)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            'loading\n{"measured":{"sha256":"x","latency_ms_p50":1,"latency_ms_p99":2,"memory_mb":3}}\n',
            (True, "", ""),
        ),
        ('{"unfit":"it does not load"}\nwarning: {}\n', (False, "it does not load", "")),
        ('{"lacking":"memory"}', (False, "", "memory")),
        ("{broken", (False, "", "")),
        ("", (False, "", "")),
    ],
)
def test_the_answer_of_a_trial(tmp_path: Path, said: str, expected: tuple[bool, str, str]) -> None:
    (tmp_path / "log").write_text(said)
    answer = answer_in(tmp_path / "log")
    assert (answer.measured is not None, answer.unfit, answer.lacking) == expected
    assert answer_in(tmp_path / "none").measured is None
