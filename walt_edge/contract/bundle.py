"""A bundle: one file with a model and all that an agent needs to trust it with its camera.

A ZIP archive, stored without compression, names sorted, times zero: the same content gives the same bytes. It is not
signed; the update repository's metadata, which is, names its sha256. `manifest.json` names every other file's sha256,
so that one changed byte is found before anything is opened.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from walt_edge.contract.errors import WaltError
from walt_edge.contract.files import write_whole
from walt_edge.contract.labels import Label

FORMAT: Final = 2
SUFFIX = ".walt"
MANIFEST = "manifest.json"
MODEL = "model.onnx"
LICENCE = "licence.txt"
TENSORRT_MODEL = "tensorrt/model.onnx"
"""The graph as TensorRT's parser takes it, and how an engine is built of it: both or neither."""
TENSORRT_RECIPE = "tensorrt/build.json"
MAX_BUNDLE_BYTES = 1 << 30
MAX_MANIFEST_BYTES = 1 << 20
_EPOCH = (1980, 1, 1, 0, 0, 0)

Sha256 = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
Unit = Annotated[float, Meta(ge=0.0, le=1.0)]
FileName = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)?\.[a-z0-9]+\Z", max_length=100)]
Positive = Annotated[float, Meta(gt=0.0)]
Side = Annotated[int, Meta(ge=32, le=4096)]
Precision = Literal["float32", "float16", "int8"]
"""How weights are stored; int8 is also how most of the network computes."""


class BundleError(WaltError):
    """A bundle is missing, damaged, not one, or of another version."""


class Lineage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What the model came from.

    Attributes:
        checkpoint_sha256: Of the exported weights.
        data_sha256: Of the data set's manifest.
        recipe: Name of the training recipe.
        seed: Of the training.
        steps: Optimiser steps.
        started: `data_sha256` of the trainings whose weights it began with, the last first.
    """

    checkpoint_sha256: Sha256
    data_sha256: Sha256
    recipe: str
    seed: int
    steps: int
    started: list[Sha256] = []

    @property
    def trained(self) -> tuple[str, ...]:
        """`data_sha256` of all that the weights have been trained on, the last first."""
        return (self.data_sha256, *self.started)


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a model may need on a device that is to take it; None leaves it to the device.

    Attributes:
        latency_ms: The longest that a picture may take, at the 99th percentile.
        memory_mb: The most that it may add to a process.
    """

    latency_ms: Positive | None = None
    memory_mb: Positive | None = None


class BundleManifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is in a bundle.

    Attributes:
        name: How the model is written into headers and logs, at most 40 characters.
        size_wh: The network's input, pixels; frames are letterboxed into its top left corner.
        labels: The classes that it was trained on.
        score_threshold: Fixed on validation data; instances below it are not given.
        candidates: The most instances that the graph gives for a frame.
        pictures: The most pictures that it looks at together; 0 for any number.
        outputs: Names of what it gives, the four that an agent reads first.
        precision: How weights are stored.
        opset: ONNX operator set.
        operators: Functions of domain `walt` that the graph calls, and brings along.
        parameters: Weights.
        gflops: Of one frame with all candidates, multiply and add counted as two.
        parity: Largest differences from torch, by what was compared.
        lineage: Where it came from.
        golden: Names of the golden pictures; `golden/0.png` has its answer in `golden/0.json`, a predictions file:
            what is left when doubles are suppressed strictly, with the graph's own scores.
        files: sha256 of every file but the manifest.
        walt_version: What wrote it.
        versions: Of the packages that it was made with, by name.
        limits: What it may need; not written where nothing was promised, so that older agents read it.
    """

    name: Annotated[str, Meta(min_length=1, max_length=40, pattern=r"\A[A-Za-z0-9_.-]+\Z")]
    size_wh: tuple[Side, Side]
    labels: list[Label]
    score_threshold: Unit
    candidates: Annotated[int, Meta(ge=1, le=1000)]
    pictures: Annotated[int, Meta(ge=0)]
    outputs: list[str]
    precision: Precision
    opset: int
    operators: list[str]
    parameters: int
    gflops: float
    parity: dict[str, float]
    lineage: Lineage
    golden: list[FileName]
    files: dict[FileName, Sha256]
    walt_version: str
    versions: dict[str, str]
    limits: Limits | msgspec.UnsetType = msgspec.UNSET
    format: int = FORMAT

    @property
    def suppresses_strictly(self) -> bool:
        """Whether its graph lets nobody pass who might be a double (`AmodalNMS_v1`), as its threshold expects."""
        return any(name.startswith("AmodalNMS_v1_") for name in self.operators)

    @property
    def promised(self) -> Limits:
        """Its limits; none of them where nothing was promised."""
        return Limits() if self.limits is msgspec.UNSET else self.limits


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """A bundle that was read whole and whose every byte was checked against its manifest.

    Attributes:
        manifest: What it says of itself.
        files: Its other files' bytes by name.
        sha256: Of the whole bundle.
    """

    manifest: BundleManifest
    files: Mapping[str, bytes]
    sha256: str

    @classmethod
    def read(cls, path: Path) -> Bundle:
        """Reads and checks a bundle.

        Raises:
            BundleError: Missing, damaged, too large, not a bundle, or of another format.
        """
        try:
            size = path.stat().st_size
            if size > MAX_BUNDLE_BYTES:
                raise BundleError(f"{path} has {size} bytes, a bundle at most {MAX_BUNDLE_BYTES}")
            data = path.read_bytes()
        except OSError as error:
            raise BundleError(f"cannot read {path}: {error.strerror}; make a bundle with walt-export") from error
        try:
            return cls.parse(data)
        except BundleError as error:
            raise BundleError(f"{path}: {error}") from error

    @classmethod
    def parse(cls, data: bytes) -> Bundle:
        """Checks the bytes of a bundle; raises BundleError."""
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                files = {info.filename: _member(archive, info) for info in archive.infolist()}
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, OSError, EOFError) as error:
            raise BundleError(f"not a bundle, or a damaged one ({error}): export or fetch it again") from error
        # Names, times and flags of a ZIP are under no checksum: only the one way in which we write it is a bundle.
        if _archive(files) != data:
            raise BundleError("not a bundle as walt-export writes it, or a damaged one: export or fetch it again")
        manifest = _read_manifest(files.pop(MANIFEST, b""))
        hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        if hashes != manifest.files:
            wrong = sorted(name for name, _ in hashes.items() ^ manifest.files.items())
            raise BundleError(f"damaged: {wrong[0]} is not what the manifest says; export or fetch it again")
        members = {MODEL, LICENCE, *manifest.golden, *(answer_name(name) for name in manifest.golden)}
        if {TENSORRT_MODEL, TENSORRT_RECIPE} & set(files):
            members |= {TENSORRT_MODEL, TENSORRT_RECIPE}
        for name in sorted(members - set(files)):
            raise BundleError(f"incomplete: {name} is not in it; export it again")
        for name in sorted(set(files) - members):
            raise BundleError(f"{name} is in it, which no bundle holds: engines and libraries are made on the device")
        return cls(manifest, files, hashlib.sha256(data).hexdigest())


def answer_name(golden: str) -> str:
    """Name of the file that holds a golden picture's answer."""
    return golden.rpartition(".")[0] + ".json"


def pack(manifest: BundleManifest, files: Mapping[str, bytes]) -> bytes:
    """The bytes of a bundle; the manifest's `files` are filled in here.

    Raises:
        BundleError: It would not be readable again.
    """
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())}
    manifest = msgspec.structs.replace(manifest, files=hashes)
    data = _archive({MANIFEST: msgspec.json.format(msgspec.json.encode(manifest, order="sorted"), indent=1), **files})
    Bundle.parse(data)
    return data


def write_bundle(path: Path, manifest: BundleManifest, files: Mapping[str, bytes]) -> str:
    """Writes a bundle whole or not at all; returns its sha256.

    Raises:
        BundleError: It cannot be written.
    """
    data = pack(manifest, files)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, data)
    except OSError as error:
        raise BundleError(f"cannot write {path}: {error.strerror}; free space or give another --out") from error
    return hashlib.sha256(data).hexdigest()


def _archive(members: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(members):
            archive.writestr(zipfile.ZipInfo(name, date_time=_EPOCH), members[name])
    return out.getvalue()


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    # Stored only: what it takes in memory is what it takes on the wire.
    if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
        raise BundleError(f"{info.filename!r} is compressed, which a bundle never is: export or fetch it again")
    return archive.read(info)


def _read_manifest(data: bytes) -> BundleManifest:
    if not data or len(data) > MAX_MANIFEST_BYTES:
        raise BundleError(f"no {MANIFEST} of a sensible size in it: not a bundle")
    try:
        found = msgspec.json.decode(data, type=dict[str, msgspec.Raw]).get("format", msgspec.Raw(b"none"))
        if bytes(found) != str(FORMAT).encode():
            raise BundleError(
                f"format {bytes(found)[:20].decode(errors='replace')}, expected {FORMAT}: update walt-amodal"
            )
        return msgspec.json.decode(data, type=BundleManifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"its manifest is malformed: {error}") from error
