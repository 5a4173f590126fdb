from __future__ import annotations

from pathlib import Path

import msgspec
import onnx
import pytest
from walt_export.bundle import golden_pictures
from walt_export.renew import renewed

from walt_edge.contract.bundle import MODEL, Bundle, write_bundle
from walt_edge.detector import Detector


def aged(bundle: Bundle) -> Bundle:
    """The same, as if it had been written when suppression was v1."""
    model = onnx.load_from_string(bundle.files[MODEL])
    for named in (*model.graph.node, *model.functions):
        field = "op_type" if isinstance(named, onnx.NodeProto) else "name"
        setattr(named, field, getattr(named, field).replace("AmodalNMS_v2_", "AmodalNMS_v1_"))
    operators = [function.name for function in model.functions]
    manifest = msgspec.structs.replace(bundle.manifest, operators=operators)
    return Bundle(manifest, {**bundle.files, MODEL: model.SerializeToString()}, bundle.sha256)


def test_an_old_bundle_gets_the_suppression_of_today_and_keeps_every_weight(bundle: Path, tmp_path: Path) -> None:
    now = Bundle.read(bundle)
    old = aged(now)
    assert old.manifest.suppresses_strictly
    assert "AmodalNMS_v1_k30" in {node.op_type for node in onnx.load_from_string(old.files[MODEL]).graph.node}
    manifest, files = renewed(old, 0.25)
    assert manifest.operators == now.manifest.operators
    assert not manifest.suppresses_strictly
    assert manifest.score_threshold == 0.25
    assert manifest.lineage == now.manifest.lineage
    made, was = (onnx.load_from_string(each[MODEL]) for each in (files, now.files))
    assert [one.SerializeToString() for one in made.graph.initializer] == [
        one.SerializeToString() for one in was.graph.initializer
    ]
    assert [one.SerializeToString() for one in made.functions] == [one.SerializeToString() for one in was.functions]
    write_bundle(tmp_path / "new.walt", manifest, files)
    detector = Detector.load(tmp_path / "new.walt", device="cpu")
    detector.check_golden()
    before = Detector.load(bundle, device="cpu")
    for picture in golden_pictures(now).values():
        found, expected = (each.predict(picture, score_threshold=0.0) for each in (detector, before))
        assert found.scores.tolist() == expected.scores.tolist()


def test_who_is_believed_less_is_not_where_the_graph_was_strict(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An old bundle's threshold was chosen for scores as the graph gives them; golden answers hold them in any."""
    asked: list[bool] = []
    look = Detector._look

    def noted(self: Detector, *picture: object, strictly: bool) -> object:
        asked.append(strictly)
        return look(self, *picture, strictly=strictly)  # type: ignore[arg-type]

    monkeypatch.setattr(Detector, "_look", noted)
    now = Bundle.read(bundle)
    picture = next(iter(golden_pictures(now).values()))
    for each in (now, aged(now)):
        detector = Detector(each, device="cpu")
        detector.predict(picture)
        detector.check_golden()
    golden = [True] * len(now.manifest.golden)
    assert asked == [False, *golden, True, *golden]
