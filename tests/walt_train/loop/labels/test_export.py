"""What people drew becomes truth that `walt-train evaluate` reads, frozen, and named when a frame is forgotten."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from sqlalchemy import select

from tests.walt_train.loop.labels.frames import SIZE_WH, drawing, fill_frames
from tests.walt_train.loop.scene import CAR, WALKER, picture
from walt_edge.contract.errors import UsageError
from walt_edge.contract.labels import Label
from walt_train.cli import SCRIPT as TRAIN
from walt_train.data.coco import CocoSamples
from walt_train.loop.cli import SCRIPT as LOOP
from walt_train.loop.gate.holdout import Source, read_holdout
from walt_train.loop.labels.drawn import Drawings
from walt_train.loop.labels.export import export_labels
from walt_train.loop.labels.tables import label_exports
from walt_train.loop.lineage.carry import Hands, carry_out
from walt_train.loop.lineage.choose import Choice
from walt_train.loop.lineage.forget import Wish, begin
from walt_train.loop.serve.folder import Folder
from walt_train.loop.serve.jobs import Jobs, Order
from walt_train.loop.store.store import Store

COUNT = 4


@pytest.fixture
def drawn(tmp_path: Path) -> Iterator[Store]:
    """All frames but one drawn by ann, who skipped that; one of them by tom as well."""
    with Store(tmp_path / "store") as store:
        frames = fill_frames(store, COUNT)
        drawings = Drawings(store.engine)
        for number in range(COUNT - 1):
            drawings.finish(frames[number], "ann", drawing(number), SIZE_WH)
        drawings.finish(frames[-1], "ann", b"", SIZE_WH, "skipped")
        drawings.finish(frames[1], "tom", drawing(1, by=2.0), SIZE_WH)
        yield store


def test_every_layer_comes_back(drawn: Store, tmp_path: Path) -> None:
    done = export_labels(drawn, "cam-1", tmp_path / "truth one")
    assert (len(done.holdout.frames), done.objects, done.skipped, done.agreement.frames) == (3, 6, 1, 1)
    samples = CocoSamples(tmp_path / "truth one")
    for number in range(COUNT - 1):
        sample = samples.sample(0, number)
        assert np.abs(sample.image_bgr.astype(int) - picture(number)).mean() < 3
        assert [thing.label for thing in sample.objects] == [Label.VEHICLE, Label.PERSON]
        for thing, true in zip(sample.objects, (CAR, WALKER), strict=True):
            mask = np.zeros(SIZE_WH[::-1], bool)
            x0, y0, x1, y1 = thing.amodal.box_xyxy
            mask[y0:y1, x0:x1] = thing.amodal.mask
            assert np.array_equal(mask, true.mask(number))


def test_it_is_frozen(drawn: Store, tmp_path: Path) -> None:
    export_labels(drawn, "cam-1", tmp_path / "truth")
    held = read_holdout(tmp_path / "truth")
    assert (held.source, held.cameras, held.devices, held.made_by) == (
        Source.HUMAN,
        ("cam-1",),
        ("test/walt-test",),
        "ann",
    )
    frames = [one.envelope.header for one in drawn.envelopes()]
    assert [one.captured_us for one in held.frames] == [one.captured.utc_us for one in frames[: COUNT - 1]]
    assert [one.crop for one in held.frames] == drawn.ids()[: COUNT - 1]
    info = json.loads((tmp_path / "truth" / "annotations.json").read_bytes())["info"]
    assert info["drawn"]["people"] == ["ann"]
    assert 0.5 < info["drawn"]["agreement"]["amodal_iou"] < 1
    with pytest.raises(UsageError, match="never written over"):
        export_labels(drawn, "cam-1", tmp_path / "truth")
    with pytest.raises(UsageError, match="nobody finished a frame of camera cam-2"):
        export_labels(drawn, "cam-2", tmp_path / "other")
    assert not list(tmp_path.glob(".*"))


def test_a_model_is_judged_on_it(drawn: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--store", str(tmp_path / "store")]
    assert LOOP.main(["label", *where]) == 0
    assert LOOP.main(["label", "export", *where, "--camera", "cam-1", "--out", str(tmp_path / "truth")]) == 0
    told = capsys.readouterr().out
    assert "3 of 4 frames drawn, 1 skipped; 1 frames drawn on by two people: IoU 0." in told
    assert f"walt-loop serve --truth cam-1={tmp_path / 'truth'}" in told
    out = tmp_path / "figures.json"
    words = ["evaluate", "--model", "motion", "--data", str(tmp_path / "truth"), "--out", str(out)]
    assert TRAIN.main(words) == 0
    assert json.loads(out.read_bytes())["result"]["frames"] == COUNT - 1


def test_a_forgotten_frame_is_named(drawn: Store, tmp_path: Path) -> None:
    export_labels(drawn, "cam-1", tmp_path / "truth")
    begun = begin(drawn.engine, Wish(choice=Choice(crops=(drawn.ids()[0],))), "for a test")
    assert begun is not None
    done = carry_out(Hands(store=drawn, jobs=Jobs(drawn.engine, owner="tester")), begun)
    assert done.remains == [
        f"truth {tmp_path / 'truth'} shows 1 of the frames: delete the folder, and export what is left"
    ]
    with drawn.engine.connect() as connection:
        assert len(connection.execute(select(label_exports)).all()) == COUNT - 1


def test_what_evaluations_drew_goes_with_a_forgotten_frame(drawn: Store, tmp_path: Path) -> None:
    export_labels(drawn, "cam-1", tmp_path / "truth")
    jobs, home = Jobs(drawn.engine, owner="tester"), tmp_path / "home"
    order = Order(camera="cam-1", recipe="demo", seed=0, training_steps=None, crops=1, tracks=1)
    generation = jobs.create(order)
    assert generation is not None
    jobs.release(generation)
    picture_path = Folder.of(home, generation).pictures("candidate") / "01.jpg"
    picture_path.parent.mkdir(parents=True)
    picture_path.write_bytes(b"drawn over a frame that judges")
    begun = begin(drawn.engine, Wish(choice=Choice(crops=(drawn.ids()[0],))), "for a test")
    assert begun is not None
    done = carry_out(Hands(store=drawn, jobs=jobs, home=home), begun)
    assert not picture_path.exists()
    assert "1 pictures of evaluations removed, which may show some of the frames" in done.lines


def test_a_thing_that_only_hides(tmp_path: Path) -> None:
    pole = {
        "label": "static",
        "track": 9,
        "amodal": [[100, 150], [110, 150], [110, 300], [100, 300]],
        "visible": None,
    }
    plain = json.loads(drawing(0, [CAR]))
    plain["things"].insert(0, pole)
    with Store(tmp_path / "store") as store:
        [frame] = fill_frames(store, 1)
        Drawings(store.engine).finish(frame, "ann", json.dumps(plain), SIZE_WH)
        done = export_labels(store, "cam-1", tmp_path / "truth")
    assert done.objects == 1
    [record] = json.loads((tmp_path / "truth" / "annotations.json").read_bytes())["annotations"]
    assert record["occlusion_fraction"] == pytest.approx(10 / CAR.width, abs=1e-6)
    assert cv2.imread(str(tmp_path / "truth" / "images" / "000001.png")) is not None
