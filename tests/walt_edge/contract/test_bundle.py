from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bundles import FILES, manifest
from walt_edge.contract.bundle import MANIFEST, MODEL, Bundle, BundleError, Limits, pack, write_bundle

DATA = pack(manifest(), FILES)


def _zipped(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name in sorted(members):
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), members[name], compression)
    return out.getvalue()


def _members() -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(DATA)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_a_bundle_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "m.walt"
    sha256 = write_bundle(path, manifest(), FILES)
    bundle = Bundle.read(path)
    assert bundle.sha256 == sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert dict(bundle.files) == FILES
    assert bundle.manifest.files == {name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()}


def test_limits_are_written_only_where_something_was_promised(tmp_path: Path) -> None:
    assert b"limits" not in DATA
    assert manifest().promised == Limits()
    promised = msgspec.structs.replace(manifest(), limits=Limits(latency_ms=80.0))
    write_bundle(tmp_path / "m.walt", promised, FILES)
    assert Bundle.read(tmp_path / "m.walt").manifest.promised == Limits(latency_ms=80.0)
    for wrong in (Limits(latency_ms=0.0), Limits(memory_mb=-1.0)):
        with pytest.raises(BundleError, match="malformed"):
            pack(msgspec.structs.replace(manifest(), limits=wrong), FILES)


def test_the_same_content_gives_the_same_bytes() -> None:
    assert pack(manifest(), dict(reversed(FILES.items()))) == DATA


@given(position=st.integers(0, len(DATA) - 1), flip=st.integers(1, 255))
def test_one_changed_byte_is_found(position: int, flip: int) -> None:
    damaged = bytearray(DATA)
    damaged[position] ^= flip
    with pytest.raises(BundleError) as caught:
        Bundle.parse(bytes(damaged))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("length", [0, 1, 100, len(DATA) // 2, len(DATA) - 1])
def test_a_cut_bundle_is_refused(length: int) -> None:
    with pytest.raises(BundleError, match="not a bundle"):
        Bundle.parse(DATA[:length])


@pytest.mark.parametrize(
    ("members", "words"),
    [
        (_members() | {"extra.bin": b"x"}, "extra.bin"),
        ({name: data for name, data in _members().items() if name != MODEL}, "model.onnx"),
        ({name: data for name, data in _members().items() if name != MANIFEST}, "not a bundle"),
        (_members() | {MANIFEST: b"{}"}, "format none"),
        (_members() | {MANIFEST: b'{"format": 3}'}, "format 3"),
        (_members() | {MANIFEST: b'{"format": 2}'}, "malformed"),
        (_members() | {MANIFEST: b"\xff\xfe"}, "malformed"),
        (_members() | {MANIFEST: b'{"x":' + b"[" * 500_000}, "malformed"),
        (_members() | {MANIFEST: b'{"format":2,"x":' + b"[" * 500_000}, "malformed"),
    ],
)
def test_a_wrong_bundle_is_refused_by_name(members: dict[str, bytes], words: str) -> None:
    with pytest.raises(BundleError, match=words):
        Bundle.parse(_zipped(members))


def test_a_compressed_member_is_refused() -> None:
    with pytest.raises(BundleError, match="compressed"):
        Bundle.parse(_zipped(_members(), zipfile.ZIP_DEFLATED))


def test_golden_pictures_have_answers() -> None:
    with pytest.raises(BundleError, match=r"golden/0\.json is not in it"):
        pack(manifest(), {name: data for name, data in FILES.items() if name != "golden/0.json"})


@pytest.mark.parametrize("name", ["libengine.so", "golden/engine.plan", "weights.data"])
def test_what_no_bundle_holds_is_refused(name: str) -> None:
    with pytest.raises(BundleError, match=rf"{name} is in it, which no bundle holds"):
        pack(manifest(), FILES | {name: b"x"})


@pytest.mark.parametrize("name", ["../up", "/etc/passwd", "a/b/c.png", "a.png/../b.png", ""])
def test_names_that_leave_the_bundle_are_refused(name: str) -> None:
    members = _members()
    lying = msgspec.json.decode(members[MANIFEST])
    lying["files"][name] = hashlib.sha256(b"x").hexdigest()
    members[MANIFEST] = msgspec.json.format(msgspec.json.encode(lying, order="sorted"), indent=1)
    with pytest.raises(BundleError):
        Bundle.parse(_zipped(members | {name: b"x"}))


def test_a_missing_bundle_says_what_makes_one(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="walt-export"):
        Bundle.read(tmp_path / "none.walt")


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(BundleError, match="give another --out"):
        write_bundle(tmp_path / "taken" / "m.walt", manifest(), FILES)
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
