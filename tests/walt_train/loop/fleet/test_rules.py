from __future__ import annotations

from pathlib import Path

import pytest

from walt_edge.contract.errors import UsageError
from walt_train.loop.fleet.conditions import KINDS
from walt_train.loop.fleet.rules import Rules, load_rules


def rules_of(tmp_path: Path, text: str | bytes) -> Rules:
    path = tmp_path / "rules.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_rules(path)


def test_what_is_named_is_taken_and_the_rest_keeps_its_default(tmp_path: Path) -> None:
    found = rules_of(tmp_path, "silent_camera: {silence_s: 10, for_s: 20}\nclock: {enabled: false}\n")
    assert (found.silent_camera.silence_s, found.silent_camera.for_s, found.silent_camera.clear_s) == (10, 20, 120)
    assert not found.clock.enabled
    assert found.offline == Rules().offline
    assert rules_of(tmp_path, "") == Rules()


def test_every_kind_of_alert_has_a_rule() -> None:
    assert set(KINDS) <= set(Rules.__struct_fields__)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("silent_camera: {silence: 10}", "silent_camera: Object contains unknown field `silence`"),
        ("dirty_lenses: {}", "unknown field `dirty_lenses`"),
        ("disk: {free_mb: -1}", "disk.free_mb: "),
        ("disk: {free_mb: many}", "disk.free_mb: "),
        ("disk: {free_mb: .nan}", "disk.free_mb: "),
        ("disk: {free_mb: 100, clear_mb: 50}", "disk.clear_mb is below disk.free_mb"),
        ("dirty_lens: {below: 0.9}", "dirty_lens.above is below dirty_lens.below"),
        ("dirty_lens: {below: 1.5}", "dirty_lens.below: "),
        ("webhook: {url: 'ftp://x'}", "webhook.url: "),
        ("webhook: {timeout_s: 0}", "webhook.timeout_s: "),
        ("forget_days: 0", "forget_days: "),
        ("- 1", "Expected `object`"),
        ("a: [", "no YAML"),
        ("!!python/object/apply:os.system ['true']", "no YAML"),
        (b"\xff\xfe\x00", "no YAML"),
        ("a: &a [*a]", "unknown field"),
        ("x" * 70_000, "no file of rules"),
    ],
)
def test_what_is_wrong_is_named_by_its_key(tmp_path: Path, text: str | bytes, named: str) -> None:
    with pytest.raises(UsageError) as caught:
        rules_of(tmp_path, text)
    assert named in str(caught.value)
    assert "rules.yaml" in str(caught.value)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read"):
        load_rules(tmp_path / "none.yaml")
