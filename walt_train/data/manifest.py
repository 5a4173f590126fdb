"""`data.json` beside written samples: which physical objects are in them, so that leakage can be told later.

A network that was judged on objects it was trained on is judged on its memory. Two folders made of the same clip art
with the same numbering can be compared by their manifests alone.
"""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from walt_edge.contract.files import write_whole
from walt_train.data.pictures import DataError, read_file
from walt_train.data.sample import AmodalSample, Samples, SamplesAround, Split

MANIFEST = "data.json"


class CameraCounts(msgspec.Struct, kw_only=True):
    """One camera's part.

    Attributes:
        pictures: How many.
        instances: Of each class, how many are shown, each in each picture.
        objects: Of each class, how often each physical object is shown, by its number.
    """

    pictures: int = 0
    instances: dict[str, int] = {}
    objects: dict[str, dict[int, int]] = {}


class Manifest(msgspec.Struct, kw_only=True):
    """What a folder of samples holds.

    Attributes:
        source: The sha256 of what numbered the objects: only folders of one source have common numbers.
        split: Which part of it.
        cameras: By camera.
    """

    source: str
    split: Split
    cameras: dict[str, CameraCounts] = {}

    def add(self, sample: AmodalSample) -> None:
        """Counts a sample."""
        camera = self.cameras.setdefault(sample.camera, CameraCounts())
        camera.pictures += 1
        for thing in sample.objects:
            label = thing.label.title
            camera.instances[label] = camera.instances.get(label, 0) + 1
            shown = camera.objects.setdefault(label, {})
            shown[thing.track_id] = shown.get(thing.track_id, 0) + 1

    def write(self, folder: Path) -> Path:
        """Writes `data.json` whole or not at all; raises OSError."""
        text = json.dumps(msgspec.to_builtins(self), sort_keys=True, indent=1)
        return write_whole(folder / MANIFEST, text.encode())


def read_manifest(folder: Path) -> Manifest:
    """Reads `data.json`.

    Raises:
        DataError: It is missing or malformed.
    """
    path = folder / MANIFEST
    try:
        return msgspec.json.decode(read_file(path, "compose the folder again"), type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is no manifest: {error}") from error


def refuse_leakage(training: Path, judging: Path) -> None:
    """Compares the manifests of two folders of composites.

    Raises:
        DataError: They show a physical object in common, or cannot be compared.
    """
    train, judge = read_manifest(training), read_manifest(judging)
    if train.source != judge.source:
        raise DataError(f"{training} and {judging} are of different clip art: their objects cannot be told apart")
    common = total = 0
    for camera, counts in judge.cameras.items():
        known = train.cameras.get(camera, CameraCounts()).objects
        for label, objects in counts.objects.items():
            total += len(objects)
            common += len(objects.keys() & known.get(label, {}).keys())
    if common:
        raise DataError(
            f"{common} of the {total} objects ({100 * common // total}%) in {judging} are in {training} too: "
            "compose one with --split train, the other with --split validation"
        )


class Counted(SamplesAround):
    """Samples that are counted as they are read.

    Args:
        samples: Any data set.
        manifest: Gets the counts.
    """

    def __init__(self, samples: Samples, manifest: Manifest) -> None:
        super().__init__(samples)
        self._manifest = manifest

    def sample(self, epoch: int, index: int) -> AmodalSample:
        """Sample `index` of `epoch`, counted."""
        sample = super().sample(epoch, index)
        self._manifest.add(sample)
        return sample
