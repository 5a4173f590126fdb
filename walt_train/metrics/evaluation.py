"""An evaluation as a file, and as a table for people."""

from __future__ import annotations

from pathlib import Path

import msgspec

from walt_edge.contract.files import write_whole
from walt_train.metrics.amodal_iou import ALL, BINS, GAMMAS, AmodalIou, Difference, MetricsError, Row, compare
from walt_train.metrics.average_precision import PrecisionRow
from walt_train.metrics.bootstrap import Interval
from walt_train.metrics.by_class import ClassRows, class_differences
from walt_train.metrics.calibration import Calibration

FORMAT = 2
_READABLE = (1, 2)
_NAMES = (
    "all",
    *(f"γ = {gamma:g}" for gamma in GAMMAS),
    *(f"[{band.low:g}, {band.high:g}" + ("]" if band == BINS[-1] else ")") for band in BINS),
)


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """One model on one data set.

    Attributes:
        model: Its name.
        model_sha256: Of its bundle; empty for `motion`, which has none.
        data: The data set's folder, for people.
        data_sha256: Names its content.
        every: Every how many frames one was evaluated.
        threshold: Least score of a prediction that counts.
        result: The figures and every case.
        against: Name of the model that `differences` are from, or empty.
        differences: This model minus that one, on the same cases.
        by_class: The figures of each class, of objects that are large enough to be asked for; empty in format 1.
        class_differences: As `differences`, for each of these classes, keyed by its title.
        average_precision: For all and for each class: in all, and by bin of occlusion; empty in format 1, and where
            the truth does not hold all objects.
        calibration: How far the scores of the predictions that count can be believed; None as above.
    """

    model: str
    model_sha256: str
    data: str
    data_sha256: str
    every: int
    threshold: float
    result: AmodalIou
    against: str = ""
    differences: tuple[Difference, ...] = ()
    by_class: tuple[ClassRows, ...] = ()
    class_differences: dict[str, tuple[Difference, ...]] = {}
    average_precision: tuple[PrecisionRow, ...] = ()
    calibration: Calibration | None = None
    format: int = FORMAT

    def must_match(self, *, data_sha256: str, every: int) -> None:
        """Raises MetricsError if it tells nothing about the same frames: known before any work is done."""
        if data_sha256 != self.data_sha256:
            raise MetricsError(
                f"{self.model} was evaluated on other data: {self.data} ({self.data_sha256[:12]}, "
                f"not {data_sha256[:12]}); evaluate both on the same folder"
            )
        if every != self.every:
            raise MetricsError(f"{self.model} was evaluated with --every {self.every}, not {every}: use the same")

    def minus(self, other: Evaluation) -> Evaluation:
        """The same with the differences from another one; raises MetricsError where the cases are not the same."""
        other.must_match(data_sha256=self.data_sha256, every=self.every)
        mine, theirs = self.result.cases, other.result.cases
        return msgspec.structs.replace(
            self,
            against=other.model,
            differences=compare(mine, theirs),
            class_differences=class_differences(mine, theirs),
        )


def read_evaluation(path: Path) -> Evaluation:
    """Reads what `write_evaluation` wrote; raises MetricsError where it is missing or something else."""
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Evaluation)
    except OSError as error:
        raise MetricsError(f"cannot read {path}: {error.strerror}; make it with walt-train evaluate --out") from error
    except msgspec.DecodeError as error:
        raise MetricsError(f"{path} is no evaluation ({error}): make it with walt-train evaluate --out") from error
    if found.format not in _READABLE:
        known = " and ".join(map(str, _READABLE))
        raise MetricsError(f"{path} has format {found.format}, this version reads {known}: evaluate again")
    return found


