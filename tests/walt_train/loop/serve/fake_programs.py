"""`walt-train` and `walt-export` with the real interface, and a model that is a line of text.

Called as `python fake_programs.py walt-train fit --data ...`. What is in the file that WALT_FAKE names makes it
misbehave: `{"hold": "fit"}` writes `held-NAME` beside the file and waits to be killed, `{"fail": "fit"}` fails.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import shutil
import signal
import sys
import zipfile
from pathlib import Path

_PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVQIHWNoAAAAggCB8KrjIgAAAABJRU5ErkJggg=="


def main(words: list[str]) -> int:
    program, command = words[:2]
    _misbehave(words)
    return {"mine": mine, "compose": compose, "fit": fit, "evaluate": evaluate, "bundle": export}[command](
        program, words[2:]
    )


def _misbehave(words: list[str]) -> None:
    path = os.environ.get("WALT_FAKE", "")
    wishes = json.loads(Path(path).read_text()) if path and Path(path).exists() else {}
    said = " ".join(words)
    if wishes.get("hold") and wishes["hold"] in said:
        Path(path).with_name("held").write_text(str(os.getpid()))
        signal.pause()
    if wishes.get("fail") and wishes["fail"] in said:
        sys.stderr.write(f"walt-fake: {wishes.get('words', 'no luck')}\n")
        raise SystemExit(1)


def mine(program: str, words: list[str]) -> int:
    """The clip art as it is, in one pose."""
    assert program == "walt-train"
    parser = argparse.ArgumentParser()
    parser.add_argument("source", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(words)
    shutil.copytree(args.source, args.out)
    clips = json.loads((args.out / "clipart.json").read_text())["clips"]
    epoch = {"folder": ".", "clips": len(clips), "objects": len(clips), "plates": 1, "static": 0, "until_us": 1}
    record = {"camera": "cam-1", "sources": [], "unusable": {}, "frames": 0, "objects_judged": 0, "poses": []}
    (args.out / "mining.json").write_text(json.dumps(record | {"epochs": [epoch], "rejected_by_reason": {}}))
    return 0


def compose(program: str, words: list[str]) -> int:
    """A sheet of one grey pixel."""
    assert program == "walt-train"
    parser = argparse.ArgumentParser()
    for option in ("--clipart", "--out", "--preview"):
        parser.add_argument(option, type=Path, required=True)
    parser.add_argument("--count", type=int)
    args = parser.parse_args(words)
    assert (args.clipart / "clipart.json").is_file()
    args.out.mkdir(parents=True)
    args.preview.write_bytes(base64.b64decode(_PIXEL))
    return 0


def fit(program: str, words: list[str]) -> int:
    assert program == "walt-train"
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--recipe", required=True)
    for option in ("--gpus", "--steps", "--seed"):
        parser.add_argument(option, type=int)
    args = parser.parse_args(words)
    clips = json.loads((args.data / "clipart.json").read_text())["clips"]
    if (args.out / "resume" / "damaged").exists():
        sys.stderr.write("walt-train: holds another training\n")
        return 1
    (args.out / "resume").mkdir(parents=True, exist_ok=True)
    (args.out / "curves.json").write_text(json.dumps([{"step": n + 1, "loss": 1 / (n + 1)} for n in range(7)]))
    (args.out / "checkpoint.pt").write_text(f"{args.seed} {len(clips)}")
    (args.out / "manifest.json").write_text("{}")
    _learn(args.data / "clipart.json", args.out)
    return 0


def _learn(clipart: Path, out: Path) -> None:
    """The last two clips judge; their pictures are the golden ones."""
    ids = [clip["crop"] for clip in json.loads(clipart.read_text())["clips"]]
    sha256 = hashlib.sha256(clipart.read_bytes()).hexdigest()
    part = {"data_sha256": "2" * 64, "camera": "cam-1", "clipart_sha256": sha256}
    parts = [part | {"role": "train", "crops": ids[:-2]}, part | {"role": "validation", "crops": ids[-2:]}]
    (out / "learned.json").write_text(json.dumps({"data_sha256": "2" * 64, "seed": 0, "parts": parts}))
    for kind, name in (("golden", "many.png"), ("calibration", "0000.jpg")):
        (out / kind).mkdir(exist_ok=True)
        (out / kind / name).write_text("pixels")


def export(program: str, words: list[str]) -> int:
    assert program == "walt-export"
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(words)
    # Imported where needed: most calls do without, and tests make many.
    from tests.bundles import FILES, manifest
    from walt_edge.contract.bundle import write_bundle

    model = args.checkpoint.read_bytes()
    write_bundle(args.out, manifest("fake"), FILES | {"model.onnx": model})
    return 0


def evaluate(program: str, words: list[str]) -> int:
    """`quality.json` in the truth says how good each model is: motion, or the text of the model."""
    assert program == "walt-train"
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--against", type=Path)
    args = parser.parse_args(words)
    name = args.model
    key = name if name == "motion" else _model(Path(name))
    quality = json.loads((args.data / "quality.json").read_text()).get(key, 60.0)
    against = json.loads(args.against.read_text()) if args.against else None
    found: dict[str, object] = {
        "model": "motion" if name == "motion" else "fake",
        "data_sha256": hashlib.sha256((args.data / "annotations.json").read_bytes()).hexdigest(),
        "result": {"at_gamma": {"0.01": {"mask_iou": quality}, "0.5": {"mask_iou": quality}}},
    }
    if against:
        points = quality - against["result"]["at_gamma"]["0.5"]["mask_iou"]
        band = {"low": 0.5, "high": 0.9}
        one = {"band": band, "cases": 40, "objects": 9, "mask_points": points}
        one["mask_interval"] = [points - 1, points + 1]
        found |= {"against": against["model"], "differences": [one]}
    args.out.write_text(json.dumps(found))
    return 0


def _model(bundle: Path) -> str:
    with zipfile.ZipFile(bundle) as archive:
        return archive.read("model.onnx").decode()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
