"""`walt-train mine`: an archive of one camera's recordings and stills into clip art."""

from __future__ import annotations

import argparse
import datetime as dt
import functools
import re
import sys
from collections.abc import Callable
from pathlib import Path

from walt_edge.contract.errors import UsageError
from walt_edge.contract.topics import check_name
from walt_edge.runtimes import Teacher


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    add = parser.add_argument
    add("sources", nargs="+", type=Path, metavar="SOURCE", help="a video, or a folder of frames or of dated stills")
    add("--out", required=True, type=Path, metavar="DIR", help="folder for clipart.json, its images and overview.jpg")
    add("--camera", metavar="NAME", help="the camera's name (default: from the first source's name)")
    add("--detector", type=Path, metavar="FILE", help="an ONNX model with COCO classes as a teacher")
    add("--mmdet", nargs=2, type=Path, metavar=("CONFIG", "CHECKPOINT"), help="an mmdet detector as a teacher")
    add(
        "--stills", action="store_true", help="folders hold stills that lie minutes apart (dated ones are recognised)"
    )
    add("--begin", metavar="TIME", help="when the recording without a date in its name began, ISO 8601, UTC")
    add("--fps", type=float, metavar="F", help="frames a second, where a source does not say or is wrong")
    add("--workers", default="0", metavar="N", help="processes, or ray, ray:N, ray:HOST:PORT (%(default)s: this one)")


def run(args: argparse.Namespace) -> int:
    """Mines and writes; says what was assumed, and prints one line at the end."""
    from walt_train.mining.archive import mine_archive  # what follows costs a second to import
    from walt_train.mining.sources import find_sources

    teacher = _teacher(args.detector, args.mmdet)
    camera = check_name(args.camera, "camera") if args.camera else _name_of(args.sources[0])
    sources = find_sources(args.sources, stills=args.stills, begin_us=_begin(args.begin), fps=args.fps)
    for source in sources:
        began = dt.datetime.fromtimestamp(source.begin_us / 1e6, tz=dt.UTC)
        kind = "stills" if source.stills else "recording"
        sys.stderr.write(f"{source.name}: {kind} from {began:%Y-%m-%d %H:%M:%S} UTC ({source.assumed})\n")
    record = mine_archive(
        sources, args.out, camera=camera, teacher=teacher, workers=args.workers, quiet=not sys.stderr.isatty()
    )
    clips, objects = sum(e.clips for e in record.epochs), sum(e.objects for e in record.epochs)
    sys.stdout.write(
        f"{clips} clips of {objects} objects, {sum(e.plates for e in record.epochs)} plates, "
        f"{sum(e.static for e in record.epochs)} static things, {_epochs(len(record.epochs))}, "
        f"from {record.frames} frames: {args.out / 'clipart.json'}\n"
    )
    return 0


def _epochs(count: int) -> str:
    return "one epoch" if count == 1 else f"{count} epochs (epoch-1 ... beside it)"


def _teacher(detector: Path | None, mmdet: list[Path] | None) -> Callable[[], Teacher] | None:
    """What makes the teacher; checked now, made where the work is done."""
    if detector and mmdet:
        raise UsageError("--detector and --mmdet are two teachers: give one")
    for path in [detector] if detector else mmdet or []:
        if not path.is_file():
            raise UsageError(f"{path} does not exist: give the file of a detector")
    if detector:
        return functools.partial(_onnx, detector)
    return functools.partial(_mmdet, *mmdet) if mmdet else None


def _onnx(path: Path) -> Teacher:
    from walt_edge.runtimes.onnx_detector import OnnxDetector  # only where asked for: an extra

    return OnnxDetector(path)


def _mmdet(config: Path, checkpoint: Path) -> Teacher:
    from walt_train.model.mm_adapter.teacher import load_mmdet_teacher

    return load_mmdet_teacher(config, checkpoint, "cpu")


def _begin(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"begin '{text}' is not an ISO 8601 time, such as 2026-06-01T09:30:00Z") from error
    moment = moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
    return max(0, round(moment.timestamp() * 1e6))


def _name_of(path: Path) -> str:
    path = path.resolve()
    parent = path.parent.name if path.name.lower() in ("frames", "images") else ""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", parent or path.stem).strip("-_")[:64] or "camera"
