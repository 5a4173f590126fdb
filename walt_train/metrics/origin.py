"""Where truth comes from, and who may be judged on it.

Truth from a detector says nothing about that detector, and data says nothing about a model that was trained on it:
both would be a model agreeing with itself, which is how self-training goes wrong unseen. A rendered holdout is named
by the hash of its content and can be asked for by that name.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from walt_edge.contract.clipart import FILE_NAME
from walt_edge.contract.errors import UsageError, WaltError
from walt_train.data import data_sets_in
from walt_train.data.ahead import clipart_name
from walt_train.data.coco import ANNOTATIONS
from walt_train.data.manifest import MANIFEST, read_manifest, refuse_leakage

HOLDOUT_DIGITS_MIN = 12
Known = Literal["given", "learned", "none", ""]


class OriginError(WaltError):
    """A model may not be judged on this data."""


class SwaltOrigin(msgspec.Struct, frozen=True, kw_only=True):
    """What `walt-train swalt` notes about its truth, under `swalt` in the file's `info`.

    Attributes:
        detector: Name of the frozen detector.
        detector_sha256: Of its bundle or weights; "" where nobody knows.
        timeline_sha256: Of the predictions that the truth was fused from.
        objects: How many standing objects.
        whole_frames_min: Over how many frames each was fused at least.
        static: How poles and trees were known, which cut objects in every frame: `given` as a picture, `learned` from
            who passed behind them, `none` where nothing was learned; "" in older files.
    """

    detector: str
    detector_sha256: str
    timeline_sha256: str
    objects: int
    whole_frames_min: int
    static: Known = ""


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a data set's `info` that says where its truth comes from.

    Attributes:
        content_sha256: Of decoded pixels and labels; "" in files of other makers.
        data_sha256: Of what it was composed from; "" unless it was composed.
        swalt: Set where a detector made the truth.
    """

    content_sha256: str = ""
    data_sha256: str = ""
    swalt: SwaltOrigin | None = None

    @property
    def complete(self) -> bool:
        """Whether all objects of a frame are in the truth, so that what finds none of them is wrong."""
        return self.swalt is None


class Contestant(NamedTuple):
    """Who is to be judged: name, sha256 of the bundle, and of all its training data as its lineage has them.

    A sha256 that is not known is "".
    """

    model: str
    sha256: str = ""
    trained: Collection[str] = ()


class _File(msgspec.Struct, frozen=True):
    info: Origin = Origin()


def read_origin(folder: Path) -> Origin:
    """Reads `info` of a folder's annotations; raises OriginError where it is malformed."""
    path = folder / ANNOTATIONS
    try:
        return msgspec.json.decode(path.read_bytes(), type=_File).info
    except OSError as error:
        raise OriginError(f"cannot read {path}: {error.strerror}; give a folder of annotations") from error
    except msgspec.DecodeError as error:
        raise OriginError(f"{path} does not say where it comes from ({error}): write the data set again") from error


def refuse_unfair(
    contestant: Contestant, data: Path, *, names: Collection[str] = (), training: Sequence[Path] = ()
) -> Origin:
    """Refuses to judge a model on what it was trained on, or on truth that it made itself.

    Args:
        contestant: Who is to be judged.
        data: The folder of annotations.
        names: Further sha256 under which the data may stand in a lineage.
        training: Folders of which it is known that the model was trained on them.

    Returns:
        Where the data's truth comes from.

    Raises:
        OriginError: It would be judged by its own truth, or by its training data.
        DataError: The data shows a physical object that a training folder shows too.
    """
    origin = read_origin(data)
    must_not_judge_itself(origin, contestant.model, contestant.sha256)
    known = {*names, origin.content_sha256, origin.data_sha256} - {""}
    must_not_have_trained(known, contestant.trained, contestant.model, data)
    for folder in training:
        for one in data_sets_in(folder) or [folder]:
            _must_share_nothing(one, data, contestant.model)
    return origin


def _must_share_nothing(training: Path, judging: Path, model: str) -> None:
    """Raises OriginError or DataError where a folder that trained has something in common with one that judges."""
    if (training / FILE_NAME).is_file():
        composed = (judging / MANIFEST).is_file() and read_manifest(judging)
        if composed and composed.source == clipart_name(training) and composed.split != "validation":
            raise OriginError(
                f"{judging} is composed of the clip art {training} that {model} was trained on: "
                "compose it with --split validation"
            )
    elif (training / MANIFEST).is_file() and (judging / MANIFEST).is_file():
        refuse_leakage(training, judging)
    elif (name := read_origin(training).content_sha256) and name == read_origin(judging).content_sha256:
        must_not_have_trained({name}, [name], model, judging)


def must_be_holdout(origin: Origin, wanted_sha256: str, folder: Path) -> None:
    """Refuses data that is not the holdout asked for.

    Args:
        origin: Of the data.
        wanted_sha256: `content_sha256` of the holdout, or at least its first 12 digits.
        folder: For the message.

    Raises:
        UsageError: The name is too short to name anything.
        OriginError: It is other data.
    """
    if len(wanted_sha256) < HOLDOUT_DIGITS_MIN:
        raise UsageError(
            f"--holdout {wanted_sha256}: give at least {HOLDOUT_DIGITS_MIN} digits of its content_sha256"
        )
    if not origin.content_sha256.startswith(wanted_sha256.lower()):
        raise OriginError(
            f"{folder} is not the holdout {wanted_sha256[:12]} but {origin.content_sha256[:12] or 'nameless'}: "
            "evaluate on the holdout itself"
        )


def must_not_judge_itself(origin: Origin, model: str, model_sha256: str) -> None:
    """Raises OriginError if this model made the truth; where its hash is unknown, the name decides."""
    made = origin.swalt
    if made is None:
        return
    known = made.detector_sha256 and model_sha256
    if (known and made.detector_sha256 == model_sha256) or (not known and made.detector == model):
        raise OriginError(
            f"{model} made this truth: SWALT's comes from a detector outside the contest, judge another"
        )


def must_not_have_trained(names: Collection[str], trained: Collection[str], model: str, folder: Path) -> None:
    """Refuses data that a model was trained on, as far as its lineage tells.

    Args:
        names: All sha256 under which the data may stand in a lineage.
        trained: What the model's lineage says.
        model: Its name.
        folder: For the message.

    Raises:
        OriginError: It was trained on this data.
    """
    if set(trained) & set(names):
        raise OriginError(f"{model} was trained on {folder}: judge it on data that it has not seen")