def write_evaluation(evaluation: Evaluation, path: Path) -> None:
    """Writes JSON under another name first, so that it is there whole or not at all; raises MetricsError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, msgspec.json.encode(evaluation) + b"\n")
    except OSError as error:
        raise MetricsError(f"cannot write {path}: {error.strerror}; free space or choose another --out") from error


def table(evaluation: Evaluation) -> str:
    """The figures as text: a line for each band of occlusion, IoU x 100 with its 95 % interval."""
    result = evaluation.result
    lines = [
        f"{evaluation.model}: {result.frames} frames of {evaluation.data}, "
        f"{result.predictions} predictions at score >= {evaluation.threshold:.3g}, {result.false_boxes} false",
        f"{'occlusion':<11}{'cases':>7}{'objects':>9}{'recall':>8}{'precision':>11}"
        f"  {'box IoU':<21}  {'mask IoU':<21}  hits: box, mask",
    ]
    rows = (result.total, *result.at_gamma.values(), *result.by_occlusion)
    lines += [_line(name, row) for name, row in zip(_NAMES, rows, strict=True)]
    for each in evaluation.by_class:
        lines += ["", f"{each.label}, {each.asked}"]
        lines += [_line(*pair) for pair in zip(_NAMES, (each.total, *each.at_gamma.values()), strict=False)]
    lines += _precision_lines(evaluation.average_precision) + _calibration_lines(evaluation.calibration)
    if evaluation.differences:
        lines += ["", f"{evaluation.model} - {evaluation.against}, points"]
        lines += [f"{'occlusion':<11}{'cases':>7}{'objects':>9}  {'box IoU':<23}  mask IoU"]
        lines += [_difference_line(*pair) for pair in zip(_NAMES, evaluation.differences, strict=True)]
    for label, found in evaluation.class_differences.items():
        lines += ["", f"{evaluation.model} - {evaluation.against}, {label}, points"]
        lines += [_difference_line(*pair) for pair in zip(_NAMES[: 1 + len(GAMMAS)], found, strict=False)]
    return "\n".join(lines) + "\n"


def _line(name: str, row: Row) -> str:
    hits = f"{_number(row.matched_box_iou)}, {_number(row.matched_mask_iou)}"
    return (
        f"{name:<11}{row.cases:>7}{row.objects:>9}{_share(row.recall):>8}{_share(row.precision):>11}"
        f"  {_sure(row.box_iou, row.box_interval):<21}  {_sure(row.mask_iou, row.mask_interval):<21}  {hits}"
    )


def _precision_lines(rows: tuple[PrecisionRow, ...]) -> list[str]:
    """A line for each class and band."""
    if not rows:
        return []
    lines = [
        "",
        f"{'AP':<9}{'occlusion':<11}{'truths':>7}{'hits':>7}{'box AP':>8}{'AP50':>7}{'mask AP':>9}{'AP50':>7}",
    ]
    names = dict(zip((ALL, *BINS), (_NAMES[0], *_NAMES[1 + len(GAMMAS) :]), strict=True))
    return lines + [
        f"{row.label:<9}{names[row.band]:<11}{row.truths:>7}{row.box_hits:>7}"
        f"{_number(row.box_ap):>8}{_number(row.box_ap50):>7}{_number(row.mask_ap):>9}{_number(row.mask_ap50):>7}"
        for row in rows
    ]


def _calibration_lines(found: Calibration | None) -> list[str]:
    if found is None or found.ece is None or found.brier is None:
        return []
    return ["", f"scores: calibration error {found.ece:.3f}, Brier {found.brier:.3f} over {found.count} predictions"]


def _difference_line(name: str, found: Difference) -> str:
    box = _sure(found.box_points, found.box_interval, sign="+")
    mask = _sure(found.mask_points, found.mask_interval, sign="+")
    return f"{name:<11}{found.cases:>7}{found.objects:>9}  {box:<23}  {mask}"


def _number(value: float | None, sign: str = "") -> str:
    return "-" if value is None else f"{value:{sign}.1f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _sure(mean: float | None, interval: Interval | None, sign: str = "") -> str:
    if interval is None:
        return _number(mean, sign)
    return f"{_number(mean, sign)} [{_number(interval[0], sign)}, {_number(interval[1], sign)}]"
